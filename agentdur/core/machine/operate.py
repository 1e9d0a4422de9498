"""What an operator may do: kill, pause, resume, purge (semantics §9.5). Cancel is a signal, see notify.

Rules of this file:
1. What the status does not allow is refused with a typed error, and nothing changes.
2. Kill reaches every child in the journal, calls and sends alike; cancel does not.
"""

from __future__ import annotations

from msgspec.structs import replace

from agentdur.core import commands as c
from agentdur.core.effects import Effect, Send, Start, Stop, Transition
from agentdur.core.errors import TooEarly, UnknownInvocation, WrongStatus
from agentdur.core.machine.finish import KILLED, finish, forget, withdraw
from agentdur.core.state import Invocation, Status

_BEFORE = (Status.SCHEDULED, Status.INBOXED)


def absent(message: c.ToInvocation) -> Transition[Invocation | None]:
    """Nobody is there: operators are told, everything else is late and ignored."""
    if isinstance(message, c.Pause | c.Resume | c.Purge):
        raise UnknownInvocation(message.id)
    return Transition(None)


def resumed(inv: Invocation, now: int) -> Invocation:
    """Running again, as a new attempt; the failures of the last stretch are forgotten."""
    head = replace(
        inv.head, status=Status.INVOKED, attempt=inv.head.attempt + 1, failures=0, retry_at=None,
        awaiting=None, seen=0, modified_at=now,
    )  # fmt: skip
    return replace(inv, head=head)


def kill(inv: Invocation, message: c.Kill, now: int) -> Transition[Invocation | None]:
    """End with 409 `killed`; a completed invocation stays as it is (the frontend refuses it)."""
    status = inv.head.status
    if status is Status.COMPLETED:
        return Transition(inv)
    if status in _BEFORE:
        return withdraw(inv, KILLED)
    first: tuple[Effect, ...] = (Stop(inv.spec.id, "killed"),) if status is Status.INVOKED else ()
    return finish(inv, KILLED, now, (*first, *(Send(c.Kill(child)) for child in message.children)))


def pause(inv: Invocation, now: int) -> Transition[Invocation | None]:
    """Stop the attempt and stay; suspended and paused ones are left as they are."""
    status = inv.head.status
    if status in (Status.SUSPENDED, Status.PAUSED):
        return Transition(inv)
    if status is not Status.INVOKED:
        raise WrongStatus(f"The invocation '{inv.spec.id}' is not running, cannot be paused.")
    head = replace(inv.head, status=Status.PAUSED, retry_at=None, modified_at=now)
    return Transition(replace(inv, head=head), (Stop(inv.spec.id, "paused"),))


def check_resumed(inv: Invocation, *, elsewhere: bool) -> None:
    """WrongStatus or TooEarly when it cannot go on; `elsewhere`: at another deployment than it has."""
    status, who = inv.head.status, f"The invocation '{inv.spec.id}'"
    if status in _BEFORE:
        raise TooEarly(f"{who} is either inboxed or scheduled, cannot be resumed.")
    if status is Status.COMPLETED:
        raise WrongStatus(f"{who} is completed, cannot be resumed.")
    if elsewhere and status is Status.INVOKED:
        raise WrongStatus(f"{who} is still running, its deployment cannot be changed.")


def resume(inv: Invocation, message: c.Resume, now: int) -> Transition[Invocation | None]:
    """An attempt now: after a pause, a suspension or in a back-off; a running one just goes on."""
    elsewhere = message.deployment not in (None, inv.head.deployment)
    check_resumed(inv, elsewhere=elsewhere)
    if elsewhere and inv.head.deployment is None:
        raise WrongStatus(f"The invocation '{inv.spec.id}' has no deployment yet that could be changed.")
    status = inv.head.status
    if status is Status.INVOKED and inv.head.retry_at is None:
        return Transition(inv)
    after = resumed(inv, now)
    if message.deployment is not None:
        after = replace(after, head=replace(after.head, deployment=message.deployment))
    return Transition(after, (Start(inv.spec.id, after.head.attempt),))


def purge(inv: Invocation, message: c.Purge) -> Transition[Invocation | None]:
    """Forget what is completed."""
    if inv.head.status is not Status.COMPLETED:
        raise WrongStatus(f"The invocation '{inv.spec.id}' is not yet completed.")
    effects = forget(inv)
    if message.journal_only:
        return Transition(replace(inv, journal_kept=False), effects[:1])
    return Transition(None, effects)
