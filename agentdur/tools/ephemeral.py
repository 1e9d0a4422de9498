"""Tools outside of handlers, for those who ask for it: no journal, no retries, nobody to approve."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from agentdur.llm.answer import ToolCall
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.steps import call
from agentdur.tools.key import set_key
from agentdur.tools.text import Misfit, ToolError, told
from agentdur.tools.tool import Tool

CUT = "your answer was cut off before these arguments were whole. Nothing was run; ask again, in fewer words."


async def run_unjournaled(calls: Sequence[ToolCall], known: Mapping[str, Tool]) -> list[str]:
    """The answers, in the order of the calls; a TerminalError when all have ended."""
    answers = await asyncio.gather(*(_answer(one, known) for one in calls), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [str(answer) for answer in answers]


async def _answer(one: ToolCall, known: Mapping[str, Tool]) -> str:
    key = str(uuid4())
    set_key(key)
    try:
        tool, arguments = understood(one, known)
        if tool.approval is not None and (tool.approval.when is None or tool.approval.when(arguments)):
            return "Error: a person has to approve this, and outside of a handler nobody can be asked"
        seconds = None if tool.timeout is None else tool.timeout.total_seconds()
        async with asyncio.timeout(seconds):
            return told(await call(tool.bound(arguments, key), tool.function))[0]
    except (Misfit, ToolError) as error:
        return f"Error: {error}"
    except TerminalError:
        raise
    except Exception as error:
        return f"Error: {error!r}"


def understood(one: ToolCall, known: Mapping[str, Tool]) -> tuple[Tool, Mapping[str, Any]]:
    """The tool the model means, with its arguments; Misfit says to the model what is wrong."""
    tool = known.get(one.name)
    if tool is None:
        names = ", ".join(sorted(known)) or "none"
        raise Misfit(f"there is no tool '{one.name}'. The tools are: {names}.")
    if one.cut and not one.arguments.strip():  # nothing would pass for no arguments
        raise Misfit(CUT)
    try:
        return tool, tool.read(one.arguments)
    except Misfit as misfit:
        raise Misfit(CUT if one.cut else f"these arguments do not fit. {misfit}") from misfit
