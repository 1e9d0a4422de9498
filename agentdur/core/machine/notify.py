"""Completions and signals arriving at an invocation, and others that want its result.

Rules of this file:
1. A completion is appended at most once; the journal order is the order handlers will see on replay.
2. A notification wakes a suspended invocation when what it waits for holds; a paused one only stores it.
3. Signals reach only what has begun and not ended; cancel ends what has not begun (semantics §6, §9.5).
"""

from __future__ import annotations

from msgspec.structs import replace

from agentdur.core.awaiting import resolved
from agentdur.core.commands import Attach, Notify, SignalTo
from agentdur.core.effects import Append, Deliver, Effect, Send, Start, Transition
from agentdur.core.journal import (
    CANCEL_SIGNAL,
    VOID,
    Completion,
    CompletionOf,
    Failure,
    Notification,
    Signal,
)
from agentdur.core.machine.finish import CANCELED, withdraw
from agentdur.core.machine.operate import resumed
from agentdur.core.state import Invocation, Status

NOT_FOUND = Failure(404, "not found")
_BEGUN = (Status.INVOKED, Status.SUSPENDED, Status.PAUSED)


def notify(inv: Invocation, message: Notify, now: int) -> Transition[Invocation | None]:
    """Store a completion that is still open, and let the invocation see it."""
    if not inv.open >> message.completion & 1 or inv.head.status not in _BEGUN:
        return Transition(inv)  # redelivered, or too late: the invocation has ended
    entry = Completion(message.completion, message.of, message.outcome)
    return store(inv, entry, 1 << message.completion, now)


def store(inv: Invocation, entry: Notification, bit: int, now: int) -> Transition[Invocation | None]:
    """Append one notification and pass it on by status."""
    index = inv.length
    effects: tuple[Effect, ...] = (Append(inv.spec.id, index, entry),)
    failure = isinstance(entry.outcome, Failure)
    if isinstance(entry, Signal):
        of_kind = inv.rejected if failure else inv.signals
        stored = (*(s for s in of_kind if s[0] != entry.signal), (entry.signal, index))
        kind = {"rejected": stored} if failure else {"signals": stored}
        after = replace(inv, length=index + 1, **kind)
    else:
        failed = inv.failed | bit if failure else inv.failed
        after = replace(inv, length=index + 1, open=inv.open & ~bit, done=inv.done | bit, failed=failed)
    status = inv.head.status
    if status is Status.INVOKED:
        return Transition(after, (*effects, Deliver(inv.spec.id, index, entry)))
    if status is Status.SUSPENDED and inv.head.awaiting and resolved(after, inv.head.awaiting, inv.head.seen):
        after = resumed(after, now)
        return Transition(after, (*effects, Start(inv.spec.id, after.head.attempt)))
    return Transition(after, effects)


def signal(inv: Invocation, message: SignalTo, now: int) -> Transition[Invocation | None]:
    """Store a signal; what has ended does not hear it, what has not begun only hears cancel."""
    cancel = message.signal == CANCEL_SIGNAL
    status = inv.head.status
    if status is Status.COMPLETED:
        return Transition(inv)
    if status in (Status.SCHEDULED, Status.INBOXED):
        return withdraw(inv, CANCELED) if cancel else Transition(inv)
    stored = store(inv, Signal(message.signal, message.outcome), 0, now)
    if cancel and status is Status.PAUSED and stored.state is not None:
        after = resumed(stored.state, now)  # it has to run to see that it is cancelled
        return Transition(after, (*stored.effects, Start(inv.spec.id, after.head.attempt)))
    return stored


def attach(inv: Invocation | None, message: Attach) -> Transition[Invocation | None]:
    """Give the result, remember the waiter, or say at once that there is nothing (yet)."""
    waiter = message.waiter
    of: CompletionOf = "Attach" if message.wait else "Output"
    known = NOT_FOUND if inv is None else inv.head.result
    if inv is None or known is not None or not message.wait:
        return Transition(inv, (Send(Notify(waiter.invocation, waiter.completion, known or VOID, of)),))
    return Transition(replace(inv, head=replace(inv.head, waiters=(*inv.head.waiters, waiter))))
