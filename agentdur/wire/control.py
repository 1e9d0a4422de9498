"""The control messages' fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from agentdur.core import journal as j
from agentdur.core.awaiting import NESTING_MAX
from agentdur.core.errors import FutureTooDeep
from agentdur.wire import messages as m
from agentdur.wire.proto import (
    Fields,
    Malformed,
    blob,
    blobs,
    decoded,
    number,
    numbers,
    put_blob,
    put_number,
    put_packed,
    put_text,
    read,
    text,
)
from agentdur.wire.values import DURATION_MS_MAX, completion_id, failure_of, put_failure

_BEHAVIORS: tuple[Literal["retry", "pause", "fail"], ...] = ("retry", "pause", "fail")
_TREES_FROM = 7


class Row(NamedTuple):
    """A control message's word, and its two directions."""

    word: type
    read: Callable[[Fields, int], Any]
    write: Callable[[Any, int], bytes]


def _start(f: Fields, version: int) -> m.Start:
    state = []
    for entry in blobs(f, 4):
        e = read(entry)
        state.append((text(e, 1) or "", blob(e, 2) or b""))
    return m.Start(
        id=blob(f, 1) or b"", debug_id=text(f, 2) or "", known_entries=number(f, 3) or 0, state=tuple(state),
        partial_state=bool(number(f, 5)), key=text(f, 6) or "", retry_count=number(f, 7) or 0,
        duration_ms=number(f, 8) or 0, random_seed=number(f, 9), scope=text(f, 10), limit_key=text(f, 11),
        idempotency_key=text(f, 12),
    )  # fmt: skip


def _write_start(w: m.Start, version: int) -> bytes:
    state = b"".join(
        [put_blob(4, put_text(1, name) + put_blob(2, value), always=True) for name, value in w.state]
    )
    body = (
        put_blob(1, w.id) + put_text(2, w.debug_id) + put_number(3, w.known_entries) + state
        + put_number(5, int(w.partial_state)) + put_text(6, w.key) + put_number(7, w.retry_count)
        + put_number(8, w.duration_ms)
    )  # fmt: skip
    if version >= 6:
        body += put_number(9, w.random_seed)
    if version >= _TREES_FROM:
        body += put_text(10, w.scope, always=True) + put_text(11, w.limit_key, always=True)
        body += put_text(12, w.idempotency_key, always=True)
    return body


def _future(data: bytes, level: int = 1) -> j.Awaiting:
    if level > NESTING_MAX:
        raise FutureTooDeep(f"more than {NESTING_MAX} levels")
    f = read(data)
    combinator = number(f, 5) or 0
    if combinator >= len(j.Combinator):
        combinator = 0  # of a later version: whatever comes, the handler decides
    return j.Awaiting(
        numbers(f, 1), (*numbers(f, 2), *_names(f)),
        tuple(_future(inner, level + 1) for inner in blobs(f, 4)), j.Combinator(combinator),
    )  # fmt: skip


def _names(f: Fields) -> list[str]:
    return [decoded(name, 3) for name in f.get(3, ())]


def _put_future(awaiting: j.Awaiting) -> bytes:
    nested = b"".join([put_blob(4, _put_future(inner), always=True) for inner in awaiting.nested])
    return _put_leaves(awaiting) + nested + put_number(5, awaiting.combinator.value)


def _put_leaves(awaiting: j.Awaiting) -> bytes:
    indexes = tuple(signal for signal in awaiting.signals if isinstance(signal, int))
    names = [put_text(3, signal, always=True) for signal in awaiting.signals if isinstance(signal, str)]
    return put_packed(1, awaiting.completions) + put_packed(2, indexes) + b"".join(names)


def _nonempty(awaiting: j.Awaiting) -> j.Awaiting:
    if not (awaiting.completions or awaiting.signals or awaiting.nested):
        raise Malformed("it waits for nothing")
    return awaiting


