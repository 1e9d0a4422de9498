"""People and other systems that an agent's run waits for: approvals, deferred calls, events from outside.

Rules of this file:
1. A wait is a place in the journal, not a task in memory: the handler leaves memory and comes back.
2. What is decided is decided about the exact arguments; other arguments than the model's run only when a
   person has written them.
3. When the agent's output may be `DeferredToolRequests`, its run ends there instead, as the framework has it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pydantic_ai import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.messages import ToolCallPart, ToolReturn

from agentdur.integrations.pydantic_ai_run import current_run
from agentdur.sdk.approval import ask
from agentdur.sdk.branch import spawn
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.step import current_context


def ends_run(output_type: Any) -> bool:
    """True when the agent's own output types name DeferredToolRequests."""
    if output_type is DeferredToolRequests:
        return True
    if isinstance(output_type, list | tuple):
        return any(ends_run(one) for one in output_type)
    return any(ends_run(one) for one in getattr(output_type, "__args__", ()))


async def decided(requests: DeferredToolRequests, timeout: timedelta | None) -> DeferredToolResults:
    """Ask for all of them at once, and wait until all are answered."""
    run = current_run.get()
    under = None if run is None else run.anchor
    calls = [(call, True) for call in requests.approvals] + [(call, False) for call in requests.calls]
    tasks = [
        spawn(
            f"wait:{call.tool_call_id}",
            _approved(call, requests, timeout) if approval else _answered(call, requests, timeout),
            under,
        )
        for call, approval in calls
    ]
    answers = await asyncio.gather(*tasks)
    results = DeferredToolResults()
    for (call, approval), answer in zip(calls, answers, strict=True):
        (results.approvals if approval else results.calls)[call.tool_call_id] = answer
    return results


def asked(call: ToolCallPart, requests: DeferredToolRequests) -> dict[str, Any]:
    """What is decided upon: the arguments, and what the tool says about the call when it says something."""
    arguments = call.args_as_dict()
    about = requests.metadata.get(call.tool_call_id)
    return {"arguments": arguments, "metadata": about} if about else arguments


async def _approved(
    call: ToolCallPart, requests: DeferredToolRequests, timeout: timedelta | None
) -> ToolApproved | ToolDenied:
    question = f"May the agent call {call.tool_name}?"
    answer = await ask(
        current_context(), question, asked(call, requests), timeout=timeout, tool=call.tool_name
    )
    if not answer:
        return ToolDenied(answer.reason or "The tool call was denied.")
    if not answer.edited:
        return ToolApproved()
    edited = answer.payload
    if call.tool_call_id in requests.metadata and isinstance(edited, dict):
        edited = edited.get("arguments", edited)
    return ToolApproved(override_args=edited)


async def _answered(call: ToolCallPart, requests: DeferredToolRequests, timeout: timedelta | None) -> Any:
    """The result of a call that is made elsewhere: who completes the awakeable gives it."""
    context = current_context()
    name, answer = context.awakeable(type_hint=object)
    about = {"tool": call.tool_name, "tool_call_id": call.tool_call_id, "payload": asked(call, requests)}
    await context.note_value("deferred call", {**about, "awakeable": name})
    try:
        if timeout is None:
            return ToolReturn(await answer)
        match await context.select(answer=answer, late=context.sleep(timeout, name="deferred call")):
            case ["answer", given]:
                return ToolReturn(given)
            case _:
                return ToolDenied("no answer in time")
    except TerminalError as error:
        if error.status_code == 409:
            raise  # the invocation is cancelled
        return ToolDenied(error.message)
