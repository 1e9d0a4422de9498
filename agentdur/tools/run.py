"""Running the tools a model asked for: all at once, each a step of its own, answered in the model's order.

Rules of this file:
1. Each call has a branch named by its tool-call id, which is in the journal with the model's answer: calls
   may overtake each other, before a crash and after it.
2. What the model did wrong (no such tool, arguments that do not fit) is told to the model.
3. What a tool does wrong is retried as its options say, and then told to the model. Only a TerminalError ends
   the invocation, and a cancellation: nobody waits for the model's next idea then.
4. All calls have ended before anything of them is raised: a replay does not depend on which was first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError

from agentdur.core.errors import BadDefinition
from agentdur.llm.answer import ToolCall
from agentdur.sdk.branch import spawn
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.note import note
from agentdur.sdk.serde import DefaultSerde
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import call
from agentdur.tools.schema import given
from agentdur.tools.tool import Tool, ToolError

_JSON: DefaultSerde[Any] = DefaultSerde()


class Terminal(msgspec.Struct, frozen=True):
    """A TerminalError of a tool, as data."""

    message: str
    status_code: int
    metadata: dict[str, str] | None = None


class ToolAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tool step journals: the text for the model, or what ended the invocation."""

    content: str = ""
    failed: bool = False
    terminal: Terminal | None = None


async def run_tools(
    ctx: Context | None, calls: Sequence[ToolCall], tools: Sequence[Tool]
) -> list[dict[str, Any]]:
    """Run them, really in parallel; the messages for the model, in the order in which it asked."""
    context = ctx if ctx is not None else current_context()
    known = by_name(tools)
    tasks = [spawn(f"tool:{one.id}", _answer(context, one, known)) for one in calls]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
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


async def _answer(context: Context, one: ToolCall, known: Mapping[str, Tool]) -> str:
    tool = known.get(one.name)
    if tool is None:
        return f"Error: there is no tool '{one.name}'. The tools are: {', '.join(sorted(known)) or 'none'}."
    try:
        arguments = tool.arguments.model_validate_json(one.arguments or "{}")
    except ValidationError as misfit:
        return f"Error: these arguments do not fit. {misfits(misfit)}"
    if tool.inline:
        return await _inline(tool, arguments)
    return await _step(context, tool, one, arguments)


def misfits(error: ValidationError) -> str:
    """What is wrong with the arguments, for a model to read."""
    found = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        found.append(f"{place}: {problem['msg']}" if place else str(problem["msg"]))
    return "; ".join(found)


async def _step(context: Context, tool: Tool, one: ToolCall, arguments: BaseModel) -> str:
    async def action() -> ToolAnswer:
        note(tool=tool.name, tool_call_id=one.id)
        try:
            value = await call(bound(tool, arguments), tool.function)
        except ToolError as error:
            return ToolAnswer(content=f"Error: {error}", failed=True)
        except TerminalError as error:
            return ToolAnswer(terminal=Terminal(error.message, error.status_code, error.metadata))
        return ToolAnswer(content=text_of(value))

    options = replace(tool.options, type_hint=ToolAnswer)
    try:
        answer: ToolAnswer = await context.run_typed(f"tool:{tool.name}", action, options)
    except TerminalError as error:
        # A tool's own TerminalError is data, so this is a cancellation, a value that has no text, or the end
        # of the step's retries; only the last one is the model's business.
        if error.status_code != 500 or error.metadata:
            raise
        return f"Error: {error.message}"
    if answer.terminal is not None:
        raise TerminalError(answer.terminal.message, answer.terminal.status_code, answer.terminal.metadata)
    return answer.content


async def _inline(tool: Tool, arguments: BaseModel) -> str:
    try:
        return text_of(await bound(tool, arguments)())
    except ToolError as error:
        return f"Error: {error}"


def bound(tool: Tool, arguments: BaseModel) -> Callable[[], Any]:
    """The function with its checked arguments."""
    return partial(tool.function, **given(arguments))


def text_of(value: Any) -> str:
    """A result as the model reads it: text as it is, all else as JSON."""
    if value is None:
        return "null"
    return value if isinstance(value, str) else _JSON.serialize(value).decode()
