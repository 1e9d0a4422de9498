"""The life of attempts: start, suspend, fail and retry, end (semantics §9.2 to §9.4).

Rules of this file:
1. Only the attempt that was started last may speak; what an older one says is ignored.
2. A failure is counted within one running stretch; suspension, pause and the owner's restart begin a new one.
3. A delay the handler asked for replaces the next back-off and is not counted.
4. A stored Output stays: the next attempt replays it and only has to say End.
"""

from __future__ import annotations

from msgspec.structs import replace

from agentdur.core import commands as c
from agentdur.core.awaiting import NESTING_MAX, depth, resolved
from agentdur.core.effects import ArmRetry, ClearTimer, NoteFailure, Refuse, Send, Start, Stop, Transition
from agentdur.core.journal import Failure
from agentdur.core.machine.finish import finish
from agentdur.core.machine.operate import resumed
from agentdur.core.retry import with_jitter
from agentdur.core.state import Invocation, Status
from agentdur.core.target import HandlerKind

NO_OUTPUT = Failure(500, "the handler ended without an output")
TOO_DEEP = Failure(500, "the awaited futures are nested too deeply", (("restate_code", "RT0025"),))


def current(inv: Invocation, attempt: int) -> bool:
    """True for the attempt that may speak."""
    return inv.head.status is Status.INVOKED and inv.head.retry_at is None and inv.head.attempt == attempt


def started(inv: Invocation, now: int) -> Transition[Invocation | None]:
    """The first attempt of what was scheduled or queued."""
    after = resumed(inv, now)
    return Transition(after, (Start(inv.spec.id, after.head.attempt),))


def granted(inv: Invocation, now: int) -> Transition[Invocation | None]:
    """The key is ours; a scheduled or started invocation cannot be waiting for it."""
    assert inv.head.status is Status.INBOXED
    return started(inv, now)


def start_due(inv: Invocation, now: int) -> Transition[Invocation | None]:
    """The time of a scheduled invocation has come: start it, or queue it for its key."""
    if inv.head.status is not Status.SCHEDULED:
        return Transition(inv)
    assert inv.spec.execute_at is not None
    clear = ClearTimer(inv.spec.id, inv.spec.execute_at, 0)
    if inv.spec.target.handler_kind is HandlerKind.EXCLUSIVE:
        after = replace(inv, head=replace(inv.head, status=Status.INBOXED, modified_at=now))
        return Transition(after, (clear, Send(c.Acquire(inv.spec.target.object, inv.spec.id))))
    begun = started(inv, now)
    return Transition(begun.state, (clear, *begun.effects))


def retry_due(inv: Invocation, message: c.RetryDue, now: int) -> Transition[Invocation | None]:
    """The back-off is over, unless something else has moved the invocation on."""
    head = inv.head
    if head.status is not Status.INVOKED or head.retry_at is None or head.attempt != message.attempt:
        return Transition(inv)
    after = replace(inv, head=replace(head, attempt=head.attempt + 1, retry_at=None, modified_at=now))
    return Transition(after, (Start(inv.spec.id, after.head.attempt),))


def recover(inv: Invocation, now: int) -> Transition[Invocation | None]:
    """After a restart: what was running or backing off gets a new attempt."""
    if inv.head.status is not Status.INVOKED:
        return Transition(inv)
    return started(inv, now)


def pin(inv: Invocation, message: c.Pin) -> Transition[Invocation | None]:
    """Keep to this deployment from the first stored entry on."""
    if inv.head.deployment is not None or inv.head.status is not Status.INVOKED:
        return Transition(inv)
    return Transition(
        replace(inv, head=replace(inv.head, deployment=message.deployment, protocol=message.protocol))
    )


def suspend(inv: Invocation, message: c.Suspend, now: int) -> Transition[Invocation | None]:
    """Leave memory; when something awaited is there already, start again at once."""
    if not current(inv, message.attempt):
        return Transition(inv)
    if depth(message.awaiting) > NESTING_MAX:
        head = replace(inv.head, status=Status.PAUSED, last_failure=TOO_DEEP, modified_at=now)
        noted = NoteFailure(inv.spec.id, message.attempt, TOO_DEEP)
        return Transition(replace(inv, head=head), (noted, Stop(inv.spec.id, "paused")))
    if resolved(inv, message.awaiting, message.seen):
        return started(inv, now)
    head = replace(
        inv.head,
        status=Status.SUSPENDED,
        awaiting=message.awaiting,
        seen=message.seen,
        failures=0,
        modified_at=now,
    )
    return Transition(replace(inv, head=head))


def fail(inv: Invocation, message: c.Fail, now: int) -> Transition[Invocation | None]:
    """Retry later, or pause or end when the policy is exhausted."""
    if not current(inv, message.attempt):
        return Transition(inv)
    counted = message.delay_ms is None
    failures = inv.head.failures + counted
    policy = message.policy
    head = replace(
        inv.head,
        failures=failures,
        last_failure=message.error,
        last_failure_entry=message.entry,
        modified_at=now,
    )
    noted = NoteFailure(inv.spec.id, message.attempt, message.error, message.entry)
    exhausted = counted and policy.exhausted(failures)
    paused = message.behavior == "pause"  # asked for: an exhausted policy does not end it instead
    if message.behavior == "fail" or (exhausted and not paused and policy.on_exhausted == "kill"):
        return finish(replace(inv, head=head), message.error, now, (noted,))
    if paused or exhausted:
        return Transition(replace(inv, head=replace(head, status=Status.PAUSED)), (noted,))
    if message.delay_ms is not None:
        delay = message.delay_ms
    else:
        delay = with_jitter(policy.delay_ms(failures), message.chance)
    after = replace(inv, head=replace(head, retry_at=now + delay))
    return Transition(after, (noted, ArmRetry(inv.spec.id, head.attempt, now + delay)))


def end(inv: Invocation, message: c.End, now: int) -> Transition[Invocation | None]:
    """The handler is done: its stored Output is the result; without one the attempt has failed."""
    if not current(inv, message.attempt):
        return Transition(inv)
    if inv.output is None:
        return Transition(inv, (Refuse(inv.spec.id, message.attempt, NO_OUTPUT),))
    return finish(inv, inv.output, now)
