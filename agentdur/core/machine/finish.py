"""How an invocation ends, whatever ended it: waiters are told, the lock is given back, retention begins.

Rules of this file:
1. Everyone who waits gets the same result, in this commit.
2. What ends before it began leaves no record: its idempotency or workflow key is free again
   (semantics §9.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from agentdur.core.commands import Notify, Release
from agentdur.core.effects import (
    ClearTimer,
    DropJournal,
    DropPromises,
    DropState,
    Effect,
    Finished,
    Send,
    Transition,
)
from agentdur.core.journal import Failure, Result
from agentdur.core.state import Invocation, Status
from agentdur.core.target import HandlerKind

KILLED = Failure(409, "killed")
CANCELED = Failure(409, "canceled")


def answers(inv: Invocation, result: Result) -> list[Effect]:
    """The result on its way to everyone who waits."""
    effects: list[Effect] = [
        Send(Notify(waiter.invocation, waiter.completion, result, waiter.of)) for waiter in inv.head.waiters
    ]
    effects.append(Finished(inv.spec.id, result))
    return effects


def finish(
    inv: Invocation, result: Result, now: int, first: Iterable[Effect] = ()
) -> Transition[Invocation | None]:
    """End an invocation that has run; `first` goes before the answers."""
    effects: list[Effect] = [*first]
    spec = inv.spec
    if spec.target.handler_kind is HandlerKind.EXCLUSIVE:
        effects.append(Send(Release(spec.target.object, spec.id)))
    if inv.head.waiters:
        effects += answers(inv, result)
    else:
        effects.append(Finished(spec.id, result))
    if spec.completion_retention_ms <= 0:
        return Transition(None, (*effects, *forget(inv)))
    kept = inv.journal_kept and spec.journal_retention_ms > 0
    if not kept:
        effects.append(DropJournal(spec.id))
    head = replace(
        inv.head, status=Status.COMPLETED, result=result, waiters=(), awaiting=None, retry_at=None,
        modified_at=now, completed_at=now,
    )  # fmt: skip
    after = Invocation(
        spec, head, inv.length, inv.open, inv.done, inv.failed, inv.signals, kept, None, inv.rejected
    )
    return Transition(after, tuple(effects))


def forget(inv: Invocation) -> tuple[Effect, ...]:
    """Remove the record; a workflow run takes its key's state and promises with it."""
    effects: tuple[Effect, ...] = (DropJournal(inv.spec.id),)
    if inv.spec.target.handler_kind is HandlerKind.WORKFLOW:
        effects += (DropState(inv.spec.target.object), DropPromises(inv.spec.target.object))
    return effects


def withdraw(inv: Invocation, result: Result) -> Transition[Invocation | None]:
    """End an invocation that has not begun: scheduled, or waiting for its key."""
    effects: list[Effect] = []
    if inv.head.status is Status.SCHEDULED:
        assert inv.spec.execute_at is not None
        effects.append(ClearTimer(inv.spec.id, inv.spec.execute_at, 0))
    else:
        effects.append(Send(Release(inv.spec.target.object, inv.spec.id)))
    return Transition(None, (*effects, *answers(inv, result), DropJournal(inv.spec.id)))
