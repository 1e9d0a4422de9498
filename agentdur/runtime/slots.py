"""What the owner holds in memory: the aggregates that are active, and what the store has of them.

Rules of this file:
1. An aggregate leaves memory only when what memory knows of it is committed.
2. A parked, scheduled, queued or completed invocation is not kept: the store has it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Row, Saved, Store, Writes
from agentdur.core.state import Head, Invocation, ObjectState, PromiseState, Status
from agentdur.core.target import ObjectAddress, PromiseAddress, Target

CACHED_KEYS_MAX = 10_000
"""Keys whose state values stay in memory between uses."""


class Slot:
    """An invocation in memory. `touched`: the commit that holds its last change."""

    __slots__ = (
        "attempt", "begun_at", "callees", "entries", "failures", "followed", "id", "new", "saved", "seq",
        "sleeps", "state", "step_failures", "target", "touched", "waiting",
    )  # fmt: skip

    def __init__(self, invocation: InvocationId, seq: int, state: Invocation | None, new: bool) -> None:
        self.id, self.seq, self.state, self.new = invocation, seq, state, new
        self.target: Target | None = None if state is None else state.spec.target
        self.saved: Head | None = None if new or state is None else state.head
        self.attempt: Any = None
        self.begun_at = 0  # when the last attempt in this process began, ms since the epoch
        self.entries: list[tuple[int, j.Entry]] | None = [] if new else None
        self.callees: list[InvocationId] | None = None
        self.failures: int | None = 0 if new else None  # attempts that failed; None: the store knows
        self.sleeps: dict[int, int] | None = None  # by completion: when the timer is due
        self.step_failures: dict[int, Any] | None = None
        self.touched = 0
        self.followed = False  # those who watch the engine know it


class KeySlot:
    """A key in memory: lock and inbox, and what the store has of the lock."""

    __slots__ = ("next_position", "saved", "state", "touched")

    def __init__(self, state: ObjectState | None) -> None:
        self.state = state
        self.next_position = 0  # of the inbox: never one whose removal is not committed
        self.saved = None if state is None else state.locked_by
        self.touched = 0


class Values:
    """A key's state values."""

    __slots__ = ("map", "touched")

    def __init__(self, values: dict[str, bytes]) -> None:
        self.map = values
        self.touched = 0


