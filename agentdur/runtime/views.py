"""Invocations as people and programs read them: JSON-able, with the API's names for statuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from agentdur.core import journal as j
from agentdur.core.edits import EDITED, Edit, MessageEdit, edits_of
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Row
from agentdur.core.replay import describe as described
from agentdur.core.state import FailedAttempt, Status
from agentdur.observe.redaction import hidden, marker
from agentdur.runtime.edits import used
from agentdur.runtime.engine import Machine
from agentdur.sdk.along import inherited
from agentdur.sdk.segment import STREAM

PREVIEW_BYTES_MAX = 10_000
"""Bytes of a payload that are shown; the rest is counted."""


def prefix(entries: list[tuple[int, j.Entry]], last: int) -> tuple[Any, ...] | None:
    """Entries 0..last and the later completions of their commands; None when `last` is no entry, or a command
    up to there has no completion."""
    if last < 0 or not entries or last > entries[-1][0]:
        return None
    kept = [entry for index, entry in entries if index <= last]
    wanted: set[int] = set()
    for entry in kept:
        if not isinstance(entry, j.Completion | j.Signal):
            wanted |= {
                getattr(entry, name) for name in ("completion", "id_completion") if hasattr(entry, name)
            }
    have = {entry.id for entry in kept if isinstance(entry, j.Completion)}
    for index, entry in entries:
        if index > last and isinstance(entry, j.Completion) and entry.id in wanted - have:
            kept.append(entry)
            have.add(entry.id)
    return tuple(kept) if wanted <= have else None


def shown_status(machine: Machine, row: Row) -> str:
    """The API's status: `running`, `backing-off` and `ready` are told apart."""
    head = row.head
    if head.status is not Status.INVOKED:
        return str(head.status.value)
    if head.retry_at is not None:
        return "backing-off"
    slot = machine.slots.invocations.get(row.spec.id)
    return "running" if slot is not None and slot.attempt is not None else "ready"


def summary(machine: Machine, row: Row) -> dict[str, Any]:
    """One line of a list."""
    spec, head = row.spec, row.head
    waits = waiting_for(head.awaiting or live_awaiting(machine, spec.id))
    out: dict[str, Any] = {
        "id": spec.id,
        "target": str(spec.target),
        "target_service_name": spec.target.service,
        "target_service_key": spec.target.key,
        "target_handler_name": spec.target.handler,
        "target_service_ty": spec.target.service_kind.value,
        "status": shown_status(machine, row),
        "created_at": instant(spec.created_at),
        "modified_at": instant(head.modified_at),
        "completed_at": instant(head.completed_at),
        "scheduled_start_at": instant(spec.execute_at),
        "invoked_by": spec.invoked_by,
        "invoked_by_id": spec.caller,
        "idempotency_key": spec.idempotency_key,
        "attempt": head.attempt,
        "retry_count": head.failures,
        "next_retry_at": instant(head.retry_at),
        "last_failure": failure(head.last_failure),
        "last_failure_entry": head.last_failure_entry,
        "restarted_from": spec.restarted_from,
        "deployment_id": head.deployment,
        "waiting_for": waits,
        "waiting_since": instant(waiting_since(machine, row)) if waits else None,
        "kept_until": head.completed_at and instant(head.completed_at + spec.completion_retention_ms),
    }
    if isinstance(head.result, j.Success):
        out["completion_result"] = "success"
        out["output"] = payload(head.result.value)
    elif isinstance(head.result, j.Failure):
        out["completion_result"] = "failure"
        out["completion_failure"] = f"[{head.result.code}] {head.result.message}"
    return {name: value for name, value in out.items() if value is not None}


def waiting_since(machine: Machine, row: Row) -> int | None:
    """When the journal of one that waits grew last, however often it was put away and taken out since."""
    length = row.head.seen
    if row.head.awaiting is None:  # its attempt is in memory
        slot = machine.slots.invocations.get(row.spec.id)
        length = 0 if slot is None or slot.state is None else slot.state.length
    times = machine.store.times(row.seq, max(0, length - 1))
    return times[-1][1] if times else None


