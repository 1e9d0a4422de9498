"""What a tool's step journals, and how one try of a tool is made.

Rules of this file:
1. What a tool says to the model, and what ends the invocation, are values: they are told apart by data.
2. A tool that is not idempotent journals its intent before each try. A try of which only the intent is known
   may have had its effect: what became of it is found out before anything is done.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from agentdur.llm.answer import ToolCall
from agentdur.sdk.approval import ask
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.note import note
from agentdur.sdk.steps import call
from agentdur.sdk.stream import stream
from agentdur.tools.approve import plain
from agentdur.tools.key import tool_key
from agentdur.tools.text import ToolError, ToolTimeout, told, too_long
from agentdur.tools.tool import NOT_DONE, Tool


class Terminal(msgspec.Struct, frozen=True):
    """A TerminalError of a tool, as data."""

    message: str
    status_code: int
    metadata: dict[str, str] | None = None


class ToolAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tool step journals: the text for the model, or what ended the invocation. `doubt`: nobody knows
    whether the tool had its effect, and why; `pending`: the tool needs something before it can go on."""

    content: str = ""
    failed: bool = False
    terminal: Terminal | None = None
    doubt: str = ""
    pending: Any = None


def tell(one: ToolCall, content: str, *, failed: bool) -> None:
    """A chunk for those who read the invocation along."""
    stream({"type": "tool_result", "id": one.id, "name": one.name, "content": content, "failed": failed})


LEG = "~leg"
"""The parameter by which a tool of several legs is given what it asked for; no model can name it."""


class Pending(Exception):
    """Raised by a tool of several legs: what it needs to know before the next one."""

    def __init__(self, needs: Any) -> None:
        super().__init__("the tool needs more")
        self.needs = needs


class Try:
    """One call of a tool: what it is run with, and what it may not exceed."""

    def __init__(
        self, context: Context, tool: Tool, one: ToolCall, arguments: Mapping[str, Any], *, streams: bool
    ) -> None:
        self.context, self.tool, self.one, self.arguments = context, tool, one, arguments
        self.key, self.streams = tool_key(), streams

    def told(self, answer: ToolAnswer) -> ToolAnswer:
        """The answer, of which those who read along have been told: from its step, if it comes from one."""
        if self.streams and answer.terminal is None:
            tell(self.one, answer.content, failed=answer.failed)
        return answer

    async def step(self, action: Callable[[], Any]) -> ToolAnswer:
        """The action as a step, retried as the tool's options say; then the model is told."""
        options = replace(self.tool.options, type_hint=ToolAnswer)
        try:
            answer: ToolAnswer = await self.context.run_typed(f"tool:{self.tool.name}", action, options)
        except TerminalError as error:
            # A tool's own TerminalError is data, so this is a cancellation, an entry beyond its limit, or the
            # end of the step's retries; only the last one is the model's business.
            if error.status_code != 500 or error.metadata:
                raise
            return self.told(ToolAnswer(content=f"Error: {error.message}", failed=True))
        return answer

    async def run(self, leg: Any = None) -> ToolAnswer:
        """Run it: within its timeout, its answer within the limit."""
        note(tool=self.tool.name, tool_call_id=self.one.id)
        arguments = self.arguments if leg is None else {**self.arguments, LEG: leg}
        try:
            return self.told(self.answered(await self.timed(arguments)))
        except Pending as pending:
            return ToolAnswer(pending=pending.needs)
        except ToolError as error:
            return self.told(self.answered(f"Error: {error}", failed=True))
        except TerminalError as error:
            return ToolAnswer(terminal=Terminal(error.message, error.status_code, error.metadata))

    def answered(self, value: Any, *, failed: bool = False) -> ToolAnswer:
        """The text for the model; what is too long, or no text, is replaced by word of that."""
        content, untold = told(value)
        excess = too_long(content, self.context.limits.tool_answer)
        return ToolAnswer(content=excess or content, failed=failed or untold or excess is not None)

    async def timed(self, arguments: Mapping[str, Any]) -> Any:
        """The function's value; ToolTimeout when it takes too long."""
        tool = self.tool
        running = call(tool.bound(arguments, self.key), tool.function)
        if tool.timeout is None:
            return await running
        limit = asyncio.timeout(tool.timeout.total_seconds())
        try:
            async with limit:
                return await running
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ToolTimeout(f"no answer within {tool.timeout}") from error

    # -- tools that are not idempotent

    async def once(self, leg: Any = None) -> ToolAnswer:
        """Run it so that it is never run again without knowing what became of the try before."""
        while True:
            mine = secrets.token_hex(8)
            intent = {"tool": self.tool.name, "key": self.key, "try": mine}
            known = await self.context.note_value(f"intent:{self.tool.name}", intent)
            begun_before = known["try"] != mine  # by an attempt that did not live to tell
            answer = await self.step(partial(self._try_once, leg, begun_before=begun_before))
            if not answer.doubt:
                return answer
            settled = await self._ask_person(answer.doubt)
            if settled is not None:
                return self.told(settled)

    async def _try_once(self, leg: Any, *, begun_before: bool) -> ToolAnswer:
        note(tool=self.tool.name, tool_call_id=self.one.id)
        if begun_before:
            known = await self._reconciled("it was interrupted by a crash")
            if known is not None:
                return known
        try:
            return await self.run(leg)
        except Exception as error:
            known = await self._reconciled(repr(error))
            if known is not None:
                return known
            raise  # it is known that nothing happened: a try like any other

    async def _reconciled(self, why: str) -> ToolAnswer | None:
        """What became of a try: its answer, None when it had no effect, doubt when nobody can say."""
        reconcile = self.tool.reconcile
        if reconcile is None:
            return ToolAnswer(doubt=why)
        value = await call(lambda: reconcile(self.key), reconcile)
        return None if value is NOT_DONE else self.told(self.answered(value))

    async def _ask_person(self, doubt: str) -> ToolAnswer | None:
        """None: run it again."""
        question = (
            f"The tool {self.tool.name} may have had its effect, nobody knows ({doubt}). Approve: run it "
            'again. Approve with the payload {"result": …}: take that as its result. Reject: it failed.'
        )
        shown = {"tool": self.tool.name, "arguments": plain(self.arguments), "key": self.key}
        while True:
            said = await ask(self.context, question, shown, tool=self.tool.name)
            if not said:
                why = f": {said.reason}" if said.reason else ""
                return self.answered(f"Error: the tool may have had its effect, or not{why}", failed=True)
            if not said.edited:
                return None
            with suppress(KeyError, TypeError):
                return self.answered(said.payload["result"])
