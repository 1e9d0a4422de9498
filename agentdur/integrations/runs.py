"""One run of an agent of somebody's framework: under which names its steps are journaled, and how it is left.

Rules of this file:
1. A run is a branch of its own, named after its agent; model calls, tool calls and approvals are branches of
   it, named by us. The tasks a framework makes for itself never name anything in the journal.
2. What must not be caught on its way out (a cancellation, a tool's terminal error) travels as an Escape,
   which is no Exception; the outermost run makes it the error again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

from agentdur.core.errors import AgentdurError, HandlerError
from agentdur.llm.answer import ModelAnswer
from agentdur.llm.call import ModelCall
from agentdur.llm.completion import journaled
from agentdur.sdk.attempt import AttemptClosed
from agentdur.sdk.branch import Branch, enter, spawn
from agentdur.sdk.cancel import CANCELLED
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.steps import RunOptions


class SyncRun(HandlerError):
    """A handler cannot wait for an agent that is run synchronously: it would stop every invocation of this
    process. Run it asynchronously: `await Runner.run(…)`, `async for event in runner.run_async(…)`."""

    code = "AD0160"


class RunInStep(HandlerError):
    """An agent was run, or a context used, inside a step: its own steps could not be journaled. Mark the tool
    with `inline(tool)`, or run the agent in the handler itself."""

    code = "AD0161"


class UnjournaledAnswer(HandlerError):
    """A model gave an answer that cannot be written to the journal as the SDK's own data."""

    code = "AD0164"

    def ending(self) -> TerminalError:
        """The end of an invocation: asked again, the model would answer in the same way."""
        return TerminalError(str(self), 500, {"agentdur_code": self.code})


class Escape(BaseException):
    """Carries an error past every `except Exception` of the framework."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True, eq=False)
class RunScope:
    """A run that goes on: its branch, and whether it is part of another one."""

    context: Context
    branch: Branch
    nested: bool

    async def within(self, label: str, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run it in a branch of this run, in whatever task we are."""
        return await copy_context().run(self._spawn, label, coro)

    def _spawn(self, label: str, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        enter(self.branch)
        return spawn(label, coro)

    async def step(
        self, label: str, name: str, action: Callable[[], Awaitable[Any]], options: RunOptions[Any] | None
    ) -> Any:
        """A step in a branch of its own; answers the JSON value the action gave."""

        async def run() -> Any:
            return await self.context.run_typed(name, action, options)

        try:
            return await self.within(label, run())
        except TerminalError as error:
            if is_cancellation(error):
                raise Escape(error) from None
            raise

    async def ask(
        self, label: str, name: str, call: ModelCall, options: RunOptions[Any] | None
    ) -> ModelAnswer:
        """A model call in a branch of its own, under the budgets and limits of all model calls."""
        try:
            answer: ModelAnswer = await self.within(label, journaled(self.context, call, name, options))
        except TerminalError as error:
            raise Escape(error) if is_cancellation(error) else error from None
        return answer

    @property
    def closed(self) -> bool:
        """The attempt is over."""
        return bool(self.branch.attempt.closed)

    def leave_if_closed(self) -> None:
        """Raise what ends code of an attempt that is over."""
        if self.closed:
            raise AttemptClosed

    @property
    def key(self) -> str:
        """A name of this run that no other has: the same on every attempt."""
        return f"{self.context.invocation_id}/{self.branch.name}"


def is_cancellation(error: TerminalError) -> bool:
    """The invocation was cancelled, rather than refused by somebody."""
    return error.status_code == 409 and error.message == CANCELLED and not error.metadata


def ours(error: BaseException) -> bool:
    """An error of agentdur, which is not the model's business."""
    return isinstance(error, TerminalError | RetryableError | AgentdurError)


def beneath(error: BaseException | None) -> BaseException | None:
    """One of our errors in the chain of causes: frameworks wrap what tools raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, Escape):
            return error.error
        if ours(error):
            return error
        error = error.__cause__
    return None


_ENDINGS: dict[type[Exception], type[Exception]] = {}


def ending(error: Exception) -> Exception:
    """The same exception, of its class still, which ends an invocation when nobody catches it: for what
    follows from the journal, so that another attempt would meet it again."""
    kind = type(error)
    twin = _ENDINGS.get(kind)
    if twin is None:
        twin = type(kind.__name__, (kind, TerminalError), {"__module__": kind.__module__})
        _ENDINGS[kind] = twin
    error.__class__ = twin
    made: Any = error
    made.message, made.status_code = str(error), 500
    made.metadata = {"kind": kind.__name__}
    return error


def with_json(options: RunOptions[Any] | None) -> RunOptions[Any] | None:
    """The retry policy only: what our steps journal is JSON."""
    return None if options is None else replace(options, type_hint=None)


def is_json(value: Any) -> bool:
    """True for what JSON carries without a change."""
    if value is None or type(value) in (str, bool):
        return True
    if type(value) is int:
        return abs(value) < 2**63
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is list:
        return all(is_json(item) for item in value)
    return type(value) is dict and all(type(k) is str and is_json(item) for k, item in value.items())
