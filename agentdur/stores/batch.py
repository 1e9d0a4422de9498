"""One commit as parameters of one SQL statement.

The statement is an insert into a view, a door, which has a column per part of a commit; triggers hand each
part to its table. So a commit of any size crosses into SQLite once, and is one transaction by itself.

Rules of this file:
1. A part is a JSON array of rows, null when there is none. What rows of a commit have in common (kind, name,
   times, …) is said once: a row of a part with `members` stands for all its members, an object whose key and
   value SQLite hands over without parsing anything again. That is most of what a commit costs.
2. Bytes are not in the JSON: they are sliced out of one blob that all parts share. A place in it is one
   number, offset (from 1) and length; null stays null.
3. The order of parts that touch the same table is the order of the fields of `Writes`.
4. SQLite cuts JSON text at a NUL character. A commit that has one, or more bytes than one parameter may
   have, is written row by row, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import astuple

from agentdur.core.errors import StoreFailed
from agentdur.core.journal import Failure, Success
from agentdur.core.ports import Saved, Timer, Writes
from agentdur.core.state import Edit, FailedAttempt, PromiseState
from agentdur.stores.entries import WRITERS
from agentdur.stores.invocations import (
    HEAD_COLUMNS,
    JSON_COLUMNS,
    LATEST,
    SPEC_COLUMNS,
    head_values,
    spec_values,
)

BYTES_PER_BATCH_MAX = 500_000_000
"""Above it a commit is written row by row; one parameter takes at most BYTES_PER_VALUE_MAX."""
BYTES_PER_VALUE_MAX = 1_000_000_000
"""What SQLite takes in one value."""
ENTRIES_PER_JOURNAL_MAX = 1 << 24
"""A journal's number and an entry's index share one number in a batch."""

ATTEMPT_COLUMNS = FailedAttempt.__struct_fields__
Rows: TypeAlias = list[tuple[Any, ...]]
OBJECT = ("service", "scope", "key")

_INDEX_BITS = 24
_LENGTH_BITS = 31
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1


class Member(NamedTuple):
    """A column of a member `m`, in SQL and in Python, from its key and value."""

    column: str
    sql: str
    read: Callable[[Any, Any], Any]


class Part(NamedTuple):
    """What a part does to its table.

    A row has the `columns`, then the object of its members when there are any, else the place of its
    `payload` when it has one. A member says by `place` where its payload is: its value, if nothing else.
    """

    name: str
    table: str
    verb: Literal["insert", "replace", "update", "delete"]
    columns: tuple[str, ...]
    payload: str | None = None
    json: frozenset[str] = frozenset()
    members: tuple[Member, ...] = ()
    place: Member = Member("", "m.value", lambda _, value: value)


def _own(column: str, n: int) -> Member:
    """A column that only some invocations have: their value is an array, that of the others is the place."""
    sql = f"iif(m.atom is null, m.value->>{n}, null)"
    return Member(column, sql, lambda _, value: value[n] if isinstance(value, tuple) else None)


_SEQ_BASE = 10**18
_SEQ_DIGITS = 19
"""The member's key is the seq and this number, which have so many digits, then the id."""
_INVOCATION_BORN = (
    Member("id", f"substr(m.key, {_SEQ_DIGITS + 1})", lambda key, _: key[_SEQ_DIGITS:]),
    Member(
        "seq",
        f"cast(substr(m.key, 1, {_SEQ_DIGITS}) as integer) - {_SEQ_BASE}",
        lambda key, _: int(key[:_SEQ_DIGITS]) - _SEQ_BASE,
    ),
    _own("key", 0),
    _own("caller", 1),
    _own("idempotency_key", 2),
)
_RESULT_BORN = Member(
    "result",
    "coalesce(m.atom, m.value->>3)",
    lambda _, value: value[3] if isinstance(value, tuple) else value,
)
_INVOCATION = (Member("seq", "cast(m.key as integer)", lambda key, _: key),)
_ENTRY = (
    Member("seq", f"m.key >> {_INDEX_BITS}", lambda key, _: key >> _INDEX_BITS),
    Member("idx", f"m.key & {ENTRIES_PER_JOURNAL_MAX - 1}", lambda key, _: key & ENTRIES_PER_JOURNAL_MAX - 1),
)

PARTS = (
    Part("gone", "invocation", "delete", ("seq",)),
    Part(
        "born", "invocation", "insert",
        (*SPEC_COLUMNS, *HEAD_COLUMNS), "result", JSON_COLUMNS, _INVOCATION_BORN, _RESULT_BORN,
    ),
    Part("changed", "invocation", "update", HEAD_COLUMNS, "result", JSON_COLUMNS, _INVOCATION),
    Part(
        "entries", "journal", "insert",
        ("kind", "name", "branch", "completion", "detail", "at"), "payload", frozenset({"detail"}), _ENTRY,
    ),
    Part("journal_drops", "journal", "delete", ("seq",)),
    Part("attempts_set", "attempt", "replace", ("seq", *ATTEMPT_COLUMNS)),
    Part("attempts_dropped", "attempt", "delete", ("seq", "number")),
    Part("attempts_gone", "attempt", "delete", ("seq",)),
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
    Part("deployments_dropped", "deployment", "delete", ("id",)),
    Part("deployments_set", "deployment", "replace", ("id",), "record"),
    Part("messages_dropped", "message", "delete", ("hash",)),
    Part("messages_set", "message", "replace", ("hash", "parent", "used_at"), "value"),
)  # fmt: skip


