"""The reference store: dicts, and nothing to get wrong. What was committed lives as long as the object.

Rules of this file:
1. It says what `Store` means; the other stores are held against it, read by read.
2. `prepare` copies what it is given; `commit` swaps under a lock, so that a read sees all of it or nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from importlib import import_module
from threading import RLock

from msgspec import Struct
from msgspec.structs import replace

from agentdur.core.catalog import is_internal
from agentdur.core.errors import StoreFailed
from agentdur.core.fifo import Fifo
from agentdur.core.ids import InvocationId
from agentdur.core.journal import CalleeId, Completion, Entry
from agentdur.core.ports import Filter, Row, Saved, Timer, Writes
from agentdur.core.query import Question, Table
from agentdur.core.search import Findings, Search
from agentdur.core.state import Edit, FailedAttempt, ObjectState, Place, PromiseState, Status
from agentdur.core.target import ObjectAddress, PromiseAddress
from agentdur.stores.invocations import LATEST
from agentdur.stores.search import search


class _Data(Struct):
    """Everything that was committed."""

    invocations: dict[int, Saved] = {}
    ids: dict[InvocationId, int] = {}
    journals: dict[int, dict[int, tuple[Entry, int]]] = {}
    attempts: dict[int, dict[int, FailedAttempt]] = {}
    values: dict[ObjectAddress, dict[str, bytes]] = {}
    locks: dict[ObjectAddress, InvocationId] = {}
    inboxes: dict[ObjectAddress, dict[int, InvocationId | Edit]] = {}
    promises: dict[PromiseAddress, PromiseState] = {}
    timers: set[tuple[int, int, int]] = set()
    deployments: dict[str, bytes] = {}
    messages: dict[str, tuple[str, bytes, int]] = {}


class MemoryStore:
    """A `Store` for tests and for work that may be lost: closing keeps the data, the process's end does not.

    Opening it again is always allowed: whoever had it open before is taken for crashed.
    """

    def __init__(self) -> None:
        self._data = _Data()
        self._guard = RLock()

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do; the data stays."""

    def prepare(self, writes: Writes) -> Writes:
        """A copy, so that the caller may go on collecting."""
        kept = Writes()
        for name in Writes.__slots__:
            setattr(kept, name, copy(getattr(writes, name)))
        return kept

    def commit(self, prepared: Writes) -> None:
        """Apply it in the order of the fields of `Writes`."""
        with self._guard:
            self._check(prepared)
            self._commit_invocations(prepared)
            self._commit_keys(prepared)
            for timer in prepared.timers:
                self._data.timers.add(_timer(timer))
            for timer in prepared.timer_drops:
                self._data.timers.discard(_timer(timer))
            for deployment, record in prepared.deployments.items():
                self._data.deployments.pop(deployment, None)
                if record is not None:
                    self._data.deployments[deployment] = record

            for name in prepared.message_drops:
                self._data.messages.pop(name, None)
            self._data.messages.update(prepared.messages)

    def _check(self, writes: Writes) -> None:
        """Refuse to write history twice, before anything has changed."""
        data = self._data
        for seq, saved in writes.invocations.items():
            if saved is not None and saved.new:
                holder = data.ids.get(saved.spec.id, seq)
                if seq in data.invocations or (holder != seq and writes.invocations.get(holder, saved)):
                    raise StoreFailed(f"invocation {saved.spec.id} is stored already")
        places = {(seq, index) for seq, index, _, _ in writes.journal}
        known = any(index in data.journals.get(seq, ()) for seq, index in places)
        if known or len(places) != len(writes.journal):
            raise StoreFailed("a commit has an entry that is stored already, or one twice")

    def _commit_invocations(self, writes: Writes) -> None:
        data = self._data
        for seq, saved in writes.invocations.items():
            if saved is None and seq in data.invocations:
                del data.ids[data.invocations.pop(seq).spec.id]
        for seq, saved in writes.invocations.items():
            if saved is not None and saved.new:
                data.invocations[seq] = saved
                data.ids[saved.spec.id] = seq
            elif saved is not None and seq in data.invocations:  # one that is gone has no head to change
                data.invocations[seq] = replace(saved, spec=data.invocations[seq].spec)
        for seq, index, entry, at in writes.journal:
            data.journals.setdefault(seq, {})[index] = (entry, at)
        for seq in writes.journal_drops:
            data.journals.pop(seq, None)
        for (seq, number), attempt in writes.attempts.items():
            data.attempts.setdefault(seq, {})[number] = attempt
        for seq, number in writes.attempt_drops:
            data.attempts.get(seq, {}).pop(number, None)
        for seq in writes.attempts_gone:
            data.attempts.pop(seq, None)

    def _commit_keys(self, writes: Writes) -> None:
        data = self._data
        for address in writes.values_dropped:
            data.values.pop(address, None)
        for (address, name), value in writes.values.items():
            values = data.values.setdefault(address, {})
            values.pop(name, None)
            if value is not None:
                values[name] = value
        for address, holder in writes.locks.items():
            data.locks.pop(address, None)
            if holder is not None:
                data.locks[address] = holder
        for (address, position), item in writes.inbox.items():
            data.inboxes.setdefault(address, {})[position] = item
        for address, position in writes.inbox_drops:
            data.inboxes.get(address, {}).pop(position, None)
        for address in writes.promise_drops:
            for promise in [p for p in data.promises if _workflow_key(p) == address]:
                del data.promises[promise]
        data.promises.update(writes.promises)

    def query(self, question: Question) -> Table:
        """Answer a question in SQL, asked of a copy: it takes time in proportion to all that is stored."""
        ask: Callable[[Writes, Question], Table] = import_module("agentdur.stores.sql.copied").answer
        return ask(self._everything(), question)

    def search(self, what: Search) -> Findings:
        """Look for text, in a copy: it takes time in proportion to all that is stored."""
        copied = import_module("agentdur.stores.sql.copied").tables(self._everything())
        try:
            return search(copied, what)
        finally:
            copied.close()

    def _everything(self) -> Writes:
        """All that is stored, as one commit."""
        writes = Writes()
        with self._guard:
            data = self._data
            writes.invocations = {seq: replace(one, new=True) for seq, one in data.invocations.items()}
            writes.journal = [
                (seq, index, entry, at)
                for seq, entries in data.journals.items()
                for index, (entry, at) in entries.items()
            ]
            writes.attempts = {
                (seq, number): one for seq, kept in data.attempts.items() for number, one in kept.items()
            }
            writes.values = {
                (address, name): value
                for address, values in data.values.items()
                for name, value in values.items()
            }
            writes.locks = dict(data.locks)
            writes.inbox = {
                (address, place): item
                for address, items in data.inboxes.items()
                for place, item in items.items()
            }
            writes.promises = dict(data.promises)
            writes.messages = dict(data.messages)
        return writes

    def next_seq(self) -> int:
        """A number above every stored one."""
        with self._guard:
            return max((0, *self._data.invocations, *self._data.journals)) + 1

    def invocation(self, invocation: InvocationId) -> Row | None:
        """One invocation by id."""
        with self._guard:
            seq = self._data.ids.get(invocation)
            return None if seq is None else _row(self._data.invocations[seq])

    def journal(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, Entry]]:
        """Its entries from index `start` on, in order, with their index; at most `limit`, -1: all."""
        with self._guard:
            entries = self._data.journals.get(seq, {})
            found = [(index, entries[index][0]) for index in sorted(entries) if index >= start]
            return found if limit < 0 else found[:limit]

    def times(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, int]]:
        """(index, appended at) of its entries from `start` on, at most `limit`."""
        with self._guard:
            entries = sorted(self._data.journals.get(seq, {}).items())
            found = [(index, at) for index, (_, at) in entries if index >= start]
            return found if limit < 0 else found[:limit]

    def attempts(self, seq: int) -> list[FailedAttempt]:
        """Its attempts that failed, as far as they are kept, oldest first."""
        with self._guard:
            return [one for _, one in sorted(self._data.attempts.get(seq, {}).items())]

    def callees(self, seq: int) -> list[InvocationId]:
        """The ids of all it called or sent to, in the order they were given."""
        outcomes = (entry.outcome for _, entry in self.journal(seq) if isinstance(entry, Completion))
        return [outcome.invocation_id for outcome in outcomes if isinstance(outcome, CalleeId)]

    def object(self, address: ObjectAddress) -> ObjectState | None:
        """Lock and inbox of a key; None when free and empty."""
        with self._guard:
            holder = self._data.locks.get(address)
            places = [
                Place(*item) for item in sorted(self._data.inboxes.get(address, {}).items(), key=_first)
            ]
        if holder is None and not places:
            return None
        return ObjectState(holder, Fifo.of(places), places[-1].position + 1 if places else 0)

    def values(self, address: ObjectAddress) -> dict[str, bytes]:
        """All state values of a key."""
        with self._guard:
            return dict(self._data.values.get(address, {}))

    def states(self, service: str, name: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """(key, value) of that state value of every key above `after` that has it, by key."""
        with self._guard:
            found = [
                (address.key, values[name])
                for address, values in self._data.values.items()
                if address.service == service and not address.scope and address.key > after and name in values
            ]
        return sorted(found)[:limit]

    def value(self, address: ObjectAddress, name: str) -> bytes | None:
        """One state value of a key."""
        with self._guard:
            return self._data.values.get(address, {}).get(name)

    def promise(self, address: PromiseAddress) -> PromiseState | None:
        """One promise; None when nobody has touched it."""
        with self._guard:
            return self._data.promises.get(address)

    def running(self) -> Iterator[Row]:
        """All invocations whose status is INVOKED, oldest first."""
        with self._guard:
            found = [
                saved for saved in self._data.invocations.values() if saved.head.status is Status.INVOKED
            ]
        yield from (_row(saved) for saved in sorted(found, key=_seq))

    def timers(self, limit: int) -> list[Timer]:
        """The earliest `limit` timers; those of an invocation that is gone are not shown."""
        with self._guard:
            stored = self._data.invocations
            known = [timer for timer in sorted(self._data.timers) if timer[1] in stored][:limit]
            return [Timer(*timer, stored[timer[1]].spec.id) for timer in known]

    def expired(self, now: int, limit: int) -> tuple[list[Row], list[Row]]:
        """(records past their retention, those whose kept journal is), the longest overdue first."""
        with self._guard:
            stored = self._data.invocations
            records = [(s.expires_at, s.seq) for s in stored.values() if s.expires_at is not None]
            journals = [
                (s.journal_expires_at, s.seq)
                for s in stored.values()
                if s.journal_kept and s.journal_expires_at is not None
            ]
            past = [seq for at, seq in sorted(records) if at <= now][:limit]
            journals_past = [seq for at, seq in sorted(journals) if at <= now][:limit]
            return [_row(stored[seq]) for seq in past], [_row(stored[seq]) for seq in journals_past]

    def deployments(self) -> list[bytes]:
        """All records, by id."""
        with self._guard:
            return [record for _, record in sorted(self._data.deployments.items())]

    def conversation(self, head: str) -> list[bytes] | None:
        """The messages up to this one."""
        found: list[bytes] = []
        with self._guard:
            while head:
                message = self._data.messages.get(head)
                if message is None:
                    return None
                head = message[0]
                found.append(message[1])
        return found[::-1] or None

    def unused_messages(self, before: int, limit: int) -> list[str]:
        """The ends of conversations that were last used before then, longest ago first."""
        with self._guard:
            messages = self._data.messages
            followed = {parent for parent, _, _ in messages.values()}
            ends = [
                (at, name) for name, (_, _, at) in messages.items() if at < before and name not in followed
            ]
        return [name for _, name in sorted(ends)][:limit]

    def list(self, which: Filter) -> list[Row]:
        """Newest first."""
        with self._guard:
            stored = sorted(self._data.invocations.values(), key=_seq, reverse=True)
        return [_row(saved) for saved in stored if _matches(saved, which)][: which.limit]

    def count(self) -> dict[str, int]:
        """Stored invocations by status value; a status nobody is in is left out."""
        with self._guard:
            return dict(Counter(saved.head.status.value for saved in self._data.invocations.values()))


def _seq(saved: Saved) -> int:
    return saved.seq


def _timer(timer: Timer) -> tuple[int, int, int]:
    return min(timer.at, LATEST), timer.seq, timer.completion


def _first(item: tuple[int, object]) -> int:
    return item[0]


def _row(saved: Saved) -> Row:
    return Row(saved.seq, saved.spec, saved.head, saved.journal_kept)


def _workflow_key(promise: PromiseAddress) -> ObjectAddress:
    return ObjectAddress(promise.service, promise.key, promise.scope)


def _matches(saved: Saved, which: Filter) -> bool:
    target = saved.spec.target
    return (
        which.service in (None, target.service)
        and which.handler in (None, target.handler)
        and which.key in (None, target.key)
        and which.deployment in (None, saved.head.deployment)
        and (not which.statuses or saved.head.status.value in which.statuses)
        and (which.after_seq is None or saved.seq < which.after_seq)
        and (which.internal or which.service is not None or not is_internal(target.service))
    )
