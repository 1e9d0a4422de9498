"""The one writer: everything that happens while a commit runs goes into the next one.

Rules of this file:
1. Commits are made one after another, in the order in which their writes were collected.
2. Nobody is told of a commit that has not happened; all are told in the order in which they asked.
3. A commit that fails is the end of this writer: the engine forgets its memory and reads the store again.
4. Where a commit takes less time than the loop needs for those it tells, the two overlap: the next commit
   starts before they are told, and a crowd in lockstep is told in two halves, a commit between them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from agentdur.core.errors import AgentdurError, NotRunning, StoreError, StoreFailed
from agentdur.core.ports import Store, Writes

LET_IN_SECONDS_MAX = 0.001
OVERLAP_ENTER = 1.25
OVERLAP_LEAVE = 2.0
"""How long a commit may take, in parts of the loop's work between two commits, for the two to overlap."""
TOLD_TOGETHER_MAX = 16
"""Fewer are not kept back for the balance: a commit has a price of its own."""


class Pace:
    """Whether commits and the loop's work overlap, from how long each took lately. Times in seconds."""

    together = TOLD_TOGETHER_MAX

    def __init__(self) -> None:
        self._overlaps = False
        self._commit = self._work = 0.0

    def overlapping(self) -> bool:
        """True: the next commit starts before those of the last one are told."""
        return self._overlaps

    def committed(self, seconds: float) -> None:
        """A commit took so long."""
        self._commit += (seconds - self._commit) / 4

    def worked(self, seconds: float) -> None:
        """The loop took so long for those who were told of a commit."""
        self._work += (seconds - self._work) / 4
        # Half a crowd is half the work, but more than half a commit: two thresholds, or it would swing.
        self._overlaps = self._commit < self._work * (OVERLAP_LEAVE if self._overlaps else OVERLAP_ENTER)


class Committer(Protocol):
    """Runs `store.commit` somewhere and reports back on the loop."""

    pace: Pace

    def start(self, commit: Callable[[Any], None], done: Callable[[StoreError | None], None]) -> None:
        """Before the first `submit`."""

    def submit(self, prepared: Any) -> None:
        """Commit this; one at a time."""

    def let_in(self) -> None:
        """The loop goes on working: make sure that the commit is under way first."""

    def stop(self) -> None:
        """No more commits; the running one ends first."""


