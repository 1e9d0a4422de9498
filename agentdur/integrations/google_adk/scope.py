"""The run of an ADK agent that goes on: how it is made durable, its clock, and the ids it draws.

Rules of this file:
1. What ADK draws by chance or reads from the clock is the same on every attempt: it ends up in events, and
   these in the state of an object. Ids come from the branch that draws them; the clock stands still but for
   steps, each of which brings the time at which it ended.
2. Inside a step chance is chance and the clock is the clock: what comes of them is journaled.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Literal
from uuid import UUID
from weakref import WeakKeyDictionary

from agentdur.integrations.runs import RunScope
from agentdur.llm.request import TIMEOUT
from agentdur.sdk.branch import Branch, current_branch
from agentdur.sdk.steps import RunOptions

TOOL_TRIES: RunOptions[Any] = RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=200))
"""How often a tool that raises is tried, unless it has options of its own."""


@dataclass(frozen=True, kw_only=True)
class Durability:
    """How runs are made durable. `approvals`: "park" asks a person by `ctx.approval` about tools that require
    confirmation, and goes on in the same handler; "return" ends the run with ADK's own request, as ADK does.
    `inline_tools`: names of tools that run in the handler instead of in a step, because they use its context
    or run agents. `tool_options`, `model_options`: retry policies of the steps. `model_timeout`: for one
    whole answer. `allow_ephemeral`: outside of handlers agents run as they are, without a journal, instead of
    being refused."""

    approvals: Literal["park", "return"] = "park"
    approval_timeout: timedelta | None = None
    inline_tools: frozenset[str] = frozenset()
    tool_options: RunOptions[Any] | None = None
    model_options: RunOptions[Any] | None = None
    model_timeout: timedelta = TIMEOUT
    allow_ephemeral: bool = False


@dataclass(slots=True, eq=False)
class Scope(RunScope):
    """A run that goes on."""

    how: Durability
    began: float
    """When it began, in seconds since the epoch, as journaled."""
    streamed: bool = False
    """What models say and tools answer goes out live."""
    speaker: str = ""
    """The agent that spoke last."""
    appended: list[Any] = field(default_factory=list)
    """What was appended to sessions and is not written yet."""
    listed: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    """The tools of toolsets, as agents of this run were told."""
    _chances: dict[str, Random] = field(default_factory=dict)

    def enter(self) -> Any:
        """The code that runs now is code of this run, until `leave` is given the answer."""
        return _scope.set(self)

    def leave(self, token: Any) -> None:
        """Other code goes on; tasks the run made keep it."""
        _scope.reset(token)

    def chance(self) -> Random:
        """The generator of the branch that asks, the same on every attempt."""
        branch = current_branch()
        name = "" if branch is None else branch.name
        found = self._chances.get(name)
        if found is None:
            found = self._chances[name] = Random(f"{self.key}/{name}")
        return found

    def new_id(self) -> str:
        """An id of the form of a UUID."""
        return str(UUID(int=self.chance().getrandbits(128), version=4))

    def now(self) -> float:
        """When the last step ended that this line of execution has seen; seconds since the epoch."""
        return max(self.began, _seen.get())

    def saw(self, at: float) -> None:
        """A step ended then."""
        _seen.set(max(at, _seen.get()))


_scope: ContextVar[Scope | None] = ContextVar("agentdur_adk_run", default=None)
_seen: ContextVar[float] = ContextVar("agentdur_adk_seen", default=0.0)


def current_scope() -> Scope | None:
    """The run in whose code we are, when a step may be made here: None inside steps and outside of runs."""
    scope = _scope.get()
    branch = current_branch()
    if scope is None or branch is None or branch.in_step or branch.attempt is not scope.branch.attempt:
        return None
    return scope


_OWN: WeakKeyDictionary[Branch, Random] = WeakKeyDictionary()


def own_id() -> str | None:
    """An id for what a handler makes of ADK outside of a run; None elsewhere."""
    branch = current_branch()
    if branch is None or branch.in_step:
        return None
    chance = _OWN.setdefault(branch, Random(f"{branch.attempt.id}/adk/{branch.name}"))
    return str(UUID(int=chance.getrandbits(128), version=4))