DOORS: tuple[tuple[str, ...], ...] = (
    ("entries",),
    ("born", "changed", "entries"),
    ("born", "changed", "entries", "messages_set"),
    ("born", "changed", "entries", "attempts_set", "attempts_dropped"),
    ("born", "changed", "entries", "timers_set", "timers_dropped"),
    ("born", "changed", "entries", "values_set", "unlocked", "locked", "queued", "dequeued"),
    tuple(part.name for part in PARTS),
)
"""What may pass by each door. The first one that is wide enough is taken: the wider, the dearer."""
_DOORS = [frozenset(names) for names in DOORS]


_WITH_MEMBERS = frozenset(part.name for part in PARTS if part.members)


class Batch(NamedTuple):
    """A prepared commit: the door, and its parts as JSON text, with all their bytes as the last parameter.

    When `by_row` is given it takes their place: the values of columns, members and payload for each row.
    """

    door: int
    parameters: tuple[str | bytes | None, ...]
    by_row: tuple[tuple[Part, Rows], ...] = ()


class _Bytes:
    """Collects bytes; a place in it is offset from 1 and length in one number, None for None."""

    __slots__ = ("chunks", "end")

    def __init__(self) -> None:
        # Never empty: SQLite cuts nothing, not even nothing, out of an empty blob.
        self.chunks: list[bytes] = [b"."]
        self.end = 2

    def put(self, value: bytes | None) -> int | None:
        if value is None:
            return None
        size = len(value)
        place = self.end << _LENGTH_BITS | size
        self.chunks.append(value)
        self.end += size
        return place


def place_sql(place: str) -> str:
    """The bytes at a place, in SQL."""
    return f"substr(new.blob, {place} >> {_LENGTH_BITS}, {place} & {_LENGTH_MASK})"


def make_batch(writes: Writes) -> Batch:
    """All of `writes` as one batch."""
    blob = _Bytes()
    rows: dict[str, Rows] = {}
    if writes.invocations:
        _invocations(writes.invocations, rows, blob)
    if writes.journal:
        rows["entries"] = _journal(writes, blob)
    if writes.journal_drops:
        rows["journal_drops"] = [(seq,) for seq in writes.journal_drops]
    _attempts(writes, rows)
    _keys(writes, rows, blob)
    if writes.timers:
        rows["timers_set"] = [_timer(timer) for timer in writes.timers]
    if writes.timer_drops:
        rows["timers_dropped"] = [_timer(timer) for timer in writes.timer_drops]
    for deployment, record in writes.deployments.items():
        if record is None:
            rows.setdefault("deployments_dropped", []).append((deployment,))
        else:
            rows.setdefault("deployments_set", []).append((deployment, blob.put(record)))
    if writes.message_drops:
        rows["messages_dropped"] = [(name,) for name in writes.message_drops]
    if writes.messages:
        rows["messages_set"] = [
            (name, parent, used_at, blob.put(value))
            for name, (parent, value, used_at) in writes.messages.items()
        ]
    if blob.end > BYTES_PER_BATCH_MAX:
        return _by_row(rows, blob)
    texts = {name: _text(name, part) for name, part in rows.items()}
    for text in texts.values():
        if "\\u0000" in text:
            return _by_row(rows, blob)
    given = texts.keys()
    door = next(n for n, names in enumerate(_DOORS) if given <= names)
    return Batch(door, (*map(texts.get, DOORS[door]), b"".join(blob.chunks)))


def _text(name: str, rows: Rows) -> str:
    if name in _WITH_MEMBERS:
        rows = [(*row[:-1], msgspec.json.encode(row[-1]).decode()) for row in rows]
    return msgspec.json.encode(rows).decode()


def _invocations(invocations: dict[int, Saved | None], rows: dict[str, Rows], blob: _Bytes) -> None:
    gone: Rows = []
    born: dict[tuple[Any, ...], dict[str, Any]] = {}
    changed: dict[tuple[Any, ...], dict[int, int | None]] = {}
    for seq, saved in invocations.items():
        if saved is None:
            gone.append((seq,))
            continue
        values = head_values(saved)
        result = saved.head.result
        place = blob.put(result.value) if type(result) is Success else None
        if saved.new:
            spec = saved.spec
            key, caller, request = spec.target.key, spec.caller, spec.idempotency_key
            plain = key is None and caller is None and request is None
            own = place if plain else (key, caller, request, place)
            born.setdefault(spec_values(spec) + values, {})[f"{seq + _SEQ_BASE}{spec.id}"] = own
        else:
            changed.setdefault(values, {})[seq] = place
    if gone:
        rows["gone"] = gone
    if born:
        rows["born"] = [(*values, members) for values, members in born.items()]
    if changed:
        rows["changed"] = [(*values, members) for values, members in changed.items()]


