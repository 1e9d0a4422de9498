"""The reading half of a SQLite store: each question is one short statement.

Rules of this file:
1. A read sees what was committed, and neither waits for a commit nor holds one up: what may be long is read
   page by page, so that no snapshot stays open.
2. What is asked often or of everything has an index; the tests look at the query plans.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from agentdur.core.errors import StoreFailed
from agentdur.core.fifo import Fifo
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Entry
from agentdur.core.ports import Filter, Row, Timer
from agentdur.core.state import Edit, ObjectState, Place, PromiseState
from agentdur.core.target import ObjectAddress, PromiseAddress
from agentdur.stores.entries import Stored, Unsaid, read_entry
from agentdur.stores.invocations import ROW_COLUMNS, read_invocation, result_of
from agentdur.stores.sqlite_file import told

ROWS_PER_PAGE = 500
"""How many invocations a long read fetches at once."""

_INVOCATION = f"select {', '.join(ROW_COLUMNS)} from invocation"
_BY_ID = f"{_INVOCATION} where id = ?"
_RUNNING = (
    f"{_INVOCATION} where status = 'running' and status <> 'completed' and seq > ? order by seq limit ?"
)
_EXPIRED = f"{_INVOCATION} where expires_at <= ? order by expires_at, seq limit ?"
_EXPIRED_JOURNALS = """
    select seq from invocation where journal_kept = 1 and journal_expires_at <= ?
    order by journal_expires_at, seq limit ?"""
_JOURNAL = (
    "select idx, kind, name, branch, completion, payload, detail from journal where seq = ? order by idx"
)
_TIMES = "select idx, at from journal where seq = ? order by idx"
_CALLEES = "select detail from journal where seq = ? and kind = 'CallIdCompletion' order by idx"
_NEXT_SEQ = """
    select 1 + max(
        coalesce((select max(seq) from invocation), 0), coalesce((select max(seq) from journal), 0))"""
_KEY = "service = ? and scope = ? and key = ?"
_LOCK = f"select holder from lock where {_KEY}"
_INBOX = f"select position, invocation, edit from inbox where {_KEY} order by position"
_VALUES = f"select name, value from state where {_KEY}"
_PROMISE = f"select result, failure, waiters from promise where {_KEY} and name = ?"
_TIMERS = """
    select t.at, t.seq, t.completion, i.id from timer t cross join invocation i on i.seq = t.seq
    order by t.at, t.seq, t.completion limit ?"""
# The completed ones are counted as the rest: an index knows the others, and how many there are.
_IN_FLIGHT = "select status, count(*) from invocation where status <> 'completed' group by status"
_ALL = "select count(*) from invocation"

_UNSAID = msgspec.json.Decoder(Unsaid)
_EDIT = msgspec.json.Decoder(Edit)
_WAITERS = msgspec.json.Decoder(tuple[tuple[InvocationId, int], ...])


class SqliteReads:
    """Answers from the reader's connection; used by one thread at a time."""

    path: str
    _reader: sqlite3.Connection | None

    def next_seq(self) -> int:
        """A number above every stored one."""
        return int(self._read(_NEXT_SEQ)[0][0])

    def invocation(self, invocation: InvocationId) -> Row | None:
        """One invocation by id."""
        rows = self._rows(_BY_ID, invocation)
        return rows[0] if rows else None

    def journal(self, seq: int) -> list[tuple[int, Entry]]:
        """All its entries in order, with their index."""
        rows = self._read(_JOURNAL, seq)
        with told(self.path):
            return [(row[0], read_entry(Stored(*row[1:]))) for row in rows]

    def times(self, seq: int) -> list[tuple[int, int]]:
        """(index, appended at) of all its entries."""
        return self._read(_TIMES, seq)

    def callees(self, seq: int) -> list[InvocationId]:
        """The ids of all it called or sent to, in the order they were given."""
        rows = self._read(_CALLEES, seq)
        with told(self.path):
            said = [_UNSAID.decode(detail).callee for (detail,) in rows if detail is not None]
        return [callee for callee in said if callee is not None]

    def object(self, address: ObjectAddress) -> ObjectState | None:
        """Lock and inbox of a key; None when free and empty."""
        key = (address.service, address.scope, address.key)
        lock, inbox = self._read(_LOCK, *key), self._read(_INBOX, *key)
        if not lock and not inbox:
            return None
        with told(self.path):
            places = [
                Place(position, id_ if edit is None else _EDIT.decode(edit)) for position, id_, edit in inbox
            ]
        holder = lock[0][0] if lock else None
        return ObjectState(holder, Fifo.of(places), places[-1].position + 1 if places else 0)

    def values(self, address: ObjectAddress) -> dict[str, bytes]:
        """All state values of a key."""
        return dict(self._read(_VALUES, address.service, address.scope, address.key))

    def promise(self, address: PromiseAddress) -> PromiseState | None:
        """One promise; None when nobody has touched it."""
        rows = self._read(_PROMISE, address.service, address.scope, address.key, address.name)
        if not rows:
            return None
        result, failure, waiters = rows[0]
        with told(self.path):
            return PromiseState(
                result_of(result, failure), () if waiters is None else _WAITERS.decode(waiters)
            )

    def running(self) -> Iterator[Row]:
        """All invocations whose status is INVOKED, oldest first."""
        last = -1
        while rows := self._rows(_RUNNING, last, ROWS_PER_PAGE):
            yield from rows
            last = rows[-1].seq

    def timers(self, limit: int) -> list[Timer]:
        """The earliest `limit` timers; those of an invocation that is gone are not shown."""
        return [Timer(*row) for row in self._read(_TIMERS, limit)]

    def expired(self, now: int, limit: int) -> tuple[list[Row], list[int]]:
        """(records past their retention, seqs of kept journals past theirs), the longest overdue first."""
        journals = self._read(_EXPIRED_JOURNALS, now, limit)
        return self._rows(_EXPIRED, now, limit), [seq for (seq,) in journals]

    def count(self) -> dict[str, int]:
        """Stored invocations by status value; a status nobody is in is left out."""
        counts: dict[str, int] = dict(self._read(_IN_FLIGHT))
        completed = self._read(_ALL)[0][0] - sum(counts.values())
        return counts | {"completed": completed} if completed > 0 else counts

    def _read(self, sql: str, *parameters: Any) -> list[Any]:
        reader = self._reader
        if reader is None:
            raise StoreFailed(f"{self.path} is not open")
        with told(self.path):
            return reader.execute(sql, parameters).fetchall()

    def _rows(self, sql: str, *parameters: Any) -> list[Row]:
        rows = self._read(sql, *parameters)
        with told(self.path):
            return [read_invocation(row) for row in rows]

    def list(self, which: Filter) -> list[Row]:
        """Newest first."""
        wanted: dict[str, Any] = {
            "service = ?": which.service,
            "handler = ?": which.handler,
            "key = ?": which.key,
        }
        wanted["seq < ?"] = which.after_seq
        conditions = [condition for condition, value in wanted.items() if value is not None]
        values = [value for value in wanted.values() if value is not None]
        if which.statuses:
            conditions.append(f"status in ({', '.join('?' * len(which.statuses))})")
            values += which.statuses
            if "completed" not in which.statuses:
                conditions.append("status <> 'completed'")  # lets SQLite use the index of those in flight
        where = f" where {' and '.join(conditions)}" if conditions else ""
        return self._rows(f"{_INVOCATION}{where} order by seq desc limit ?", *values, which.limit)
