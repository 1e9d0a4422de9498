"""What goes wrong in a simulated run: the knobs a seed sets, and the doors through which it happens.

Rules of this file:
1. Every fault is something that may happen to a real process: a crash keeps what was committed and nothing
   else, a failed commit writes nothing, a message may come again, a clock may jump.
2. When `calm` is set nothing goes wrong any more: what has not ended then must be able to end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, Protocol

from msgspec import Struct

from agentdur.core import commands as c
from agentdur.core.errors import StoreError, StoreFailed
from agentdur.core.ids import InvocationId
from agentdur.core.journal import FIRST_FREE_SIGNAL, Entry
from agentdur.core.ports import Filter, Row, Timer, Writes
from agentdur.core.query import Question, Table
from agentdur.core.search import Findings, Search
from agentdur.core.state import FailedAttempt, ObjectState, PromiseState, Status
from agentdur.core.target import ObjectAddress, PromiseAddress
from agentdur.runtime.engine import Machine
from agentdur.runtime.writer import Pace
from agentdur.stores.memory import MemoryStore
from agentdur.testing.clock import SimLoop

CRASHES_MAX = 8
HISTORY_MAX = 60
"""Messages that may be said again."""


class Plan(Struct, kw_only=True):
    """How one seed's world behaves. Chances per occasion, times in seconds."""

    crash_before_commit: float = 0.0
    crash_after_commit: float = 0.0
    crash_when_told: float = 0.0
    crash_in_step: float = 0.0
    crash_in_drain: float = 0.0
    commit_fails: float = 0.0
    read_fails: float = 0.0
    step_fails: float = 0.0
    step_hangs: float = 0.0
    redeliver_every: float = 0.0
    operate_every: float = 0.0
    clock_jumps_every: float = 0.0
    stop_every: float = 0.0
    commit_seconds: float = 0.002
    step_seconds: float = 0.05
    pause_seconds: float = 1.0
    live_attempts: int = 1000
    cached_keys: int = 10_000
    timers_in_memory: int = 10_000
    retention_seconds: float = 86_400.0
    cleanup_seconds: float = 3600.0
    inactivity_seconds: float = 60.0
    disorder: float = 0.0
    overlap: float = 0.0


def plan_of(rng: Random) -> Plan:
    """Each kind of trouble is absent in some seeds and frequent in others."""

    def sometimes(*values: float) -> float:
        return rng.choice((0.0, 0.0, *values))

    return Plan(
        crash_before_commit=sometimes(0.002, 0.01, 0.03),
        crash_after_commit=sometimes(0.002, 0.01, 0.03),
        crash_when_told=sometimes(0.002, 0.01),
        crash_in_step=sometimes(0.01, 0.03),
        crash_in_drain=sometimes(0.3, 0.8),
        commit_fails=sometimes(0.005, 0.02),
        read_fails=sometimes(0.005, 0.02),
        step_fails=sometimes(0.02, 0.1),
        step_hangs=sometimes(0.01, 0.03),
        redeliver_every=sometimes(0.05, 0.5),
        operate_every=sometimes(0.05, 0.5),
        clock_jumps_every=sometimes(0.0, 2.0),
        stop_every=sometimes(0.0, 3.0),
        commit_seconds=rng.choice((0.0, 0.001, 0.01, 0.2)),
        step_seconds=rng.choice((0.0, 0.01, 0.3)),
        pause_seconds=rng.choice((0.0, 0.5, 20.0)),
        live_attempts=rng.choice((1, 2, 4, 1000, 1000)),
        cached_keys=rng.choice((1, 10_000)),
        inactivity_seconds=rng.choice((0.05, 1.0, 60.0)),
        disorder=rng.choice((0.0, 0.0, 0.2)),
        timers_in_memory=rng.choice((2, 10_000)),
        retention_seconds=rng.choice((0.0, 3.0, 86_400.0)),
        cleanup_seconds=rng.choice((2.0, 3600.0)),
        overlap=sometimes(0.5, 1.0),
    )


