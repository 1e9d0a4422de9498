"""The reading half of a SQLite store: each question is one short statement.

Rules of this file:
1. A read sees what was committed, and neither waits for a commit nor holds one up: what may be long is read
   page by page, so that no snapshot stays open.
2. What is asked often or of everything has an index; the tests look at the query plans.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from agentdur.core.catalog import is_internal
from agentdur.core.errors import StoreCorrupt, StoreFailed
from agentdur.core.fifo import Fifo
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Entry
from agentdur.core.ports import Filter, Row, Timer
from agentdur.core.state import Edit, FailedAttempt, ObjectState, Place, PromiseState
from agentdur.core.target import ObjectAddress, PromiseAddress
from agentdur.stores.entries import Stored, Unsaid, read_entry
from agentdur.stores.invocations import ROW_COLUMNS, read_invocation, result_of
from agentdur.stores.sqlite_file import FAILURES, told

ROWS_PER_PAGE = 500
"""How many invocations a long read fetches at once."""

_INVOCATION = f"select {', '.join(ROW_COLUMNS)} from invocation"
_BY_ID = f"{_INVOCATION} where id = ?"
_RUNNING = (
    f"{_INVOCATION} where status = 'running' and status <> 'completed' and seq > ? order by seq limit ?"
)
_EXPIRED = f"{_INVOCATION} where expires_at <= ? order by expires_at, seq limit ?"
_EXPIRED_JOURNALS = f"""{_INVOCATION}
    where journal_kept = 1 and journal_expires_at <= ? order by journal_expires_at, seq limit ?"""
_JOURNAL = """
    select idx, kind, name, branch, completion, payload, detail from journal
    where seq = ? and idx >= ? order by idx limit ?"""
_TIMES = "select idx, at from journal where seq = ? and idx >= ? order by idx limit ?"
_ATTEMPTS = f"select {', '.join(FailedAttempt.__struct_fields__)} from attempt where seq = ? order by number"
_CALLEES = "select detail from journal where seq = ? and kind = 'CallIdCompletion' order by idx"
_NEXT_SEQ = """
    select 1 + max(
        coalesce((select max(seq) from invocation), 0), coalesce((select max(seq) from journal), 0))"""
_KEY = "service = ? and scope = ? and key = ?"
_LOCK = f"select holder from lock where {_KEY}"
_INBOX = f"select position, invocation, edit from inbox where {_KEY} order by position"
_VALUES = f"select name, value from state where {_KEY}"
INTERNAL = "service >= 'agentdur.' and service < 'agentdur/'"
"""As the partial index says it: only then is it used."""
_STATES = "select key, value from state where service = ? and scope = '' and name = ? and key > ?"
_VALUE = f"select value from state where {_KEY} and name = ?"
_PROMISE = f"select result, failure, waiters from promise where {_KEY} and name = ?"
_DEPLOYMENTS = "select record from deployment order by id"
# A message's parent is "" where the conversation begins: whoever does not get there finds a gap.
_CONVERSATION = """
    with recursive chain(parent, value, n) as (
        select parent, value, 0 from message where hash = ?
        union all
        select m.parent, m.value, chain.n + 1 from chain join message m on m.hash = chain.parent)
    select parent, value from chain order by n desc"""
_UNUSED = """
    select hash from message m where used_at < ?
        and not exists (select 1 from message c where c.parent = m.hash)
    order by used_at, hash limit ?"""
_TIMERS = """
    select t.at, t.seq, t.completion, i.id from timer t cross join invocation i on i.seq = t.seq
    order by t.at, t.seq, t.completion limit ?"""
# An index knows those in flight, and how many there are in all; the completed ones are the rest.
_COUNTS = """
    select status, count(*) from invocation where status <> 'completed' group by status
    union all select 'completed', count(*) from invocation"""

_UNSAID = msgspec.json.Decoder(Unsaid)
_EDIT = msgspec.json.Decoder(Edit)
_WAITERS = msgspec.json.Decoder(tuple[tuple[InvocationId, int], ...])


T = TypeVar("T")

_UNREADABLE = (msgspec.MsgspecError, ValueError, LookupError, TypeError)


class SqliteReads:
    """Answers from the reader's connection; used by one thread at a time."""

    path: str
    _reader: sqlite3.Connection | None

    def next_seq(self) -> int:
        """A number above every stored one."""
        return int(self._read(_only, _NEXT_SEQ)[0])

    def invocation(self, invocation: InvocationId) -> Row | None:
        """One invocation by id."""
        rows = self._read(read_invocation, _BY_ID, invocation)
        return rows[0] if rows else None

    def journal(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, Entry]]:
        """Its entries from index `start` on, in order, with their index; at most `limit`, -1: all."""
        return self._read(_entry, _JOURNAL, seq, start, limit)

    def times(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, int]]:
        """(index, appended at) of its entries from `start` on, at most `limit`."""
        return self._read(tuple, _TIMES, seq, start, limit)

    def attempts(self, seq: int) -> list[FailedAttempt]:
        """Its attempts that failed, as far as they are kept, oldest first."""
        return self._read(_attempt, _ATTEMPTS, seq)

    def callees(self, seq: int) -> list[InvocationId]:
        """The ids of all it called or sent to, in the order they were given."""
        return [callee for callee in self._read(_callee, _CALLEES, seq) if callee is not None]

    def object(self, address: ObjectAddress) -> ObjectState | None:
        """Lock and inbox of a key; None when free and empty."""
        key = (address.service, address.scope, address.key)
        holder = next(iter(self._read(_only, _LOCK, *key)), None)
        places = self._read(_place, _INBOX, *key)
        if holder is None and not places:
            return None
        return ObjectState(holder, Fifo.of(places), places[-1].position + 1 if places else 0)

    def values(self, address: ObjectAddress) -> dict[str, bytes]:
        """All state values of a key."""
        return dict(self._read(tuple, _VALUES, address.service, address.scope, address.key))

    def states(self, service: str, name: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """(key, value) of that state value of every key above `after` that has it, by key."""
        also = f" and {INTERNAL}" if is_internal(service) else ""
        return self._read(tuple, f"{_STATES}{also} order by key limit ?", service, name, after, limit)

    def value(self, address: ObjectAddress, name: str) -> bytes | None:
        """One state value of a key."""
        rows = self._read(tuple, _VALUE, address.service, address.scope, address.key, name)
        return rows[0][0] if rows else None

    def promise(self, address: PromiseAddress) -> PromiseState | None:
        """One promise; None when nobody has touched it."""
        place = (address.service, address.scope, address.key, address.name)
        return next(iter(self._read(_promise, _PROMISE, *place)), None)

    def running(self) -> Iterator[Row]:
        """All invocations whose status is INVOKED, oldest first."""
        last = -1
        while rows := self._read(read_invocation, _RUNNING, last, ROWS_PER_PAGE):
            yield from rows
            last = rows[-1].seq

    def timers(self, limit: int) -> list[Timer]:
        """The earliest `limit` timers; those of an invocation that is gone are not shown."""
        return self._read(_timer, _TIMERS, limit)

    def expired(self, now: int, limit: int) -> tuple[list[Row], list[Row]]:
        """(records past their retention, those whose kept journal is), the longest overdue first."""
        records = self._read(read_invocation, _EXPIRED, now, limit)
        return records, self._read(read_invocation, _EXPIRED_JOURNALS, now, limit)

    def count(self) -> dict[str, int]:
        """Stored invocations by status value; a status nobody is in is left out."""
        *in_flight, (completed, total) = self._read(tuple, _COUNTS)
        counts = dict(in_flight)
        counts[completed] = total - sum(counts.values())
        return {status: count for status, count in counts.items() if count}

    def deployments(self) -> list[bytes]:
        """The records of all deployments, by id."""
        return self._read(_only, _DEPLOYMENTS)

    def conversation(self, head: str) -> list[bytes] | None:
        """The messages up to the one with this hash, in order; None when one of them is not there."""
        found: list[tuple[str, bytes]] = self._read(tuple, _CONVERSATION, head)
        return [value for _, value in found] if found and found[0][0] == "" else None

    def unused_messages(self, before: int, limit: int) -> list[str]:
        """Messages that no other one follows and that were last used before then, longest ago first."""
        return self._read(_only, _UNUSED, before, limit)

    def _read(self, read: Callable[[Any], T], sql: str, *parameters: Any) -> list[T]:
        """All rows of one statement, each as what `read` makes of it."""
        if self._reader is None:
            raise StoreFailed(f"{self.path} is not open")
        try:
            rows = self._reader.execute(sql, parameters).fetchall()
        except FAILURES as error:
            raise told(error, self.path) from error
        try:
            return [read(row) for row in rows]
        except _UNREADABLE as error:
            raise StoreCorrupt(f"{self.path}: a row is not what was written: {error}") from error

    def list(self, which: Filter) -> list[Row]:
        """Newest first."""
        wanted = {
            "service = ?": which.service, "handler = ?": which.handler, "key = ?": which.key,
            "deployment = ?": which.deployment, "seq < ?": which.after_seq,
        }  # fmt: skip
        conditions = [condition for condition, value in wanted.items() if value is not None]
        values: list[Any] = [value for value in wanted.values() if value is not None]
        if which.statuses:
            conditions.append(f"status in ({', '.join('?' * len(which.statuses))})")
            values += which.statuses
            if "completed" not in which.statuses:
                conditions.append("status <> 'completed'")  # lets SQLite use the index of those in flight
        if not which.internal and which.service is None:
            conditions.append(f"not ({INTERNAL})")
        where = f" where {' and '.join(conditions)}" if conditions else ""
        sql = f"{_INVOCATION}{where} order by seq desc limit ?"
        return self._read(read_invocation, sql, *values, which.limit)


def _only(row: tuple[Any]) -> Any:
    return row[0]


def _entry(row: tuple[Any, ...]) -> tuple[int, Entry]:
    return row[0], read_entry(Stored(*row[1:]))


def _attempt(row: tuple[Any, ...]) -> FailedAttempt:
    return FailedAttempt(**dict(zip(FailedAttempt.__struct_fields__, row, strict=True)))


def _callee(row: tuple[str | None]) -> InvocationId | None:
    return None if row[0] is None else _UNSAID.decode(row[0]).callee


def _place(row: tuple[int, InvocationId, str | None]) -> Place:
    position, invocation, edit = row
    return Place(position, invocation if edit is None else _EDIT.decode(edit))


def _promise(row: tuple[bytes | None, str | None, str | None]) -> PromiseState:
    result, failure, waiters = row
    return PromiseState(result_of(result, failure), () if waiters is None else _WAITERS.decode(waiters))


def _timer(row: tuple[int, int, int, InvocationId]) -> Timer:
    return Timer(*row)
