"""Each command's fields: how it is read and how it is written.

Rules of this file:
1. `write` gives what comes before the name (field 12) and what comes after it.
2. The field numbers of Call and OneWayCall differ by one from 4 on; they are written out, not shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from agentdur.wire.proto import (
    Fields,
    Malformed,
    blob,
    number,
    put_blob,
    put_number,
    put_text,
    read,
    text,
)
from agentdur.wire.values import (
    command_result,
    completion_id,
    headers_of,
    instant,
    key_of,
    keys_of,
    outcome_of,
    put_headers,
    put_keys,
    put_outcome,
    put_result,
    put_value,
    required_text,
    value_of,
)

Common = dict[str, str]
"""Name and branch of a command."""


class Row(NamedTuple):
    """A command's word, and its two directions."""

    word: type
    read: Callable[[Fields, int, Common], Any]
    write: Callable[[Any, int], tuple[bytes, bytes]]


def _input(f: Fields, version: int, c: Common) -> j.Input:
    return j.Input(headers=headers_of(f, 1), value=value_of(f, 14) or b"", **c)


def _output(f: Fields, version: int, c: Common) -> j.Output:
    return j.Output(result=command_result(f, 14, 15), **c)


def _lazy_state(f: Fields, version: int, c: Common) -> j.GetLazyState:
    return j.GetLazyState(key=key_of(f, 1), completion=completion_id(f, 11), **c)


def _set_state(f: Fields, version: int, c: Common) -> j.SetState:
    return j.SetState(key=key_of(f, 1), value=value_of(f, 3) or b"", **c)


def _eager_state(f: Fields, version: int, c: Common) -> j.GetEagerState:
    value = value_of(f, 14)
    if value is None and blob(f, 13) is None:
        raise Malformed("neither a value nor void")
    return j.GetEagerState(key=key_of(f, 1), value=value, **c)


def _eager_keys(f: Fields, version: int, c: Common) -> j.GetEagerStateKeys:
    return j.GetEagerStateKeys(keys=keys_of(blob(f, 14) or b""), **c)


def _get_promise(f: Fields, version: int, c: Common) -> j.GetPromise:
    return j.GetPromise(key=text(f, 1) or "", completion=completion_id(f, 11), **c)


def _peek_promise(f: Fields, version: int, c: Common) -> j.PeekPromise:
    return j.PeekPromise(key=text(f, 1) or "", completion=completion_id(f, 11), **c)


def _complete_promise(f: Fields, version: int, c: Common) -> j.CompletePromise:
    return j.CompletePromise(
        key=text(f, 1) or "", result=command_result(f, 2, 3), completion=completion_id(f, 11), **c
    )


def _sleep(f: Fields, version: int, c: Common) -> j.Sleep:
    return j.Sleep(wake_at=instant(f, 1), completion=completion_id(f, 11), **c)


def _call(f: Fields, version: int, c: Common) -> j.Call:
    return j.Call(
        service=required_text(f, 1), handler=required_text(f, 2), parameter=blob(f, 3) or b"",
        headers=headers_of(f, 4), key=text(f, 5) or None, idempotency_key=text(f, 6),
        scope=text(f, 7) or "", limit_key=text(f, 8) or "",
        id_completion=completion_id(f, 10), completion=completion_id(f, 11), **c,
    )  # fmt: skip


def _write_call(w: j.Call, version: int) -> tuple[bytes, bytes]:
    return (
        put_text(1, w.service) + put_text(2, w.handler) + put_blob(3, w.parameter) + put_headers(4, w.headers)
        + put_text(5, w.key) + put_text(6, w.idempotency_key, always=True) + _labels(7, w, version)
        + put_number(10, w.id_completion) + put_number(11, w.completion)
    ), b""  # fmt: skip


def _one_way(f: Fields, version: int, c: Common) -> j.OneWayCall:
    return j.OneWayCall(
        service=required_text(f, 1), handler=required_text(f, 2), parameter=blob(f, 3) or b"",
        invoke_at=instant(f, 4), headers=headers_of(f, 5), key=text(f, 6) or None,
        idempotency_key=text(f, 7), scope=text(f, 8) or "", limit_key=text(f, 9) or "",
        id_completion=completion_id(f, 10), **c,
    )  # fmt: skip


def _write_one_way(w: j.OneWayCall, version: int) -> tuple[bytes, bytes]:
    return (
        put_text(1, w.service) + put_text(2, w.handler) + put_blob(3, w.parameter)
        + put_number(4, w.invoke_at) + put_headers(5, w.headers) + put_text(6, w.key)
        + put_text(7, w.idempotency_key, always=True)
        + _labels(8, w, version) + put_number(10, w.id_completion)
    ), b""  # fmt: skip


def _labels(at: int, w: j.Call | j.OneWayCall, version: int) -> bytes:
    if version < 7:
        return b""
    return put_text(at, w.scope) + put_text(at + 1, w.limit_key)


def _send_signal(f: Fields, version: int, c: Common) -> j.SendSignal:
    index, name = number(f, 2), text(f, 3)
    if index is None and name is None:
        raise Malformed("a signal without index or name")
    outcome = outcome_of(f, void=4, value=5, failure=6)
    signal: int | str = index if index is not None else name or ""
    return j.SendSignal(target=InvocationId(required_text(f, 1)), signal=signal, outcome=outcome, **c)