def summaries(machine: Machine, ids: list[InvocationId]) -> dict[str, dict[str, Any]]:
    """Those of them that are there, by id."""
    rows = (machine.store.invocation(id) for id in ids)
    return {row.spec.id: summary(machine, row) for row in rows if row is not None}


def failed_attempts(attempts: list[FailedAttempt]) -> list[dict[str, Any]]:
    """Attempts that failed; what there is nothing to say of is left out."""
    return [
        {name: value for name, value in _failed(one).items() if value is not None and value != ""}
        for one in attempts
    ]


def _failed(one: FailedAttempt) -> dict[str, Any]:
    return {
        "number": one.number, "attempt": one.attempt, "started_at": instant(one.started_at),
        "ended_at": instant(one.ended_at), "code": one.code, "message": one.message, "reason": one.reason,
        "entry": one.entry, "length": one.length, "deployment": one.deployment, "node": one.node,
        "next_retry_at": instant(one.retry_at),
    }  # fmt: skip


def describe(machine: Machine, invocation: InvocationId) -> dict[str, Any] | None:
    """One invocation with its journal, as committed."""
    row = machine.store.invocation(invocation)
    if row is None:
        return None
    out = summary(machine, row)
    if row.head.last_failure is not None:
        out["failed_attempts"] = failed_attempts(machine.store.attempts(row.seq))
    times, entries = dict(machine.store.times(row.seq)), machine.store.journal(row.seq)
    out["journal"] = [
        {"index": index, "at": instant(times.get(index)), **entry_view(entry)} for index, entry in entries
    ]
    if edits := used(entries):
        out["edits"] = [edit_view(edit) | {"used": done} for edit, done in edits]
    return out


def entry_view(entry: j.Entry, preview: int = PREVIEW_BYTES_MAX) -> dict[str, Any]:
    """An entry: its kind, one line for people, and what it carries; payloads up to `preview` bytes."""
    out: dict[str, Any] = {"kind": type(entry).__name__}
    if isinstance(entry, j.Completion):
        out |= {"completion_id": entry.id, "of": entry.of, **outcome_view(entry.outcome, preview)}
        if entry.meta:
            out["meta"] = meta_view(entry.meta)
        return out
    if isinstance(entry, j.Signal):
        return out | {"signal": entry.signal, **outcome_view(entry.outcome, preview)}
    out["text"] = described(entry)
    if entry.name:
        out["name"] = entry.name
    if entry.branch:
        out["branch"] = entry.branch
    for field, shown in (("completion", "completion_id"), ("id_completion", "id_completion_id")):
        if (number := getattr(entry, field, None)) is not None:
            out[shown] = number
    out |= addressee(entry)
    if isinstance(entry, j.Input) and (said := inherited(entry.headers)):
        out["budgets"] = budgets_view(said)
    if isinstance(entry, j.Input) and (edits := edits_of(entry.headers)):
        out["edits"] = [edit_view(edit, preview) for edit in edits]
    if isinstance(entry, j.Output | j.CompletePromise | j.CompleteAwakeable):
        out |= outcome_view(entry.result, preview)
    elif isinstance(entry, j.Sleep):
        out["wake_at"] = instant(entry.wake_at)
    value = getattr(entry, "value", None) if not isinstance(entry, j.Call | j.OneWayCall) else entry.parameter
    if isinstance(value, bytes):
        out["value"] = payload(value, preview)
    return out


def edit_view(edit: Edit, preview: int = PREVIEW_BYTES_MAX) -> dict[str, Any]:
    """What a fork does otherwise: `what` is a value, a message or a model; `of`: the run in which it was
    edited, at its entry `entry`."""
    out: dict[str, Any] = msgspec.to_builtins(edit)
    if isinstance(edit, MessageEdit):
        out |= {name: payload(msgspec.json.encode(out[name]), preview) for name in ("told", "content")}
        out["role"] = edit.told.get("role")
    return out


def budgets_view(said: str) -> list[dict[str, Any]]:
    """The budgets an invocation was called under: the accounts it spends from (`account`, `name`)."""
    try:
        entries = msgspec.json.decode(said, type=list[dict[str, Any]])
    except msgspec.MsgspecError:  # some other code's header
        return []
    return [
        {"account": one["key"], "name": (one.get("limits") or {}).get("name", "")}
        for one in entries
        if isinstance(one.get("key"), str)
    ]