def _journal(writes: Writes, blob: _Bytes) -> Rows:
    rows: Rows = []
    groups: dict[tuple[Any, ...], dict[int, int | None]] = {}
    chunks, end = blob.chunks, blob.end
    for seq, index, entry, at in writes.journal:
        kind, name, branch, completion, payload, detail = WRITERS[type(entry)](entry)
        if payload is None:
            place = None
        else:
            size = len(payload)
            place = end << _LENGTH_BITS | size
            chunks.append(payload)
            end += size
        position = seq << _INDEX_BITS | index
        if index >= ENTRIES_PER_JOURNAL_MAX:
            raise StoreFailed(f"journal {seq} has more than {ENTRIES_PER_JOURNAL_MAX} entries")
        if detail is not None:
            rows.append((kind, name, branch, completion, detail, at, {position: place}))
            continue
        group = (kind, name, branch, completion, None, at)
        members = groups.get(group)
        if members is None:
            groups[group] = {position: place}
        else:
            members[position] = place
    blob.end = end
    if len(rows) + sum(map(len, groups.values())) != len(writes.journal):
        raise StoreFailed("a commit has an entry twice")
    rows += [(*group, members) for group, members in groups.items()]
    return rows


def _attempts(writes: Writes, rows: dict[str, Rows]) -> None:
    if writes.attempts:
        rows["attempts_set"] = [(seq, *astuple(one)) for (seq, _), one in writes.attempts.items()]
    if writes.attempt_drops:
        rows["attempts_dropped"] = list(writes.attempt_drops)
    if writes.attempts_gone:
        rows["attempts_gone"] = [(seq,) for seq in writes.attempts_gone]


def _keys(writes: Writes, rows: dict[str, Rows], blob: _Bytes) -> None:
    if writes.values_dropped:
        rows["values_dropped"] = [(o.service, o.scope, o.key) for o in writes.values_dropped]
    for (o, name), value in writes.values.items():
        if value is None:
            rows.setdefault("values_removed", []).append((o.service, o.scope, o.key, name))
        else:
            rows.setdefault("values_set", []).append((o.service, o.scope, o.key, name, blob.put(value)))
    for o, holder in writes.locks.items():
        if holder is None:
            rows.setdefault("unlocked", []).append((o.service, o.scope, o.key))
        else:
            rows.setdefault("locked", []).append((o.service, o.scope, o.key, holder))
    for (o, position), item in writes.inbox.items():
        waiting = (None, item) if isinstance(item, Edit) else (item, None)
        rows.setdefault("queued", []).append((o.service, o.scope, o.key, position, *waiting))
    if writes.inbox_drops:
        rows["dequeued"] = [(o.service, o.scope, o.key, position) for o, position in writes.inbox_drops]
    if writes.promise_drops:
        rows["promises_dropped"] = [(o.service, o.scope, o.key) for o in writes.promise_drops]
    for p, state in writes.promises.items():
        row = (p.service, p.scope, p.key, p.name, *_promise(state, blob))
        rows.setdefault("promises", []).append(row)


def _promise(state: PromiseState, blob: _Bytes) -> tuple[Any, ...]:
    result = state.result
    payload = result.value if isinstance(result, Success) else None
    return (result if isinstance(result, Failure) else None, state.waiters or None, blob.put(payload))


def _timer(timer: Timer) -> tuple[int, int, int]:
    return min(timer.at, LATEST), timer.seq, timer.completion


def _by_row(rows: dict[str, Rows], blob: _Bytes) -> Batch:
    """The batch without its JSON text and its limits: one tuple of parameters for each row of a table."""
    if max(map(len, blob.chunks)) > BYTES_PER_VALUE_MAX:  # also: no place can say more
        raise StoreFailed(f"a value has more than {BYTES_PER_VALUE_MAX} bytes")
    whole = b"".join(blob.chunks)
    given = (part for part in PARTS if part.name in rows)
    return Batch(-1, (), tuple((part, [*_flat(part, rows[part.name], whole)]) for part in given))


def _flat(part: Part, rows: Rows, blob: bytes) -> Iterator[tuple[Any, ...]]:
    width = len(part.columns)
    for row in rows:
        values = [
            value if column not in part.json or value is None else msgspec.json.encode(value).decode()
            for column, value in zip(part.columns, row[:width], strict=True)
        ]
        values = [value.value if isinstance(value, Enum) else value for value in values]
        if not part.members:
            yield (*values, *([_at(blob, row[width])] if part.payload else []))
            continue
        for key, value in row[width].items():
            own = [member.read(key, value) for member in part.members]
            place = part.place.read(key, value)
            yield (*values, *own, *([_at(blob, place)] if part.payload else []))


def _at(blob: bytes, place: int | None) -> bytes | None:
    if place is None:
        return None
    start = (place >> _LENGTH_BITS) - 1
    return blob[start : start + (place & _LENGTH_MASK)]