def _write_signal(w: j.SendSignal, version: int) -> tuple[bytes, bytes]:
    if isinstance(w.signal, int):
        which = put_number(2, w.signal, always=True)
    else:
        which = put_text(3, w.signal, always=True)
    return put_text(1, w.target) + which + put_outcome(w.outcome, version, void=4, value=5, failure=6), b""


def _run(f: Fields, version: int, c: Common) -> j.Run:
    return j.Run(completion=completion_id(f, 11), **c)


def _target_of(f: Fields) -> j.AttachTarget:
    invocation = text(f, 1)
    if invocation is not None:
        return j.InvocationRef(InvocationId(invocation))
    inner = blob(f, 3)
    if inner is not None:
        t = read(inner)
        return j.IdempotentRef(
            required_text(t, 1), required_text(t, 3), text(t, 4) or "", text(t, 2) or None, text(t, 5) or ""
        )
    inner = blob(f, 4)
    if inner is None:
        raise Malformed("nothing to attach to")
    t = read(inner)
    return j.WorkflowRef(required_text(t, 1), text(t, 2) or "", text(t, 3) or "")


def _put_target(target: j.AttachTarget) -> bytes:
    match target:
        case j.InvocationRef(invocation_id=invocation):
            return put_text(1, invocation, always=True)
        case j.IdempotentRef():
            inner = (
                put_text(1, target.service) + put_text(2, target.key) + put_text(3, target.handler)
                + put_text(4, target.idempotency_key) + put_text(5, target.scope)
            )  # fmt: skip
            return put_blob(3, inner, always=True)
        case j.WorkflowRef():
            inner = put_text(1, target.name) + put_text(2, target.key) + put_text(3, target.scope)
            return put_blob(4, inner, always=True)


def _attach(f: Fields, version: int, c: Common) -> j.AttachInvocation:
    return j.AttachInvocation(target=_target_of(f), completion=completion_id(f, 11), **c)


def _get_output(f: Fields, version: int, c: Common) -> j.GetInvocationOutput:
    return j.GetInvocationOutput(target=_target_of(f), completion=completion_id(f, 11), **c)


def _awakeable(f: Fields, version: int, c: Common) -> j.CompleteAwakeable:
    return j.CompleteAwakeable(awakeable=text(f, 1) or "", result=command_result(f, 2, 3), **c)


def _keyed(at: int, key: str) -> bytes:
    return put_text(at, key)


COMMANDS: dict[int, Row] = {
    0x0400: Row(j.Input, _input, lambda w, v: (put_headers(1, w.headers), put_value(14, w.value))),
    0x0401: Row(j.Output, _output, lambda w, v: (b"", put_result(w.result, v, 14, 15))),
    0x0402: Row(
        j.GetLazyState, _lazy_state, lambda w, v: (_keyed(1, w.key) + put_number(11, w.completion), b"")
    ),
    0x0403: Row(j.SetState, _set_state, lambda w, v: (_keyed(1, w.key) + put_value(3, w.value), b"")),
    0x0404: Row(
        j.ClearState,
        lambda f, v, c: j.ClearState(key=key_of(f, 1), **c),
        lambda w, v: (_keyed(1, w.key), b""),
    ),
    0x0405: Row(j.ClearAllState, lambda f, v, c: j.ClearAllState(**c), lambda w, v: (b"", b"")),
    0x0406: Row(
        j.GetLazyStateKeys,
        lambda f, v, c: j.GetLazyStateKeys(completion=completion_id(f, 11), **c),
        lambda w, v: (put_number(11, w.completion), b""),
    ),
    0x0407: Row(
        j.GetEagerState,
        _eager_state,
        lambda w, v: (
            _keyed(1, w.key),
            put_blob(13, b"", always=True) if w.value is None else put_value(14, w.value),
        ),
    ),
    0x0408: Row(
        j.GetEagerStateKeys, _eager_keys, lambda w, v: (b"", put_blob(14, put_keys(w.keys), always=True))
    ),
    0x0409: Row(
        j.GetPromise, _get_promise, lambda w, v: (put_text(1, w.key) + put_number(11, w.completion), b"")
    ),
    0x040A: Row(
        j.PeekPromise, _peek_promise, lambda w, v: (put_text(1, w.key) + put_number(11, w.completion), b"")
    ),
    0x040B: Row(
        j.CompletePromise,
        _complete_promise,
        lambda w, v: (put_text(1, w.key) + put_result(w.result, v, 2, 3) + put_number(11, w.completion), b""),
    ),
    0x040C: Row(j.Sleep, _sleep, lambda w, v: (put_number(1, w.wake_at) + put_number(11, w.completion), b"")),
    0x040D: Row(j.Call, _call, _write_call),
    0x040E: Row(j.OneWayCall, _one_way, _write_one_way),
    0x0410: Row(j.SendSignal, _send_signal, _write_signal),
    0x0411: Row(j.Run, _run, lambda w, v: (put_number(11, w.completion), b"")),
    0x0412: Row(
        j.AttachInvocation, _attach, lambda w, v: (_put_target(w.target) + put_number(11, w.completion), b"")
    ),
    0x0413: Row(
        j.GetInvocationOutput,
        _get_output,
        lambda w, v: (_put_target(w.target) + put_number(11, w.completion), b""),
    ),
    0x0414: Row(
        j.CompleteAwakeable,
        _awakeable,
        lambda w, v: (put_text(1, w.awakeable) + put_result(w.result, v, 2, 3), b""),
    ),
}
