"""Tool confirmations of ADK, parked: a person is asked by `ctx.approval` about the exact call, then it goes
on.

Rules of this file:
1. Each request is one approval, in a branch named by the call's id. What is asked about is the agent, the
   tool, its arguments, and ADK's hint and payload.
2. An approver's own version counts: edited arguments are those the tool gets, an edited payload is the one of
   the confirmation.
3. With `approvals="return"` all of this is ADK's: the run ends with its own request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_confirmation import ToolConfirmation

from agentdur.integrations.google_adk.codec import dump_result
from agentdur.integrations.google_adk.scope import Scope, current_scope
from agentdur.integrations.runs import Escape, is_cancellation
from agentdur.sdk.approval import Approval
from agentdur.sdk.exceptions import TerminalError

Gate = Callable[..., Awaitable[dict[str, str] | None]]


def durable_gate(original: Gate) -> Gate:
    """ADK's gate before a tool that requires confirmation, with a person at it."""

    async def gate(tool: BaseTool, function_args: dict[str, Any], tool_context: Any) -> dict[str, str] | None:
        answer = await original(tool, function_args, tool_context)
        scope = current_scope()
        if answer is None or scope is None or tool_context.tool_confirmation is not None:
            return answer
        decision = await confirmed(scope, tool, function_args, tool_context)
        if decision is None:
            return answer
        answer = await original(tool, function_args, tool_context)
        why = "nobody approved it in time" if decision.timed_out else decision.reason
        return {"error": f"This tool call is rejected: {why}"} if answer is not None and why else answer

    return gate


async def confirmed(scope: Scope, tool: BaseTool, args: dict[str, Any], context: Any) -> Approval | None:
    """When the call has asked for a confirmation: get one, and write it where ADK looks for it. None when
    nothing was asked for, or it is not ours to answer."""
    wanted = context.actions.requested_tool_confirmations.get(context.function_call_id)
    if wanted is None or scope.how.approvals != "park":
        return None
    del context.actions.requested_tool_confirmations[context.function_call_id]
    context.actions.skip_summarization = None
    shown = {
        "agent": context.agent_name,
        "tool": tool.name,
        "call_id": context.function_call_id,
        "arguments": _plain(args),
    }
    if wanted.payload is not None:
        shown |= {"hint": wanted.hint, "payload": wanted.payload}
    question = f"{context.agent_name}: run {tool.name}?"
    asked = scope.context.approval(question, shown, scope.how.approval_timeout)
    try:
        answer: Approval = await scope.within(f"approval:{context.function_call_id}", asked)
    except TerminalError as error:
        raise Escape(error) if is_cancellation(error) else error from None
    if answer.at is not None:
        scope.saw(answer.at.timestamp())
    decided = answer.payload if answer.edited and isinstance(answer.payload, dict) else shown
    if answer.approved and isinstance(decided.get("arguments"), dict) and answer.edited:
        args.clear()
        args.update(decided["arguments"])
    context.tool_confirmation = ToolConfirmation(
        hint=wanted.hint, confirmed=answer.approved, payload=decided.get("payload")
    )
    return answer


def _plain(args: dict[str, Any]) -> Any:
    return {name: dump_result(value).get("json") for name, value in args.items()}
