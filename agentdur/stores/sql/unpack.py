"""What columns are made of that SQLite does not compute: one function each, from packed text.

Rules of this file:
1. A function gives the column's Python value. It trusts its input: a view of ours packed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from agentdur.core.ids import InvocationId, partition_key, partition_key_of
from agentdur.core.journal import CANCEL_SIGNAL, Awaiting, Combinator, Failure
from agentdur.stores.entries import Stored, read_entry
from agentdur.stores.sql import entry_json as shown

Unpack = Callable[[Any], Any]

_AWAITING = msgspec.json.Decoder(Awaiting)
_FAILURE = msgspec.json.Decoder(Failure)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

_COMBINATORS = {
    Combinator.FIRST_COMPLETED: "FirstCompleted", Combinator.ALL_COMPLETED: "AllCompleted",
    Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED: "FirstSucceededOrAllFailed",
    Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED: "AllSucceededOrFirstFailed", Combinator.UNKNOWN: "Unknown",
}  # fmt: skip


def partition_of_id(packed: str) -> int:
    """The partition key of an invocation's id."""
    return partition_key_of(InvocationId(packed))


def partition_of_key(packed: str) -> int:
    """The partition key of a key of an object."""
    key, scope = _decode(packed)
    return partition_key("", key, bucket=0, scope=scope or None)


def utf8(packed: bytes) -> str | None:
    """The text that the bytes are, None when they are none."""
    try:
        return packed.decode()
    except UnicodeDecodeError:
        return None


def _nodes(packed: str) -> list[Awaiting]:
    found, todo = [], [_AWAITING.decode(packed)]
    while todo:
        node = todo.pop(0)
        found.append(node)
        todo += node.nested
    return found


def completions(packed: str) -> list[int]:
    """The completion ids that are waited for."""
    return sorted({one for node in _nodes(packed) for one in node.completions})


def signals(packed: str) -> list[int]:
    """The signal indexes that are waited for."""
    return sorted({one for node in _nodes(packed) for one in node.signals if isinstance(one, int)})


def waiting_on(packed: str) -> str | None:
    """What is waited for, in words; a cancel alone is waited for by all."""
    words = [
        *(f"completion {one}" for one in completions(packed)),
        *(f"awakeable {one}" for one in signals(packed) if one != CANCEL_SIGNAL),
        *sorted({f"signal {one}" for node in _nodes(packed) for one in node.signals if isinstance(one, str)}),
    ]
    return ", ".join(words) or None


def future(packed: str) -> str:
    """What is waited for, as the API's tree."""
    return _encode(_future(_AWAITING.decode(packed))).decode()


def _future(node: Awaiting) -> dict[str, Any]:
    leaves: list[dict[str, Any]] = [{"Single": {"CompletionId": one}} for one in node.completions]
    for signal in node.signals:
        leaves.append({"Single": {"SignalName" if isinstance(signal, str) else "SignalIndex": signal}})
    return {_COMBINATORS[node.combinator]: [*leaves, *(_future(child) for child in node.nested)]}


def failure_of(packed: str) -> Failure:
    """A failure as it is stored."""
    return _FAILURE.decode(packed)


def event(packed: str) -> str:
    """An entry of sys_journal_events."""
    status, failed, index, name, kind = _decode(packed)
    failure = shown.transient(failure_of(failed), index, name, kind)
    if status == "paused":
        return _encode({"ty": "Paused", "last_failure": failure}).decode()
    return _encode({"ty": "TransientError", **failure}).decode()


def _stored(packed: str) -> tuple[Any, str]:
    kind, name, branch, completion, payload, detail, id, _ = _decode(packed)
    value = None if payload is None else bytes.fromhex(payload)
    return read_entry(Stored(kind, name, branch, completion, value, detail)), id


def entry_json(packed: str) -> str:
    """A journal entry with its payloads."""
    return _encode(shown.full(*_stored(packed))).decode()


def entry_lite_json(packed: str) -> str:
    """A journal entry without its payloads."""
    return _encode(shown.lite(*_stored(packed))).decode()


def raw(packed: str) -> bytes:
    """A journal entry as the protocol's message."""
    return shown.body(_stored(packed)[0], _decode(packed)[-1])


def raw_length(packed: str) -> int:
    """Its bytes."""
    return len(raw(packed))


UNPACK: dict[str, Unpack] = {
    one.__name__: one
    for one in (
        partition_of_id, partition_of_key, utf8, completions, signals, waiting_on, future, event, entry_json,
        entry_lite_json, raw, raw_length,
    )
}  # fmt: skip