def addressee(entry: j.AnyCommand) -> dict[str, Any]:
    """Who or what a command is about: the handler it calls, the state value, promise, signal or awakeable."""
    match entry:
        case j.Call() | j.OneWayCall():
            out: dict[str, Any] = {"service": entry.service, "handler": entry.handler}
            if entry.key is not None:
                out["key"] = entry.key
            if isinstance(entry, j.OneWayCall) and entry.invoke_at:
                out["invoke_at"] = instant(entry.invoke_at)
            return out
        case j.SendSignal():
            return {"invocation_id": entry.target, "signal": entry.signal}
        case j.CompleteAwakeable():
            return {"awakeable": entry.awakeable}
        case _:
            key = getattr(entry, "key", None)
            return {} if key is None else {"key": key}


def meta_view(meta: str) -> dict[str, Any]:
    """What a step noted; what it streamed is counted only, as it can be read as a stream."""
    facts: dict[str, Any] = msgspec.json.decode(meta)
    chunks = facts.get(STREAM)
    if isinstance(chunks, list):
        facts[STREAM] = {"chunks": len(chunks), "bytes": len(msgspec.json.encode(chunks))}
    if hidden():
        return {
            name: fact if _is_known(name, fact) else marker(msgspec.json.encode(fact))
            for name, fact in facts.items()
        }
    return facts


_NAMING = frozenset(
    {
        "model", "asked", "conversation", "tools", "request_id", "tool", "approval", "framework", "budgets",
        EDITED, STREAM,
    }
)  # fmt: skip
"""What of a note names something, or counts."""


def _is_known(name: str, fact: Any) -> bool:
    return name in _NAMING or fact is None or isinstance(fact, bool | int | float)


def outcome_view(outcome: j.Outcome, preview: int = PREVIEW_BYTES_MAX) -> dict[str, Any]:
    """What came back."""
    match outcome:
        case j.Success(value=value):
            return {"value": payload(value, preview)}
        case j.Failure():
            return {"failure": failure(outcome)}
        case j.CalleeId(invocation_id=invocation):
            return {"invocation_id": invocation}
        case j.Keys(names=names):
            return {"keys": list(names)}
        case _:
            return {}


def failure(given: j.Failure | None) -> dict[str, Any] | None:
    """A failure."""
    if given is None:
        return None
    out: dict[str, Any] = {"code": given.code, "message": given.message}
    if given.metadata:
        out["metadata"] = dict(given.metadata)
    if given.stacktrace:
        out["stacktrace"] = given.stacktrace
    return out


def live_awaiting(machine: Machine, invocation: InvocationId) -> j.Awaiting | None:
    """What an attempt in memory waits for; None when there is none, or it does something."""
    slot = machine.slots.invocations.get(invocation)
    attempt = None if slot is None else slot.attempt
    return None if attempt is None or attempt.closed else attempt.awaiting()


def waiting_for(awaiting: j.Awaiting | None) -> list[str] | None:
    """What an invocation waits for: `completion 4`, `awakeable 17`, `signal go`."""
    if awaiting is None:
        return None
    found: list[str] = []
    todo = [awaiting]
    while todo:
        node = todo.pop()
        found += [f"completion {cid}" for cid in node.completions]
        for signal in node.signals:
            if signal != j.CANCEL_SIGNAL:
                found.append(f"signal {signal}" if isinstance(signal, str) else f"awakeable {signal}")
        todo += node.nested
    return sorted(set(found)) or None  # a cancel alone is waited for by all


def payload(value: bytes, preview: int = PREVIEW_BYTES_MAX) -> Any:
    """JSON when it is JSON, else text, else a count of bytes; a marker for who may not see it."""
    if hidden():
        return marker(value)
    if len(value) > preview:
        return {"bytes": len(value), "preview": value[:200].decode("utf-8", "replace")}
    if not value:
        return None
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return {"bytes": len(value), "preview": value[:200].decode("utf-8", "replace")}


def instant(ms: int | None) -> str | None:
    """RFC 3339, with ms."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
