"""The run of an agent of the SDK that goes on: how it is made durable, and where we find it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from agentdur.integrations.runs import RunScope
from agentdur.sdk.branch import current_branch
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


@dataclass(slots=True, eq=False)
class Scope(RunScope):
    """A run that goes on: its branch, and how it is made durable."""

    how: Durability
    streamed: bool = False
    """What models say and tools answer goes out live."""
    speaker: str = ""
    """The agent that spoke last."""

    def enter(self) -> Any:
        """The code that runs now is code of this run, until `close_scope` is given the answer."""
        return _scope.set(self)


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
    scope = Scope(context, child, around is not None, chosen, streamed)
    return scope, scope.enter()


def close_scope(token: Any) -> None:
    """The code of the run ends here; tasks it made keep it."""
    _scope.reset(token)
