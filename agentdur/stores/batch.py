"""One commit as parameters of one SQL statement.

The statement is an insert into the view `door`, which has a column per part of a commit; triggers hand each
part to its table. So a commit of any size crosses into SQLite once, and is one transaction by itself.

Rules of this file:
1. A part is a JSON array of rows, null when there are none. Bytes are not in it: they are sliced out of one
   blob that all parts share, by offset (from 1) and length.
2. The order of parts that touch the same table is the order of the fields of `Writes`.
3. SQLite cuts JSON text at a NUL character. A commit that has one, or more bytes than one parameter may
   have, is `slow`: written row by row, with the same result.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from agentdur.core.journal import Failure, Success
from agentdur.core.ports import Saved, Writes
from agentdur.core.state import Edit, PromiseState
from agentdur.stores.entries import WRITERS
from agentdur.stores.invocations import (
    HEAD_COLUMNS,
    JSON_COLUMNS,
    SPEC_COLUMNS,
    head_values,
    spec_values,
)

BYTES_PER_BATCH_MAX = 500_000_000
"""Above it a commit is written row by row; SQLite takes at most a billion bytes in one parameter."""

Rows: TypeAlias = list[tuple[Any, ...]]
OBJECT = ("service", "scope", "key")


class Part(NamedTuple):
    """What a part does to its table. A row has the `columns`, then offset and length of `payload`."""

    name: str
    table: str
    verb: Literal["insert", "replace", "update", "delete"]
    columns: tuple[str, ...]
    payload: str | None = None
    json: frozenset[str] = frozenset()


PARTS = (
    Part("gone", "invocation", "delete", ("seq",)),
    Part("born", "invocation", "insert", (*SPEC_COLUMNS, *HEAD_COLUMNS), "result", JSON_COLUMNS),
    Part("changed", "invocation", "update", ("seq", *HEAD_COLUMNS), "result", JSON_COLUMNS),
    Part(
        "entries", "journal", "insert",
        ("seq", "idx", "kind", "name", "branch", "completion", "detail", "at"),
        "payload", frozenset({"detail"}),
    ),
    Part("journal_drops", "journal", "delete", ("seq",)),
    Part("values_dropped", "state", "delete", OBJECT),
    Part("values_removed", "state", "delete", (*OBJECT, "name")),
    Part("values_set", "state", "replace", (*OBJECT, "name"), "value"),
    Part("unlocked", "lock", "delete", OBJECT),
    Part("locked", "lock", "replace", (*OBJECT, "holder")),
    Part(
        "queued", "inbox", "replace",
        (*OBJECT, "position", "invocation", "edit"), None, frozenset({"edit"}),
    ),
    Part("dequeued", "inbox", "delete", (*OBJECT, "position")),
    Part("promises_dropped", "promise", "delete", OBJECT),
    Part(
        "promises", "promise", "replace",
        (*OBJECT, "name", "failure", "waiters"), "result", frozenset({"failure", "waiters"}),
    ),
    Part("timers_set", "timer", "replace", ("at", "seq", "completion")),
    Part("timers_dropped", "timer", "delete", ("at", "seq", "completion")),
)  # fmt: skip


class Batch(NamedTuple):
    """A prepared commit: `parts` in the order of PARTS as JSON text, `blob` with all their bytes."""

    parts: tuple[str | None, ...]
    blob: bytes
    slow: bool


class _Bytes:
    """Collects bytes; a place in it is (offset from 1, length), or two nulls for None."""

    __slots__ = ("chunks", "end")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.end = 1

    def put(self, value: bytes | None) -> tuple[int | None, int | None]:
        if value is None:
            return None, None
        start, size = self.end, len(value)
        self.chunks.append(value)
        self.end = start + size
        return start, size


def make_batch(writes: Writes) -> Batch:
    """All of `writes` as one batch."""
    blob = _Bytes()
    rows: dict[str, Rows] = {part.name: [] for part in PARTS}
    _invocations(writes.invocations, rows, blob)
    _journal(writes, rows["entries"], blob)
    rows["journal_drops"] = [(seq,) for seq in writes.journal_drops]
    _keys(writes, rows, blob)
    rows["timers_set"] = [(timer.at, timer.seq, timer.completion) for timer in writes.timers]
    rows["timers_dropped"] = [(timer.at, timer.seq, timer.completion) for timer in writes.timer_drops]
    encode = msgspec.json.encode
    parts = tuple(encode(part).decode() if (part := rows[each.name]) else None for each in PARTS)
    slow = blob.end > BYTES_PER_BATCH_MAX or any(part is not None and "\\u0000" in part for part in parts)
    return Batch(parts, b"".join(blob.chunks), slow)


def _invocations(invocations: dict[int, Saved | None], rows: dict[str, Rows], blob: _Bytes) -> None:
    gone, born, changed = rows["gone"], rows["born"], rows["changed"]
    for seq, saved in invocations.items():
        if saved is None:
            gone.append((seq,))
            continue
        result = saved.head.result
        place = blob.put(result.value if type(result) is Success else None)
        if saved.new:
            born.append((*spec_values(seq, saved.spec), *head_values(saved), *place))
        else:
            changed.append((seq, *head_values(saved), *place))


def _journal(writes: Writes, rows: Rows, blob: _Bytes) -> None:
    chunks, start = blob.chunks, blob.end
    for seq, index, entry, at in writes.journal:
        kind, name, branch, completion, payload, detail = WRITERS[type(entry)](entry)
        if payload is None:
            rows.append((seq, index, kind, name, branch, completion, detail, at, None, None))
        else:
            size = len(payload)
            rows.append((seq, index, kind, name, branch, completion, detail, at, start, size))
            chunks.append(payload)
            start += size
    blob.end = start


def _keys(writes: Writes, rows: dict[str, Rows], blob: _Bytes) -> None:
    rows["values_dropped"] = [(o.service, o.scope, o.key) for o in writes.values_dropped]
    for (o, name), value in writes.values.items():
        if value is None:
            rows["values_removed"].append((o.service, o.scope, o.key, name))
        else:
            rows["values_set"].append((o.service, o.scope, o.key, name, *blob.put(value)))
    for o, holder in writes.locks.items():
        if holder is None:
            rows["unlocked"].append((o.service, o.scope, o.key))
        else:
            rows["locked"].append((o.service, o.scope, o.key, holder))
    for (o, position), item in writes.inbox.items():
        waiting = (None, item) if isinstance(item, Edit) else (item, None)
        rows["queued"].append((o.service, o.scope, o.key, position, *waiting))
    rows["dequeued"] = [(o.service, o.scope, o.key, position) for o, position in writes.inbox_drops]
    rows["promises_dropped"] = [(o.service, o.scope, o.key) for o in writes.promise_drops]
    for p, state in writes.promises.items():
        rows["promises"].append((p.service, p.scope, p.key, p.name, *_promise(state, blob)))


def _promise(state: PromiseState, blob: _Bytes) -> tuple[Any, ...]:
    result = state.result
    payload = result.value if isinstance(result, Success) else None
    return (result if isinstance(result, Failure) else None, state.waiters or None, *blob.put(payload))