def _suspension(f: Fields, version: int) -> m.Suspension:
    if version < _TREES_FROM:
        return m.Suspension(_nonempty(j.Awaiting(numbers(f, 1), (*numbers(f, 2), *_names(f)))))
    return m.Suspension(_tree(f, 4))


def _tree(f: Fields, at: int) -> j.Awaiting:
    inner = blob(f, at)
    if inner is None:
        raise Malformed("it waits for nothing")
    return _nonempty(_future(inner))


def flat(awaiting: j.Awaiting) -> j.Awaiting:
    """Any of all leaves: what V5 and V6 can say. Waking too early costs a replay, never a result."""
    completions, signals = [*awaiting.completions], [*awaiting.signals]
    todo = [*awaiting.nested]
    while todo:
        node = todo.pop(0)
        completions += node.completions
        signals += node.signals
        todo += node.nested
    return j.Awaiting(tuple(dict.fromkeys(completions)), tuple(dict.fromkeys(signals)))


def _write_suspension(w: m.Suspension, version: int) -> bytes:
    if version < _TREES_FROM:
        return _put_leaves(flat(w.awaiting))
    return put_blob(4, _put_future(w.awaiting), always=True)


def _error(f: Fields, version: int) -> m.Error:
    behavior = number(f, 9) or 0
    delay = number(f, 8)
    if delay is not None:
        delay = min(delay, DURATION_MS_MAX)
    return m.Error(
        code=number(f, 1) or 0, message=text(f, 2) or "", stacktrace=text(f, 3) or "",
        related_command_index=number(f, 4), related_command_name=text(f, 5),
        related_command_type=number(f, 6), next_retry_delay_ms=delay,
        behavior=_BEHAVIORS[behavior] if behavior < len(_BEHAVIORS) else "retry",
    )  # fmt: skip


def _write_error(w: m.Error, version: int) -> bytes:
    return (
        put_number(1, w.code) + put_text(2, w.message) + put_text(3, w.stacktrace)
        + put_number(4, w.related_command_index, always=True)
        + put_text(5, w.related_command_name, always=True)
        + put_number(6, w.related_command_type, always=True)
        + put_number(8, w.next_retry_delay_ms, always=True) + put_number(9, _BEHAVIORS.index(w.behavior))
    )  # fmt: skip


def _proposal(f: Fields, version: int) -> m.ProposeRunCompletion:
    value = blob(f, 14)
    if value is not None:
        return m.ProposeRunCompletion(completion_id(f, 1), j.Success(value))
    inner = blob(f, 15)
    if inner is None:
        raise Malformed("neither a value nor a failure")
    return m.ProposeRunCompletion(completion_id(f, 1), failure_of(inner))


def _write_proposal(w: m.ProposeRunCompletion, version: int) -> bytes:
    head = put_number(1, w.completion)
    if isinstance(w.result, j.Success):
        return head + put_blob(14, w.result.value, always=True)
    return head + put_failure(15, w.result, version)


CONTROLS: dict[int, Row] = {
    0x0000: Row(m.Start, _start, _write_start),
    0x0001: Row(m.Suspension, _suspension, _write_suspension),
    0x0002: Row(m.Error, _error, _write_error),
    0x0003: Row(m.End, lambda f, v: m.End(), lambda w, v: b""),
    0x0004: Row(
        m.CommandAck,
        lambda f, v: m.CommandAck(number(f, 1) or 0),
        lambda w, v: put_number(1, w.command_index),
    ),
    0x0005: Row(m.ProposeRunCompletion, _proposal, _write_proposal),
    0x0006: Row(
        m.AwaitingOn,
        lambda f, v: m.AwaitingOn(_tree(f, 1), bool(number(f, 2))),
        lambda w, v: put_blob(1, _put_future(w.awaiting)) + put_number(2, int(w.executing_side_effects)),
    ),
    0x0007: Row(
        m.ProposeRunCompletionAck,
        lambda f, v: m.ProposeRunCompletionAck(completion_id(f, 1)),
        lambda w, v: put_number(1, w.completion),
    ),
}
