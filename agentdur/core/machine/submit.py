"""Acceptance: deduplicate, then schedule, queue or start (semantics §4, §10).

Rules of this file:
1. An id that exists is never accepted twice; who waits joins the one that exists.
2. A workflow's run is not joined: a second caller is told 409, a second one-way submission is absorbed.
"""

from __future__ import annotations

from msgspec.structs import replace

from agentdur.core.commands import Acquire, Notify, Submit
from agentdur.core.effects import Append, Effect, Send, SetTimer, Start, Transition
from agentdur.core.journal import Completion, Entry, Failure, Input, Output, Result, Signal
from agentdur.core.state import Accepted, Head, Invocation, Status, Waiter
from agentdur.core.target import HandlerKind

ALREADY_INVOKED = Failure(409, "the workflow method was already invoked")


def submit(state: Invocation | None, message: Submit, now: int) -> Transition[Invocation | None]:
    """Accept, or meet the one that is there."""
    if state is not None:
        return meet(state, message)
    effects: list[Effect] = []
    inv = accepted(message, now, effects)
    target = message.target
    if message.execute_at is not None:
        effects.append(SetTimer(message.id, message.execute_at, 0))
        return Transition(with_status(inv, Status.SCHEDULED), tuple(effects))
    if target.handler_kind is HandlerKind.EXCLUSIVE:
        effects.append(Send(Acquire(target.object, message.id)))
        return Transition(with_status(inv, Status.INBOXED), tuple(effects))
    effects.append(Start(message.id, 1))
    return Transition(inv, tuple(effects))


def with_status(inv: Invocation, status: Status) -> Invocation:
    """Not started: no attempt is counted yet."""
    return replace(inv, head=replace(inv.head, status=status, attempt=0))


def accepted(message: Submit, now: int, effects: list[Effect]) -> Invocation:
    """The invocation as if it were to start at once, its Input (or copied prefix) appended."""
    spec = Accepted(
        id=message.id, target=message.target, created_at=now, invoked_by=message.invoked_by,
        caller=message.parent, idempotency_key=message.idempotency_key,
        completion_retention_ms=message.completion_retention_ms,
        journal_retention_ms=message.journal_retention_ms, execute_at=message.execute_at,
        restarted_from=message.restarted_from, seed=message.seed, traceparent=message.traceparent,
    )  # fmt: skip
    waiters = () if message.caller is None else (message.caller,)
    head = Head(
        status=Status.INVOKED, attempt=1, waiters=waiters, modified_at=now, deployment=message.deployment,
        protocol=message.protocol,
    )  # fmt: skip
    if not message.prefix:
        effects.append(Append(message.id, 0, Input(headers=message.headers, value=message.value)))
        return Invocation(spec, head, 1)
    return copied(Invocation(spec, head), message.prefix, effects)


def copied(inv: Invocation, prefix: tuple[Entry, ...], effects: list[Effect]) -> Invocation:
    """With the entries of a restarted journal; each of their commands has its completion among them."""
    done = failed = 0
    output: Result | None = None
    signals: dict[int | str, int] = {}
    rejected: dict[int | str, int] = {}
    for index, entry in enumerate(prefix):
        effects.append(Append(inv.spec.id, index, entry))
        if isinstance(entry, Completion):
            done |= 1 << entry.id
            failed |= (1 << entry.id) if isinstance(entry.outcome, Failure) else 0
        elif isinstance(entry, Signal):
            (rejected if isinstance(entry.outcome, Failure) else signals)[entry.signal] = index
        elif isinstance(entry, Output):
            output = entry.result  # replayed by the handler, which then only says End
    return replace(
        inv, length=len(prefix), done=done, failed=failed, output=output,
        signals=tuple(signals.items()), rejected=tuple(rejected.items()),
    )  # fmt: skip


def meet(state: Invocation, message: Submit) -> Transition[Invocation | None]:
    """A second submission of the same id; its payload, headers and delay are ignored."""
    if message.caller is None:
        return Transition(state)
    if message.target.handler_kind is HandlerKind.WORKFLOW:
        return Transition(state, (Send(answer(message.caller, ALREADY_INVOKED)),))
    if state.head.result is not None:
        return Transition(state, (Send(answer(message.caller, state.head.result)),))
    return Transition(replace(state, head=replace(state.head, waiters=(*state.head.waiters, message.caller))))


def answer(waiter: Waiter, result: Result) -> Notify:
    """A result on its way to one waiter."""
    return Notify(waiter.invocation, waiter.completion, result, waiter.of)
