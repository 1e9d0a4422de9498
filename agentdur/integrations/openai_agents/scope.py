"""One run of an agent, as agentdur sees it: under which names its steps are journaled, and how it is left.

Rules of this file:
1. A run is a branch of its own, named after its agent; model calls, tool calls and approvals are branches of
   it, named by us. The tasks the framework makes for itself never name anything in the journal.
2. What must not be caught on its way out (a cancellation, a tool's terminal error) travels as an Escape,
   which is no Exception; the outermost run makes it the error again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from agentdur.core.errors import AgentdurError
from agentdur.sdk.attempt import AttemptClosed
from agentdur.sdk.branch import Branch, current_branch, enter, spawn
from agentdur.sdk.cancel import CANCELLED
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunOptions


@dataclass(frozen=True, kw_only=True)
class Durability:
    """How runs are made durable. `approvals`: "park" asks a person by `ctx.approval` and goes on in the same
    handler; "return" ends the run with its interruptions, as the framework does. `inline_tools`: names of
    tools that run in the handler instead of in a step, because they use the context or run agents.
    `tool_options`, `model_options`: retry policies of the steps. `allow_ephemeral`: outside of handlers
    agents run as they are, without a journal, instead of being refused. `tracing`: spans are made (see
    `trace_to`)."""

    approvals: Literal["park", "return"] = "park"
    approval_timeout: timedelta | None = None
    inline_tools: frozenset[str] = frozenset()
    tool_options: RunOptions[Any] | None = None
    model_options: RunOptions[Any] | None = None
    allow_ephemeral: bool = False
    tracing: bool = False


class Escape(BaseException):
    """Carries an error past every `except Exception` of the framework."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True, eq=False)
class Scope:
    """A run that goes on: its branch, and how it is made durable."""

    context: Context
    branch: Branch
    how: Durability
    nested: bool
    streamed: bool = False
    """What models say and tools answer goes out live."""
    speaker: str = ""
    """The agent that spoke last."""

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

        async def journaled() -> Any:
            return await self.context.run_typed(name, action, options)

        try:
            return await self.within(label, journaled())
        except TerminalError as error:
            if is_cancellation(error):
                raise Escape(error) from None
            raise

    def enter(self) -> Any:
        """The code that runs now is code of this run, until `close_scope` is given the answer."""
        return _scope.set(self)

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


_scope: ContextVar[Scope | None] = ContextVar("agentdur_openai_run", default=None)


def current_scope() -> Scope | None:
    """The run in whose code we are, when a step may be made here: None inside steps and outside of runs."""
    scope = _scope.get()
    branch = current_branch()
    if scope is None or branch is None or branch.in_step or branch.attempt is not scope.branch.attempt:
        return None
    return scope


def enclosing_scope() -> Scope | None:
    """The run around us, also from inside one of its steps."""
    return _scope.get()


def open_scope(
    agent: str, how: Durability | None, default: Durability, streamed: bool = False
) -> tuple[Scope, Any]:
    """A new run of that agent under the current branch, and the token that closes it."""
    context = current_context()
    branch = current_branch()
    assert branch is not None
    around = current_scope()
    child = branch.child(f"run:{agent}".replace("/", "|"))
    chosen = how or (around.how if around is not None else default)
    scope = Scope(context, child, chosen, nested=around is not None, streamed=streamed)
    return scope, scope.enter()


def close_scope(token: Any) -> None:
    """The code of the run ends here; tasks it made keep it."""
    _scope.reset(token)


def is_cancellation(error: TerminalError) -> bool:
    """The invocation was cancelled, rather than refused by somebody."""
    return error.status_code == 409 and error.message == CANCELLED and not error.metadata


def ours(error: BaseException) -> bool:
    """An error of agentdur, which is not the model's business."""
    return isinstance(error, TerminalError | RetryableError | AgentdurError)


def beneath(error: BaseException | None) -> BaseException | None:
    """One of our errors in the chain of causes: the framework wraps what tools raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, Escape):
            return error.error
        if ours(error):
            return error
        error = error.__cause__
    return None


def with_json(options: RunOptions[Any] | None) -> RunOptions[Any] | None:
    """The retry policy only: what our steps journal is JSON."""
    return None if options is None else replace(options, type_hint=None)
