"""What a running attempt wants to do: each command is checked, stored and given its effects.

Rules of this file:
1. Entries are applied in order; at the first that breaks a rule the rest is discarded and the attempt fails.
2. A command is stored whether or not its completion comes later; a callee's id is known at once.
3. One new aggregate for the whole proposal: this is the hot path of every step.
4. The result of a step is not delivered back: who proposed it has it, and knows its place (`places`).
"""

from __future__ import annotations

from typing import assert_never

from agentdur.core import commands as c
from agentdur.core import journal as j
from agentdur.core.catalog import Catalog, HandlerMeta
from agentdur.core.effects import (
    Append,
    Deliver,
    DropState,
    Effect,
    Find,
    KeepMessages,
    PutState,
    ReadState,
    Refuse,
    Send,
    SetTimer,
    Transition,
)
from agentdur.core.ids import BadId, InvocationId, parse_awakeable_id, parse_invocation_id
from agentdur.core.machine.attempt import NO_OUTPUT, current
from agentdur.core.machine.finish import finish
from agentdur.core.state import Invocation, Waiter
from agentdur.core.target import HandlerKind, PromiseAddress, ServiceKind
from agentdur.core.trace import below_entry

PRECONDITION = "RT0017"
UNKNOWN_CALLEE = "RT0018"
_CALLS = (j.Call, j.OneWayCall)


class _Refused(Exception):
    """A proposed command breaks a rule; carried to the end of the proposal, never out of this file."""

    def __init__(self, code: str, message: str) -> None:
        self.failure = j.Failure(500, message, (("restate_code", code),))


class _Draft:
    """The proposal being applied: counters that become the new aggregate, and effects so far."""

    __slots__ = ("callees", "catalog", "done", "effects", "failed", "inv", "length", "open", "output")

    def __init__(self, inv: Invocation, catalog: Catalog, callees: tuple[InvocationId, ...]) -> None:
        self.inv, self.catalog, self.callees = inv, catalog, iter(callees)
        self.length, self.open, self.done, self.failed = inv.length, inv.open, inv.done, inv.failed
        self.output = inv.output
        self.effects: list[Effect] = []

    def append(self, entry: j.Entry) -> None:
        self.effects.append(Append(self.inv.spec.id, self.length, entry))
        self.length += 1

    def complete(self, completion: j.Completion) -> None:
        bit = 1 << completion.id
        self.open &= ~bit
        self.done |= bit
        if type(completion.outcome) is j.Failure:
            self.failed |= bit
        self.append(completion)


def propose(inv: Invocation, message: c.Propose, now: int, catalog: Catalog) -> Transition[Invocation | None]:
    """Apply a running attempt's entries; an old attempt's are ignored."""
    if not current(inv, message.attempt):
        return Transition(inv)
    draft = _Draft(inv, catalog, message.callees)
    effects, invocation = draft.effects, inv.spec.id
    refused = False
    for entry in message.entries:
        if type(entry) is j.Run:  # steps are most of what handlers do: no detour for them
            draft.open |= 1 << entry.completion
            effects.append(Append(invocation, draft.length, entry))
            draft.length += 1
            continue
        try:
            if type(entry) is j.RunResult:
                _run_result(draft, entry)
            else:
                _apply(draft, entry)
        except _Refused as rule:
            refused = True
            effects.append(Refuse(invocation, message.attempt, rule.failure))
            break
    after = Invocation(  # by position: half the price of `replace`
        inv.spec, inv.head, draft.length, draft.open, draft.done, draft.failed, inv.signals,
        inv.journal_kept, draft.output, inv.rejected,
    )  # fmt: skip
    if message.end and not refused:
        if draft.output is not None:
            return finish(after, draft.output, now, effects)
        draft.effects.append(Refuse(inv.spec.id, message.attempt, NO_OUTPUT))
    return Transition(after, tuple(draft.effects))


def _apply(d: _Draft, entry: j.Proposal) -> None:
    match entry:
        case j.Run(completion=cid):
            d.append(entry)
            d.open |= 1 << cid
        case j.RunResult():
            _run_result(d, entry)
        case j.Output(result=result):
            d.append(entry)
            d.output = result
        case j.GetEagerState() | j.GetEagerStateKeys():
            _readable(d)
            d.append(entry)
        case j.SetState() | j.ClearState() | j.ClearAllState():
            _write_state(d, entry)
        case j.GetLazyState() | j.GetLazyStateKeys():
            _lazy(d, entry)
        case j.Sleep(wake_at=at, completion=cid):
            d.append(entry)
            d.open |= 1 << cid
            d.effects.append(SetTimer(d.inv.spec.id, at, cid))
        case j.Call() | j.OneWayCall():
            _call(d, entry)
        case j.GetPromise() | j.PeekPromise() | j.CompletePromise():
            _promise(d, entry)
        case j.SendSignal():
            _send_signal(d, entry)
        case j.CompleteAwakeable():
            _awakeable(d, entry)
        case j.AttachInvocation(target=to, completion=cid) | j.GetInvocationOutput(target=to, completion=cid):
            d.append(entry)
            d.open |= 1 << cid
            d.effects.append(Find(d.inv.spec.id, to, cid, isinstance(entry, j.AttachInvocation)))
        case j.Input():
            raise _Refused(PRECONDITION, "Input is written by the engine")
        case _:
            assert_never(entry)


def places(length: int, entries: tuple[j.Proposal, ...]) -> list[int]:
    """The index that each entry of an accepted proposal gets in a journal of `length` entries. A call is
    followed by the completion that holds its callee's id."""
    out = []
    for entry in entries:
        out.append(length)
        length += 2 if isinstance(entry, _CALLS) else 1
    return out


