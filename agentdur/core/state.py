"""The aggregates: an invocation, a key of an object, a promise. All frozen.

Rules of this file:
1. What never changes after acceptance is in `Accepted`; what changes and is queried is in `Head`. A commit
   writes an invocation's row only when `head` is another one: a step costs no row but its journal entries.
2. `open` and `done` are bit sets of completion ids (bit n = id n): cheap copies at any journal length.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from msgspec import Struct

from agentdur.core.fifo import Fifo
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Awaiting, Failure, Result
from agentdur.core.target import Target


class Status(Enum):
    """The internal status; the API's `running`, `backing-off` and `ready` are all INVOKED."""

    SCHEDULED = "scheduled"
    INBOXED = "pending"
    INVOKED = "running"
    SUSPENDED = "suspended"
    PAUSED = "paused"
    COMPLETED = "completed"


InvokedBy = Literal["ingress", "service", "subscription", "restart_as_new"]


class Waiter(Struct, frozen=True, gc=False):
    """Another invocation that waits for a result under one of its completion ids."""

    invocation: InvocationId
    completion: int
    of: Literal["Call", "Attach"] = "Call"


class Accepted(Struct, frozen=True, kw_only=True, gc=False):
    """What was fixed when the invocation was accepted. Times in ms since epoch, retentions in ms."""

    id: InvocationId
    target: Target
    created_at: int
    invoked_by: InvokedBy = "ingress"
    caller: InvocationId | None = None
    idempotency_key: str | None = None
    completion_retention_ms: int = 0
    journal_retention_ms: int = 0
    execute_at: int | None = None
    restarted_from: InvocationId | None = None
    seed: int | None = None
    traceparent: str = ""


class Head(Struct, frozen=True, kw_only=True, gc=False):
    """What changes and is shown: one row of the store."""

    status: Status
    attempt: int = 0
    failures: int = 0
    retry_at: int | None = None
    last_failure: Failure | None = None
    last_failure_entry: int | None = None
    deployment: str | None = None
    protocol: int | None = None
    awaiting: Awaiting | None = None
    seen: int = 0
    waiters: tuple[Waiter, ...] = ()
    result: Result | None = None
    modified_at: int = 0
    completed_at: int | None = None


class Invocation(Struct, frozen=True, gc=False):
    """One durable execution of a handler."""

    spec: Accepted
    head: Head
    length: int = 0
    open: int = 0
    done: int = 0
    failed: int = 0
    signals: tuple[tuple[int | str, int], ...] = ()
    """The last entry index at which each signal was resolved."""
    journal_kept: bool = True
    output: Result | None = None
    """An Output command that was stored while its End has not come yet."""
    rejected: tuple[tuple[int | str, int], ...] = ()
    """The last entry index at which each signal was stored as a failure."""

    @property
    def id(self) -> InvocationId:
        return self.spec.id


class FailedAttempt(Struct, frozen=True, kw_only=True, gc=False):
    """An attempt that failed, as it is shown. `number`: the how many-th failure of its invocation this is;
    `started_at` None: in a process before this one. `reason`: the code that has a page, when there is one;
    `entry`: the journal index of the step that failed; `length`: entries of the journal then. Times in ms
    since epoch."""

    number: int
    attempt: int
    started_at: int | None = None
    ended_at: int
    code: int
    message: str
    reason: str | None = None
    entry: int | None = None
    length: int = 0
    deployment: str | None = None
    node: str = ""
    retry_at: int | None = None


class Edit(Struct, frozen=True):
    """An operator's replacement of a key's whole state; waits in the inbox like an invocation."""

    values: tuple[tuple[str, bytes], ...]
    version: str | None = None


class Place(Struct, frozen=True, gc=False):
    """A place in a key's inbox; positions only grow."""

    position: int
    item: InvocationId | Edit


class ObjectState(Struct, frozen=True):
    """A key's lock and inbox; absent when it is neither locked nor waited for."""

    locked_by: InvocationId | None = None
    inbox: Fifo[Place] = Fifo()
    next_position: int = 0


class PromiseState(Struct, frozen=True):
    """A durable promise: open while `result` is None."""

    result: Result | None = None
    waiters: tuple[tuple[InvocationId, int], ...] = ()