class Slots:
    """All aggregates in memory, loaded from the store when they are asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.next_seq = store.next_seq()
        self.invocations: dict[InvocationId, Slot] = {}
        self.keys: dict[ObjectAddress, KeySlot] = {}
        self.promises: dict[PromiseAddress, tuple[PromiseState | None, int]] = {}
        self.purged: dict[ObjectAddress, int] = {}  # workflow keys whose promises go with that commit
        self.values: OrderedDict[ObjectAddress, Values] = OrderedDict()
        self.dirty: set[Slot] = set()
        self.dirty_keys: set[ObjectAddress] = set()
        self.left: list[int] = []  # followed ones that have left memory

    def fresh(self, invocation: InvocationId) -> Slot:
        """A place for an invocation that is known to be new."""
        slot = Slot(invocation, self.next_seq, None, True)
        self.next_seq += 1
        self.invocations[invocation] = slot
        return slot

    def find(self, invocation: InvocationId) -> Slot | None:
        """From memory, or loaded; None when there is no record."""
        slot = self.invocations.get(invocation)
        if slot is None:
            row = self.store.invocation(invocation)
            if row is None:
                return None
            slot = self.load(row)
        return slot

    def load(self, row: Row) -> Slot:
        """Put a stored invocation into memory."""
        entries: list[tuple[int, j.Entry]] = []
        if row.head.status is not Status.COMPLETED:
            entries = self.store.journal(row.seq)
        slot = Slot(row.spec.id, row.seq, rebuilt(row, entries), False)
        if row.head.status is not Status.COMPLETED:
            slot.entries = entries
            slot.sleeps = sleeps_of(entries)
        self.invocations[row.spec.id] = slot
        return slot

    def key(self, address: ObjectAddress) -> KeySlot:
        """Lock and inbox of a key."""
        slot = self.keys.get(address)
        if slot is None:
            slot = self.keys[address] = KeySlot(self.store.object(address))
        return slot

    def promise(self, address: PromiseAddress) -> PromiseState | None:
        """A promise."""
        known = self.promises.get(address)
        if known is not None:
            return known[0]
        if self.purged and ObjectAddress(address.service, address.key, address.scope) in self.purged:
            return None  # the store does not know it yet
        return self.store.promise(address)

    def state(self, address: ObjectAddress) -> Values:
        """The state values of a key."""
        values = self.values.get(address)
        if values is None:
            values = self.values[address] = Values(self.store.values(address))
        return values

    def collect(self, writes: Writes) -> None:
        """Add the rows of what has changed to a commit."""
        for slot in self.dirty:
            state = slot.state
            if state is None:
                if slot.failures or (slot.saved is not None and slot.saved.last_failure is not None):
                    writes.attempts_gone.add(slot.seq)
                if not slot.new or slot.saved is not None:
                    writes.invocations[slot.seq] = None
                continue
            writes.invocations[slot.seq] = saved(slot, state)
            slot.saved, slot.new = state.head, False
        for address in self.dirty_keys:
            key = self.keys[address]
            holder = None if key.state is None else key.state.locked_by
            if holder != key.saved:
                writes.locks[address] = key.saved = holder
        self.dirty = set()
        self.dirty_keys = set()

    def release(self, slot: Slot, committed: int) -> None:
        """Forget an invocation that is not active; the store has it. Its id may be another one's by now."""
        if slot.touched <= committed and slot.attempt is None and self.invocations.get(slot.id) is slot:
            state = slot.state
            if state is None or state.head.status is not Status.INVOKED:
                del self.invocations[slot.id]
                if slot.followed:
                    self.left.append(slot.seq)

    def evict(self, slots: list[Slot], keys: set[ObjectAddress], committed: int) -> None:
        """After a commit: forget what is not active."""
        invocations, running = self.invocations, Status.INVOKED
        for slot in slots:  # `release`, written out: this is done for every invocation of every commit
            if slot.touched <= committed and slot.attempt is None and invocations.get(slot.id) is slot:
                state = slot.state
                if state is None or state.head.status is not running:
                    del invocations[slot.id]
                    if slot.followed:
                        self.left.append(slot.seq)
        for address in keys:
            key = self.keys.get(address)
            if key is not None and key.touched <= committed and key.state is None:
                del self.keys[address]
        for promise in [a for a, (_, touched) in self.promises.items() if touched <= committed]:
            del self.promises[promise]
        for workflow in [a for a, touched in self.purged.items() if touched <= committed]:
            del self.purged[workflow]
        while len(self.values) > CACHED_KEYS_MAX:
            address, values = next(iter(self.values.items()))
            if values.touched > committed:
                break
            del self.values[address]


def saved(slot: Slot, state: Invocation) -> Saved:
    """The row of an invocation; retention begins when it is completed."""
    spec, head = state.spec, state.head
    expires = journal_expires = None
    if head.completed_at is not None:
        expires = head.completed_at + spec.completion_retention_ms
        if state.journal_kept and spec.journal_retention_ms < spec.completion_retention_ms:
            journal_expires = head.completed_at + spec.journal_retention_ms
    return Saved(slot.seq, spec, head, slot.new, state.journal_kept, expires, journal_expires)


def sleeps_of(entries: list[tuple[int, j.Entry]]) -> dict[int, int] | None:
    """The sleeps that have not ended, by completion; None when there are none."""
    sleeps: dict[int, int] = {}
    for _, entry in entries:
        if isinstance(entry, j.Sleep):
            sleeps[entry.completion] = entry.wake_at
        elif sleeps and isinstance(entry, j.Completion):
            sleeps.pop(entry.id, None)
    return sleeps or None


def rebuilt(row: Row, entries: list[tuple[int, j.Entry]]) -> Invocation:
    """An invocation from its row and journal."""
    opened = done = failed = 0
    signals: dict[int | str, int] = {}
    rejected: dict[int | str, int] = {}
    output: j.Result | None = None
    for index, entry in entries:
        if isinstance(entry, j.Completion):
            done |= 1 << entry.id
            if isinstance(entry.outcome, j.Failure):
                failed |= 1 << entry.id
        elif isinstance(entry, j.Signal):
            of_kind = rejected if isinstance(entry.outcome, j.Failure) else signals
            of_kind.pop(entry.signal, None)  # the last one counts, also for the order
            of_kind[entry.signal] = index
        else:
            if isinstance(entry, j.Output):
                output = entry.result
            for name in ("completion", "id_completion"):
                completion = getattr(entry, name, 0)
                if completion:
                    opened |= 1 << completion
    length = entries[-1][0] + 1 if entries else 0
    return Invocation(
        row.spec, row.head, length, opened & ~done, done, failed, tuple(signals.items()), row.journal_kept,
        output, tuple(rejected.items()),
    )  # fmt: skip