class ThreadCommitter:
    """A thread of its own: SQLite blocks, and releases the interpreter while it does."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._taken = threading.Lock()
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, commit: Callable[[Any], None], done: Callable[[StoreError | None], None]) -> None:
        """Begin serving on the running loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._serve, args=(loop, commit, done), name="agentdur-writer", daemon=True
        )
        self._thread.start()

    def _serve(
        self,
        loop: asyncio.AbstractEventLoop,
        commit: Callable[[Any], None],
        done: Callable[[StoreError | None], None],
    ) -> None:
        while (job := self._jobs.get()) is not None:
            if self._taken.locked():
                self._taken.release()
            error = attempt_commit(commit, job)
            if loop.is_closed():
                return
            loop.call_soon_threadsafe(done, error)

    def submit(self, prepared: Any) -> None:
        """Hand over to the thread."""
        self._taken.acquire(blocking=False)
        self._jobs.put(prepared)

    def let_in(self) -> None:
        """A thread that wakes up waits for the interpreter, up to 5 ms, while the loop keeps it busy. So the
        loop steps aside until the thread has the job, and gets the interpreter back when SQLite works."""
        self._taken.acquire(timeout=LET_IN_SECONDS_MAX)

    def stop(self) -> None:
        """Let the thread end."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout=30)


def attempt_commit(commit: Callable[[Any], None], prepared: Any) -> StoreError | None:
    """Commit, and answer the error instead of raising it."""
    try:
        commit(prepared)
    except StoreError as error:
        return error
    except Exception as error:
        return unforeseen(error)
    return None


def unforeseen(error: Exception) -> StoreFailed:
    """What no store should raise, as what it means for those who wait."""
    return StoreFailed(f"{type(error).__name__}: {error}")


class Writer:
    """Collects writes and commits them in groups. `number` is the commit that is being collected."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        collect: Callable[[Writes], None],
        failed: Callable[[StoreError], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.store, self.committer = store, committer
        self._collect, self._failed = collect, failed
        self.writes = Writes()
        self.number = 1
        self.committed = 0
        self.busy = self.due = self.dead = False
        self._error: AgentdurError = NotRunning("nothing is committed any more")
        self._after: list[Callable[[], None]] = []
        self._after_running: list[Callable[[], None]] = []
        self._waiting: list[tuple[asyncio.Future[Any], Any]] = []
        self._waiting_running: list[tuple[asyncio.Future[Any], Any]] = []
        self._rest: list[tuple[asyncio.Future[Any], Any]] = []  # committed, and told in a moment
        self._began = self._told_at = 0.0
        self.committed_in: Callable[[int, float], None] | None = None
        """Is told of each commit: journal entries, seconds."""
        self._entries = 0
        committer.start(store.commit, self._done)

    def touch(self) -> int:
        """Something was added to `writes`: commit soon. Answers the number of that commit."""
        if not self.due:
            self.due = True
            if not self.busy:
                self._start_soon()
        return self.number

    def _start_soon(self) -> None:
        # Two turns of the loop: tasks that were made or woken in this one say what they have to say first.
        self.loop.call_soon(self.loop.call_soon, self._start)

    def after(self, action: Callable[[], None]) -> None:
        """Call this when what is collected now is durable."""
        self.touch()
        self._after.append(action)

    def after_this(self, action: Callable[[], None]) -> None:
        """As `after`, from within `collect`: the commit that is about to start."""
        self._after.append(action)

    def durable(self, number: int) -> asyncio.Future[None] | None:
        """Until commit `number` is done; None when it is. Each caller has its own future, free to cancel."""
        if number <= self.committed:
            return None
        future = self.loop.create_future()
        if self.dead:
            future.set_exception(self._error)
        elif number < self.number:
            self._waiting_running.append((future, None))
        else:
            self.touch()
            self._waiting.append((future, None))
        return future

    def answer(self, future: asyncio.Future[Any], value: Any) -> None:
        """Set this result when what is collected now is durable."""
        self.touch()
        self._waiting.append((future, value))

    def _start(self) -> None:
        if self.dead or self.busy or not self.due:  # asked for twice: one commit at a time
            return
        self.busy, self.due = True, False
        self._began = self.loop.time()
        if self._told_at:
            self.committer.pace.worked(self._began - self._told_at)
            self._told_at = 0.0
        try:
            self._collect(self.writes)
        except Exception as error:  # half of what belongs together was collected
            self.die(error if isinstance(error, StoreError) else unforeseen(error))
            return
        writes, self.writes = self.writes, Writes()
        self._after_running, self._after = self._after, []
        self._waiting_running, self._waiting = self._waiting, []
        self.number += 1
        self._entries = len(writes.journal) if writes else -1
        if not writes:
            self.loop.call_soon(self._done, None)
            return
        try:
            prepared = self.store.prepare(writes)
        except Exception as error:  # with anything else than a StoreError all would wait for ever
            self.die(error if isinstance(error, StoreError) else unforeseen(error))
        else:
            self.committer.submit(prepared)

    def _start_and_go_on(self) -> None:
        self._start()
        if self.busy:
            self.committer.let_in()

    def _done(self, error: StoreError | None) -> None:
        if self.dead:
            return
        if error is not None:
            self.die(error)
            return
        pace = self.committer.pace
        now = self.loop.time()
        pace.committed(now - self._began)
        if self.committed_in is not None and self._entries >= 0:
            self.committed_in(self._entries, now - self._began)
        self.committed = self.number - 1
        self.busy = False
        told, self._waiting_running = [*self._rest, *self._waiting_running], []
        self._rest = []
        actions, self._after_running = self._after_running, []
        try:
            for action in actions:  # before the next commit takes away what they look at
                action()
        except StoreError as unread:  # what is durable could not be read
            _tell(told)
            self.die(unread)
            return
        if pace.overlapping():
            first = (len(told) - len(self._waiting)) // 2  # with them, the next commit is half of the crowd
            if first > pace.together:
                told, self._rest = told[:first], told[first:]
                soon = self.loop.call_soon
                soon(soon, soon, self._tell_rest)  # those told now say in two turns what they have to say
            elif self.due:
                self._start_and_go_on()
        self._told_at = self.loop.time()
        _tell(told)
        if self.due and not self.busy and not self._rest:
            self._start_soon()

    def _tell_rest(self) -> None:
        if not self.dead and not self.busy and self.due:
            self._start_and_go_on()
        rest, self._rest = self._rest, []
        _tell(rest)

    def die(self, error: StoreError) -> None:
        """The store failed: nothing more is committed, and who waits is told."""
        if self.dead:
            return
        self.dead, self._error = True, error
        self.committer.stop()
        _tell(self._rest)
        self._rest = []
        for future, _ in (*self._waiting_running, *self._waiting):
            if not future.done():
                future.set_exception(error)
                future.exception()  # not everyone who asked still waits
        self._failed(error)

    async def close(self) -> None:
        """Commit what is collected, then stop."""
        while not self.dead and (self.busy or self.due):
            future = self.durable(self.number if self.due else self.number - 1)
            if future is None:
                await asyncio.sleep(0)
            else:
                await asyncio.wait([future])
        if not self.dead:
            self.dead = True
            self.committer.stop()
        self._tell_rest()


def _tell(told: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, value in told:
        if not future.done():
            future.set_result(value)
