"""Interrupts of LangGraph, answered by people: each is an approval, and waiting for it costs nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from langgraph.types import Command

from agentdur.integrations.langchain.steps import handler_context
from agentdur.sdk.approval import Approval
from agentdur.sdk.context import Context


async def answer_interrupts(
    graph: Any, given: Any, config: dict[str, Any], *, timeout: timedelta | None = None, **more: Any
) -> Any:
    """Run a graph (with a checkpointer; InMemorySaver will do, a replay fills it again) until it ends;
    whatever interrupts it is asked of a person by `ctx.approval`.

    Requests of HumanInTheLoopMiddleware are asked one by one: approve, edit (the payload is the new
    `{"name", "args"}`), or reject with a reason. Any other interrupt is resumed with
    `{"approved": …, "reason": …, "payload": …}`. No answer within `timeout` is a rejection.
    """
    context = handler_context(False, "answer_interrupts")
    assert context is not None
    result = await graph.ainvoke(given, config, **more)
    while interrupts := result.get("__interrupt__"):
        answers = {one.id: await _answer(context, one.value, timeout) for one in interrupts}
        result = await graph.ainvoke(Command(resume=answers), config, **more)
    return result


async def _answer(context: Context, asked: Any, timeout: timedelta | None) -> Any:
    if isinstance(asked, dict) and "action_requests" in asked:
        return {"decisions": [await _decide(context, one, timeout) for one in asked["action_requests"]]}
    said = await context.approval("an interrupt", payload=asked, timeout=timeout)
    payload = said.payload if said.edited else None
    return {"approved": said.approved, "reason": said.reason, "payload": payload}


async def _decide(context: Context, action: dict[str, Any], timeout: timedelta | None) -> dict[str, Any]:
    asked = {"name": action["name"], "args": action.get("args", action.get("arguments", {}))}
    question = action.get("description") or f"Run the tool {action['name']}?"
    said: Approval = await context.approval(question, payload=asked, timeout=timeout)
    if not said:
        return {"type": "reject", "message": said.reason or "not approved"}
    if said.edited:
        return {"type": "edit", "edited_action": said.payload}
    return {"type": "approve"}
