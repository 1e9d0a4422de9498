"""What must hold in every run, whatever goes wrong: checked at each commit, at each answer, and at the end.

Rules of this file:
1. A check compares what the engine says with the store, with the ledger of the outside world, or with a model
   that knows no faults; never with the engine's own opinion of itself.
2. The first violation ends the run: what follows from it explains nothing.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from agentdur.core import journal as j
from agentdur.core.awaiting import resolved
from agentdur.core.ids import InvocationId
from agentdur.core.machine.submit import ALREADY_INVOKED
from agentdur.core.ports import Filter, Row, Timer, Writes
from agentdur.core.state import Status
from agentdur.runtime.owner import Engine
from agentdur.runtime.slots import rebuilt
from agentdur.stores.memory import MemoryStore

_EXPECTED_FAILURES = ("injected", "abort timeout", "is no longer served")


class Violation(Exception):
    """Something that must hold did not."""


class Checks:
    """Watches the store and the outside world; lives through all crashes."""

    def __init__(self, store: MemoryStore, attempts_max: int) -> None:
        self.store, self.attempts_max = store, attempts_max
        self.failed: dict[int, int] = {}
        self.journals: dict[int, list[j.Entry]] = {}
        self.ids: dict[int, InvocationId] = {}
        self.results: dict[InvocationId, j.Result] = {}
        self.targets: dict[InvocationId, str] = {}
        self.stored: set[InvocationId] = set()
        self.gone: set[InvocationId] = set()
        self.disturbed: set[InvocationId] = set()
        self.completed: set[tuple[InvocationId, int]] = set()
        self.run_names: dict[tuple[InvocationId, int], str] = {}
        self.issued: set[tuple[InvocationId, str]] = set()
        self.done: set[tuple[InvocationId, str]] = set()
        self.executions: dict[tuple[InvocationId, str], list[tuple[int, int, int]]] = defaultdict(list)
        self.keys: dict[str, tuple[InvocationId, str]] = {}
        self.key_of: dict[tuple[InvocationId, str], str] = {}
        self.constants: dict[tuple[InvocationId, str], Any] = {}

    # -- commits

    def committed(self, writes: Writes) -> None:
        """The store holds these; nothing that was there before may have changed."""
        dropped = writes.journal_drops
        for seq, saved in writes.invocations.items():
            if saved is None:
                self._row_gone(seq)
        for seq, saved in writes.invocations.items():
            if saved is None:
                continue
            if saved.new:
                self.ids[seq] = saved.spec.id
                self.stored.add(saved.spec.id)
                self.targets[saved.spec.id] = str(saved.spec.target)
            self._row(self.ids.get(seq), saved.head)
        for seq, index, entry, _ in writes.journal:
            if seq in dropped and seq not in self.ids:
                continue
            journal = self.journals.setdefault(seq, [])
            if index != len(journal):
                raise Violation(
                    f"journal of {self.ids.get(seq)}: entry {index} follows entry {len(journal) - 1}"
                )
            journal.append(entry)
            self._entry(self.ids.get(seq), entry)
        for seq in dropped:
            self.journals.pop(seq, None)
        self._attempts(writes)
        self._same_as_stored({seq for seq, *_ in writes.journal} - dropped)

    def _row_gone(self, seq: int) -> None:
        invocation = self.ids.pop(seq, None)
        if invocation is not None:
            self.gone.add(invocation)
            self.results.pop(invocation, None)
            self.issued -= {known for known in self.issued if known[0] == invocation}
            self.done -= {known for known in self.done if known[0] == invocation}
            self.completed -= {known for known in self.completed if known[0] == invocation}
            for step in [known for known in self.executions if known[0] == invocation]:
                del self.executions[step]  # the id may come back
                del self.keys[self.key_of.pop(step)]

    def _row(self, invocation: InvocationId | None, head: Any) -> None:
        if invocation is None:
            raise Violation("a row changed that does not exist")
        known = self.results.get(invocation)
        if known is not None and head.result != known:
            raise Violation(f"the result of {invocation} changed from {known} to {head.result}")
        if head.result is not None:
            self.results[invocation] = head.result
        failure = head.last_failure
        if failure is not None and not any(word in failure.message for word in _EXPECTED_FAILURES):
            raise Violation(f"{invocation} {self.targets.get(invocation)} failed by itself: {failure}")

    def _entry(self, invocation: InvocationId | None, entry: j.Entry) -> None:
        if invocation is None:
            raise Violation(f"an entry without an invocation: {entry}")
        if isinstance(entry, j.Run):
            self.run_names[(invocation, entry.completion)] = entry.name
            self.issued.add((invocation, entry.name))
        elif isinstance(entry, j.Completion):
            if (invocation, entry.id) in self.completed:
                raise Violation(f"{invocation}: completion {entry.id} is stored twice: {entry}")
            self.completed.add((invocation, entry.id))
            if entry.of == "Run":
                self.done.add((invocation, self.run_names[(invocation, entry.id)]))

    def _attempts(self, writes: Writes) -> None:
        """A failure is told in the commit that says what follows from it, and its number is the next."""
        for seq, number in sorted(writes.attempts):
            last = self.failed.get(seq, 0)
            if number != last + 1 and seq not in writes.attempts_gone:
                raise Violation(f"{self.ids.get(seq)}: failure {number} follows failure {last}")
            self.failed[seq] = number
        for seq in writes.attempts_gone:
            self.failed.pop(seq, None)
        for seq, saved in writes.invocations.items():
            if saved is None or saved.head.last_failure is None:
                continue
            kept, retry_at = self.store.attempts(seq), saved.head.retry_at
            if not kept or kept[-1].number != self.failed.get(seq):
                raise Violation(f"{saved.spec.id} has failed, and the last attempt stored is {kept[-1:]}")
            if retry_at is not None and kept[-1].retry_at != retry_at:
                raise Violation(f"{saved.spec.id} is tried again at {retry_at}, its attempt says {kept[-1]}")
            if len(kept) > self.attempts_max:
                raise Violation(f"{len(kept)} attempts of {saved.spec.id} are kept, not {self.attempts_max}")

    def _same_as_stored(self, seqs: set[int]) -> None:
        for seq in seqs:
            stored = self.store.journal(seq)
            if stored != list(enumerate(self.journals.get(seq, []))):
                raise Violation(f"the journal of {self.ids.get(seq)} is not what was appended")

    def memory_is_stored(self, engine: Engine) -> None:
        """What the engine holds in memory, and believes to be committed, is what it would read again."""
        machine = engine.machine
        for slot in list(machine.slots.invocations.values()):
            if slot.state is None or slot.touched > machine.writer.committed:
                continue
            row = self.store.invocation(slot.id)
            if row is None:
                raise Violation(f"{slot.id} is in memory only")
            if row.head.status is Status.COMPLETED:
                continue
            again = rebuilt(row, self.store.journal(row.seq))
            for name in again.__struct_fields__:
                read, held = getattr(again, name), getattr(slot.state, name)
                if read != held:
                    raise Violation(f"{name} of {slot.id} would be read as {read}, and is {held}")

    def nobody_is_forgotten(self, engine: Engine) -> None:
        """No attempt waits for what its invocation has already."""
        for attempt in engine.driver.idle:
            slot = engine.driver.live[attempt]
            waits = [b.waiting for b in (attempt.root, *attempt.branches) if b.waiting is not None]
            if slot.state is None or not attempt.idle() or any(waiter.done() for waiter, _ in waits):
                continue
            if resolved(slot.state, attempt.awaiting(), attempt.known):
                raise Violation(f"{attempt.id} waits for what is there: {attempt.awaiting()}")

    # -- the outside world

    def executes(self, step: tuple[InvocationId, str], life: tuple[int, int, int], key: str) -> None:
        """An action begins, in (process, generation, attempt)."""
        if step not in self.issued:
            raise Violation(f"step {step} began before its Run was durable")
        if step in self.done:
            raise Violation(f"step {step} runs again, its result is stored")
        if life in self.executions[step]:
            raise Violation(f"step {step} runs twice in attempt {life}")
        self.executions[step].append(life)
        if self.keys.setdefault(key, step) != step:
            raise Violation(f"steps {step} and {self.keys[key]} have the idempotency key {key}")
        if self.key_of.setdefault(step, key) != key:
            raise Violation(f"step {step} has the idempotency keys {key} and {self.key_of[step]}")

    def constant(self, invocation: InvocationId, path: str, value: Any) -> None:
        """A value that has to be the same on every attempt."""
        if self.constants.setdefault((invocation, path), value) != value:
            raise Violation(f"{invocation} {path}: {value} was {self.constants[(invocation, path)]} before")

    def answered(self, invocation: InvocationId, result: j.Result) -> None:
        """A client hears a result."""
        if result == ALREADY_INVOKED:
            return
        row = self.store.invocation(invocation)
        if row is None:
            if invocation not in self.gone and invocation not in self.disturbed:
                raise Violation(f"the answer of {invocation} left before it was durable")
        elif row.head.result != result and invocation not in self.gone:
            raise Violation(f"{invocation} answered {result}, stored is {row.head.result}")

    def received(self, invocation: InvocationId) -> None:
        """A client hears that its submission is accepted."""
        if self.store.invocation(invocation) is None and invocation not in self.gone | self.disturbed:
            raise Violation(f"the receipt of {invocation} left before it was durable")

    # -- the end

    def rows(self) -> list[Row]:
        """Everything stored, oldest first."""
        return list(self.store.list(Filter(limit=1_000_000)))[::-1]

    def nothing_kept_too_long(self, now: int) -> None:
        """What is past its retention has been swept."""
        records, journals = self.store.expired(now - 1000, 1_000)
        if records or journals:
            raise Violation(f"past their retention: {[r.spec.id for r in records]}, journals {journals}")

    def nothing_left(self, engine: Engine) -> None:
        """Everything has ended: no lock, place, timer, slot or waiter may remain."""
        data, machine, driver = self.store._data, engine.machine, engine.driver
        unfinished = [f"{r.spec.id} {r.head}" for r in self.rows() if r.head.status is not Status.COMPLETED]
        left: dict[str, Any] = {
            "unfinished invocations": unfinished,
            "locks": data.locks,
            "inboxes": {a: places for a, places in data.inboxes.items() if places},
            "timers": self._due(data.timers),
            "invocations in memory": [(s.id, s.state) for s in machine.slots.invocations.values()],
            "keys in memory": machine.slots.keys,
            "promises in memory": machine.slots.promises,
            "attempts": driver.live,
            "attempts without a place": driver.ready,
            "idle attempts": driver.idle,
            "journals without a row": set(data.journals) - set(data.invocations),
            "attempts without a row": set(data.attempts) - set(data.invocations),
        }
        for name, things in left.items():
            if things:
                raise Violation(f"left over at the end: {name}: {things}")

    def _due(self, timers: set[tuple[int, int, int]]) -> list[Timer]:
        return [Timer(*timer) for timer in sorted(timers)]