class Process(Protocol):
    """One life of the engine, as the doors see it."""

    plan: Plan
    rng: Random
    loop: SimLoop
    generation: int

    @property
    def calm(self) -> bool:
        """Nothing goes wrong any more."""

    def crash(self, where: str) -> None:
        """The process is gone when this callback ends."""

    def note(self, *what: object) -> None:
        """A line of the trace."""

    def committed(self, writes: Writes) -> None:
        """The store has it."""

    def told(self) -> None:
        """The engine knows that the store has it."""


class SimPace(Pace):
    """Overlaps when chance says so: what takes no time cannot be measured."""

    together = 0

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def overlapping(self) -> bool:
        """Drawn anew each time."""
        return self._process.rng.random() < self._process.plan.overlap


class SimCommitter:
    """Commits in virtual time, one at a time, with trouble before and after."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pace: Pace = SimPace(process)
        self._commit: Callable[[Any], None]
        self._done: Callable[[StoreError | None], None]
        self._busy = self._stopped = False
        self._running: tuple[asyncio.TimerHandle, Any] | None = None

    def start(self, commit: Callable[[Any], None], done: Callable[[StoreError | None], None]) -> None:
        """Before the first `submit`."""
        self._commit, self._done = commit, done

    def submit(self, prepared: Any) -> None:
        """Commit this, later."""
        assert not self._busy, "two commits at once"
        assert not self._stopped, "a commit after the end"
        self._busy = True
        process = self._process
        delay = process.plan.commit_seconds * process.rng.random()
        self._running = (process.loop.call_later(delay, self._write, prepared), prepared)

    def let_in(self) -> None:
        """It is under way."""

    def _write(self, prepared: Any) -> None:
        process, plan = self._process, self._process.plan
        self._running = None
        chance = 1.0 if process.calm else process.rng.random()
        if chance < plan.crash_before_commit:
            return process.crash("before a commit")
        chance = 1.0 if process.calm else process.rng.random()
        if chance < plan.commit_fails:
            process.generation += 1
            return self._tell(StoreFailed("injected: the commit failed"))
        self._commit(prepared)
        process.committed(prepared)
        chance = 1.0 if process.calm else process.rng.random()
        if chance < plan.crash_after_commit:
            return process.crash("after a commit")
        process.loop.call_later(plan.commit_seconds * process.rng.random() / 2, self._tell, None)

    def _tell(self, error: StoreError | None) -> None:
        process = self._process
        self._busy = False
        process.note("commit", "failed" if error else "told")
        self._done(error)
        process.told()
        if not process.calm and process.rng.random() < process.plan.crash_when_told:
            process.crash("when told of a commit")

    def stop(self) -> None:
        """No more commits; the one that runs ends first."""
        self._stopped = True
        if self._running is not None:
            timer, prepared = self._running
            timer.cancel()
            self._write(prepared)


class SimStore:
    """A store whose reads fail now and then. The data outlives the process."""

    def __init__(self, inner: MemoryStore, process: Process) -> None:
        self.inner, self._process = inner, process

    def _read(self) -> MemoryStore:
        process = self._process
        if not process.calm and process.plan.read_fails and process.rng.random() < process.plan.read_fails:
            process.note("read failed")
            process.generation += 1
            raise StoreFailed("injected: the read failed")
        return self.inner

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def prepare(self, writes: Writes) -> Writes:
        """A copy."""
        return self.inner.prepare(writes)

    def commit(self, prepared: Writes) -> None:
        """Make it durable."""
        self.inner.commit(prepared)

    def next_seq(self) -> int:
        """A number above every stored one."""
        return self.inner.next_seq()

    def invocation(self, invocation: InvocationId) -> Row | None:
        """One invocation by id."""
        return self._read().invocation(invocation)

    def journal(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, Entry]]:
        """Its entries from index `start` on."""
        return self._read().journal(seq, start, limit)

    def times(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, int]]:
        """When its entries were appended."""
        return self._read().times(seq, start, limit)

    def attempts(self, seq: int) -> list[FailedAttempt]:
        """Those that failed."""
        return self._read().attempts(seq)

    def callees(self, seq: int) -> list[InvocationId]:
        """All it called or sent to."""
        return self._read().callees(seq)

    def object(self, address: ObjectAddress) -> ObjectState | None:
        """Lock and inbox of a key."""
        return self._read().object(address)

    def values(self, address: ObjectAddress) -> dict[str, bytes]:
        """All state values of a key."""
        return self._read().values(address)

    def states(self, service: str, name: str, after: str, limit: int) -> Any:
        """One state value of every key."""
        return self._read().states(service, name, after, limit)

    def value(self, address: ObjectAddress, name: str) -> bytes | None:
        """One state value of a key."""
        return self._read().value(address, name)

    def promise(self, address: PromiseAddress) -> PromiseState | None:
        """One promise."""
        return self._read().promise(address)

    def running(self) -> Iterator[Row]:
        """All that is INVOKED."""
        return self._read().running()

    def timers(self, limit: int) -> list[Timer]:
        """The earliest timers."""
        return self._read().timers(limit)

    def expired(self, now: int, limit: int) -> Any:
        """What is past its retention."""
        return self._read().expired(now, limit)

    def deployments(self) -> list[bytes]:
        """None in this world, but they are asked for."""
        return self._read().deployments()

    def conversation(self, head: str) -> list[bytes] | None:
        """The messages up to this one."""
        return self._read().conversation(head)

    def unused_messages(self, before: int, limit: int) -> list[str]:
        """The ends of old conversations."""
        return self._read().unused_messages(before, limit)

    def list(self, which: Filter) -> Iterable[Row]:
        """Newest first."""
        return self._read().list(which)

    def count(self) -> dict[str, int]:
        """By status."""
        return self._read().count()

    def search(self, what: Search) -> Findings:
        """Look for text."""
        return self._read().search(what)

    def query(self, question: Question) -> Table:
        """The answer to a question in SQL."""
        return self._read().query(question)


class Redelivery:
    """Says messages again that the engine has heard already, where hearing them twice must change nothing."""

    def __init__(self, machine: Machine, process: Process, reused: set[InvocationId]) -> None:
        self._machine, self._process, self._reused = machine, process, reused
        self._heard: deque[Any] = deque(maxlen=HISTORY_MAX)
        said = machine._say_invocation

        def listening(message: Any) -> None:
            self._heard.append(message)
            said(message)

        machine._say_invocation = listening  # type: ignore[method-assign]  # to listen at the door

    async def run(self) -> None:
        """Until the process is calm."""
        process = self._process
        while not process.calm:
            await asyncio.sleep(process.rng.uniform(0, 2 * process.plan.redeliver_every))
            if self._heard and self._machine.error is None and not self._machine.stopping:
                message = process.rng.choice(self._heard)
                if self._harmless(message):
                    process.note("again", type(message).__name__, getattr(message, "id", ""))
                    try:
                        self._machine.dispatch(message)
                    except StoreError:
                        continue

    def _harmless(self, message: Any) -> bool:
        if getattr(message, "id", None) in self._reused:
            return False
        if isinstance(message, c.Notify | c.StartDue | c.RetryDue):
            return True
        if isinstance(message, c.SignalTo):
            return isinstance(message.signal, int) and message.signal >= FIRST_FREE_SIGNAL
        if isinstance(message, c.Propose | c.Suspend | c.Fail | c.End):  # only from an attempt that is over
            slot = self._machine.slots.invocations.get(message.id)
            head = None if slot is None or slot.state is None else slot.state.head
            return head is None or head.status is not Status.INVOKED or head.attempt > message.attempt
        return False