def _run_result(d: _Draft, entry: j.RunResult) -> None:
    if not d.open & (1 << entry.completion):
        raise _Refused(PRECONDITION, f"no Run command is open with completion id {entry.completion}")
    d.complete(j.Completion(entry.completion, "Run", entry.result, entry.meta))
    if entry.messages:
        d.effects.append(KeepMessages(entry.messages))


def _readable(d: _Draft) -> None:
    if d.inv.spec.target.service_kind is ServiceKind.SERVICE:
        raise _Refused(PRECONDITION, "a plain service has no state")


def _write_state(d: _Draft, entry: j.SetState | j.ClearState | j.ClearAllState) -> None:
    target = d.inv.spec.target
    _readable(d)
    if target.handler_kind is HandlerKind.SHARED:
        raise _Refused(PRECONDITION, f"{target} is a shared handler and may not write state")
    d.append(entry)
    if isinstance(entry, j.ClearAllState):
        d.effects.append(DropState(target.object))
    else:
        value = entry.value if isinstance(entry, j.SetState) else None
        d.effects.append(PutState(target.object, entry.key, value))


def _lazy(d: _Draft, entry: j.GetLazyState | j.GetLazyStateKeys) -> None:
    _readable(d)
    d.append(entry)
    d.open |= 1 << entry.completion
    name = entry.key if isinstance(entry, j.GetLazyState) else None
    d.effects.append(ReadState(d.inv.spec.id, d.inv.spec.target.object, entry.completion, name))


def _call(d: _Draft, entry: j.Call | j.OneWayCall) -> None:
    target = d.catalog.target(entry.service, entry.handler, entry.key, entry.scope)
    meta = d.catalog.find(entry.service, entry.handler)
    if target is None or meta is None:
        raise _Refused(UNKNOWN_CALLEE, f"{entry.service}/{entry.handler} is not served")
    if (entry.key is not None) != (target.service_kind is not ServiceKind.SERVICE):
        raise _Refused(
            PRECONDITION, f"{entry.service} is a {target.service_kind.value}: a key is (not) needed"
        )
    if entry.idempotency_key == "":
        raise _Refused(PRECONDITION, "the idempotency key is empty")
    callee = next(d.callees)
    d.append(entry)
    d.open |= 1 << entry.id_completion
    caller = None
    if isinstance(entry, j.Call):
        d.open |= 1 << entry.completion
        caller = Waiter(d.inv.spec.id, entry.completion)
    known = j.Completion(entry.id_completion, "CallId", j.CalleeId(callee))
    d.complete(known)
    d.effects.append(Deliver(d.inv.spec.id, d.length - 1, known))
    is_run = target.handler_kind is HandlerKind.WORKFLOW
    key = None if is_run else entry.idempotency_key  # semantics §2.2: silently ignored on a workflow's run
    completion_ms, journal_ms = retention(meta, key is not None)
    at = entry.invoke_at if isinstance(entry, j.OneWayCall) and entry.invoke_at > 0 else None
    above = d.inv.spec.traceparent
    owner = entry.completion if isinstance(entry, j.Call) else entry.id_completion
    d.effects.append(
        Send(
            c.Submit(
                id=callee, target=target, value=entry.parameter, headers=entry.headers, invoked_by="service",
                caller=caller, parent=d.inv.spec.id, idempotency_key=key, execute_at=at,
                completion_retention_ms=completion_ms, journal_retention_ms=journal_ms,
                traceparent=above and below_entry(above, d.inv.spec.id, owner),
            )
        )
    )  # fmt: skip


def retention(meta: HandlerMeta, idempotent: bool) -> tuple[int, int]:
    """(completion, journal) retention in ms of a new invocation (semantics §11)."""
    options = meta.options
    if meta.kind is HandlerKind.WORKFLOW:
        completion = options.workflow_retention_ms
    elif idempotent:
        completion = options.idempotency_retention_ms
    else:
        completion = options.journal_retention_ms
    return completion, min(completion, options.journal_retention_ms)


def _promise(d: _Draft, entry: j.GetPromise | j.PeekPromise | j.CompletePromise) -> None:
    target = d.inv.spec.target
    if target.service_kind is not ServiceKind.WORKFLOW:
        raise _Refused(PRECONDITION, f"{target} is not a workflow and has no promises")
    d.append(entry)
    d.open |= 1 << entry.completion
    address = PromiseAddress(target.service, target.key or "", entry.key, target.scope)
    me, cid = d.inv.spec.id, entry.completion
    if isinstance(entry, j.CompletePromise):
        d.effects.append(Send(c.SettlePromise(address, entry.result, me, cid)))
    else:
        d.effects.append(Send(c.ReadPromise(address, me, cid, isinstance(entry, j.GetPromise))))


def _send_signal(d: _Draft, entry: j.SendSignal) -> None:
    try:
        target = parse_invocation_id(entry.target)
    except BadId as error:
        raise _Refused(PRECONDITION, f"bad invocation id {error}") from error
    d.append(entry)
    d.effects.append(Send(c.SignalTo(target, entry.signal, entry.outcome)))


def _awakeable(d: _Draft, entry: j.CompleteAwakeable) -> None:
    try:
        invocation, index = parse_awakeable_id(entry.awakeable)
    except BadId as error:
        raise _Refused(PRECONDITION, f"bad awakeable id '{entry.awakeable}': {error}") from error
    d.append(entry)
    d.effects.append(Send(c.SignalTo(invocation, index, entry.result)))
