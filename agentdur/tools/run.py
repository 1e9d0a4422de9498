"""Running the tools a model asked for: all at once, each a step of its own, answered in the model's order.

Rules of this file:
1. Each call has a branch named by its tool-call id, which is in the journal with the model's answer: calls
   may overtake each other, before a crash and after it.
2. What the model did wrong (no such tool, arguments that do not fit) is told to the model, and so is what a
   person did not approve.
3. What a tool does wrong is retried as its options say, and then told to the model, a result without a JSON
   form at once. Only a TerminalError ends
   the invocation, and a cancellation: nobody waits for the model's next idea then.
4. All calls have ended before anything of them is raised: a replay does not depend on which was first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from agentdur.core.errors import BadDefinition
from agentdur.llm.answer import ToolCall
from agentdur.sdk.branch import current_branch, spawn
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.step import current_context
from agentdur.tools.answer import ToolAnswer, Try, tell
from agentdur.tools.approve import NotPermitted, permitted
from agentdur.tools.ephemeral import run_unjournaled, understood
from agentdur.tools.key import set_key
from agentdur.tools.text import Misfit, ToolError
from agentdur.tools.tool import Tool


async def run_tools(
    ctx: Context | None,
    calls: Sequence[ToolCall],
    tools: Sequence[Tool],
    *,
    stream: bool = False,
    allow_ephemeral: bool = False,
) -> list[dict[str, Any]]:
    """Run them, really in parallel; the messages for the model, in the order in which it asked. `stream`:
    those who read the invocation along are told each answer, as a chunk of type `tool_result`.

    `ctx` None: the handler that is running. Outside of one: NotInHandler, or, with `allow_ephemeral`, they
    run without a journal, once each, and nobody can be asked for approval."""
    known = by_name(tools)
    if ctx is None and allow_ephemeral and current_branch() is None:
        return messages(calls, await run_unjournaled(calls, known))
    context = ctx if ctx is not None else current_context()
    tasks = [spawn(f"tool:{one.id}", _answer(context, one, known, stream)) for one in calls]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return messages(calls, answers)


def messages(calls: Sequence[ToolCall], answers: Sequence[Any]) -> list[dict[str, Any]]:
    """What the model is told."""
    return [
        {"role": "tool", "tool_call_id": one.id, "content": answer}
        for one, answer in zip(calls, answers, strict=True)
    ]


def by_name(tools: Sequence[Tool]) -> dict[str, Tool]:
    """The tools by their names, which must differ."""
    known = {tool.name: tool for tool in tools}
    if len(known) < len(tools):
        raise BadDefinition(f"two tools have the same name among {', '.join(sorted(t.name for t in tools))}")
    return known


async def _answer(context: Context, one: ToolCall, known: Mapping[str, Tool], streams: bool) -> str:
    branch = current_branch()
    assert branch is not None
    set_key(f"{context.invocation_id}/{branch.name}")
    try:
        tool, arguments = understood(one, known)
        allowed, changed = await permitted(context, tool, arguments)
    except (Misfit, NotPermitted) as refusal:
        content = f"Error: {refusal}"
        if streams:
            tell(one, content, failed=True)
        return content
    one_try = Try(context, tool, one, allowed, streams=streams)
    answer = await _inline(one_try) if tool.inline else await _steps(one_try)
    if answer.terminal is not None:
        raise TerminalError(answer.terminal.message, answer.terminal.status_code, answer.terminal.metadata)
    return changed + answer.content


async def _steps(one_try: Try) -> ToolAnswer:
    """One step, or for a tool that needs to know more as many as it takes."""
    tool, leg = one_try.tool, None
    while True:
        if tool.idempotent:
            answer = await one_try.step(partial(one_try.run, leg))
        else:
            answer = await one_try.once(leg)
        if answer.pending is None:
            return answer
        assert tool.legs is not None, "only tools with legs are ever pending"
        leg = await tool.legs(answer.pending)


async def _inline(one_try: Try) -> ToolAnswer:
    tool, context = one_try.tool, one_try.context
    running = tool.bound(one_try.arguments, one_try.key)()
    try:
        if tool.timeout is None:
            return one_try.told(one_try.answered(await running))
        ended, value = await context.race(_marked(running), _late(context, tool))
        if ended:
            return one_try.told(one_try.answered(value))
        late = f"no answer within {tool.timeout}"
    except ToolError as error:
        late = str(error)
    return one_try.told(one_try.answered(f"Error: {late}", failed=True))


async def _marked(running: Any) -> tuple[bool, Any]:
    return True, await running


async def _late(context: Context, tool: Tool) -> tuple[bool, Any]:
    assert tool.timeout is not None
    await context.sleep(tool.timeout, name=f"timeout:{tool.name}")
    return False, None
