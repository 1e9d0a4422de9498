"""What can be said to an aggregate. Each is addressed to exactly one: an invocation, a key, or a promise."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from agentdur.core.ids import InvocationId
from agentdur.core.journal import (
    AnyCommand,
    Awaiting,
    CompletionOf,
    Failure,
    Headers,
    Notification,
    Outcome,
    Proposal,
    Result,
    Success,
    Void,
)
from agentdur.core.retry import RetryPolicy
from agentdur.core.state import Edit, InvokedBy, Waiter
from agentdur.core.target import ObjectAddress, PromiseAddress, Target


class Submit(Struct, frozen=True, kw_only=True, gc=False):
    """Accept an invocation, or meet the one that has this id already. Times in ms."""

    id: InvocationId
    target: Target
    value: bytes = b""
    headers: Headers = ()
    invoked_by: InvokedBy = "ingress"
    caller: Waiter | None = None
    parent: InvocationId | None = None
    idempotency_key: str | None = None
    execute_at: int | None = None
    completion_retention_ms: int = 0
    journal_retention_ms: int = 0
    prefix: tuple[AnyCommand | Notification, ...] = ()
    restarted_from: InvocationId | None = None
    seed: int | None = None
    deployment: str | None = None
    protocol: int | None = None
    traceparent: str = ""


class Propose(Struct, frozen=True, gc=False):
    """A driver's new entries, in order. `callees`: an id for each Call and OneWayCall among them.
    `end`: an End follows, in the same breath."""

    id: InvocationId
    attempt: int
    entries: tuple[Proposal, ...]
    callees: tuple[InvocationId, ...] = ()
    end: bool = False


class End(Struct, frozen=True, gc=False):
    """The handler is done; an Output was stored before."""

    id: InvocationId
    attempt: int


class Suspend(Struct, frozen=True, gc=False):
    """The attempt waits and leaves. `seen` is the journal length it knew."""

    id: InvocationId
    attempt: int
    awaiting: Awaiting
    seen: int


class Fail(Struct, frozen=True, kw_only=True, gc=False):
    """The attempt ended with something that is not a terminal outcome. `chance` in [0, 1) is for jitter."""

    id: InvocationId
    attempt: int
    error: Failure
    policy: RetryPolicy
    delay_ms: int | None = None
    behavior: Literal["retry", "pause", "fail"] = "retry"
    entry: int | None = None
    chance: float = 0.0


class Pin(Struct, frozen=True, gc=False):
    """The attempt runs on this deployment and protocol version; fixed at the first stored entry."""

    id: InvocationId
    deployment: str
    protocol: int


class Granted(Struct, frozen=True, gc=False):
    """The key's lock is this invocation's now."""

    id: InvocationId


class StartDue(Struct, frozen=True, gc=False):
    """A scheduled invocation's time has come."""

    id: InvocationId


class RetryDue(Struct, frozen=True, gc=False):
    """The back-off after failure number `failures` is over."""

    id: InvocationId
    attempt: int


class Recover(Struct, frozen=True, gc=False):
    """The owner starts: an invocation that was running goes on with a new attempt."""

    id: InvocationId


class Notify(Struct, frozen=True, gc=False):
    """A completion arrives; `of` says which kind of command it answers."""

    id: InvocationId
    completion: int
    outcome: Outcome
    of: CompletionOf = "Call"


class SignalTo(Struct, frozen=True, gc=False):
    """A signal arrives."""

    id: InvocationId
    signal: int | str
    outcome: Void | Success | Failure


class Attach(Struct, frozen=True, gc=False):
    """Another invocation wants the result, now (`wait` False) or when it is there."""

    id: InvocationId
    waiter: Waiter
    wait: bool = True


class Kill(Struct, frozen=True, gc=False):
    """End at once. `children` are the callees found in the journal; they are killed too."""

    id: InvocationId
    children: tuple[InvocationId, ...] = ()


class Pause(Struct, frozen=True, gc=False):
    """Stop and wait for an operator."""

    id: InvocationId


class Resume(Struct, frozen=True, gc=False):
    """Go on: a paused, suspended or backing-off invocation gets an attempt now."""

    id: InvocationId
    deployment: str | None = None


class Purge(Struct, frozen=True, gc=False):
    """Forget a completed invocation, or only its journal."""

    id: InvocationId
    journal_only: bool = False


class Acquire(Struct, frozen=True, gc=False):
    """An exclusive invocation wants the key's lock, or takes its place in the inbox."""

    object: ObjectAddress
    id: InvocationId


class Release(Struct, frozen=True, gc=False):
    """The holder is done with the key, or one that waits gives up."""

    object: ObjectAddress
    id: InvocationId


class EditState(Struct, frozen=True, gc=False):
    """Replace a key's state, after the handler that runs."""

    object: ObjectAddress
    edit: Edit


class ReadPromise(Struct, frozen=True, gc=False):
    """An invocation looks at a promise, or waits for it."""

    promise: PromiseAddress
    invocation: InvocationId
    completion: int
    wait: bool


class SettlePromise(Struct, frozen=True, gc=False):
    """Complete a promise; the answer goes to `invocation` when there is one."""

    promise: PromiseAddress
    result: Result
    invocation: InvocationId | None = None
    completion: int = 0


ToInvocation: TypeAlias = (
    Submit | Propose | End | Suspend | Fail | Pin | Granted | StartDue | RetryDue | Recover | Notify
    | SignalTo | Attach | Kill | Pause | Resume | Purge
)  # fmt: skip
ToObject: TypeAlias = Acquire | Release | EditState
ToPromise: TypeAlias = ReadPromise | SettlePromise
Message: TypeAlias = ToInvocation | ToObject | ToPromise
