"""A stage: one store, and the engines that run on it one after another, each until it stops or crashes.

Rules of this file:
1. A crash tells nobody: what is not committed is lost, and what is committed is all that the next engine has.
2. Back-offs are a few milliseconds long, so that stories of many attempts stay short.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agentdur.core import journal as j
from agentdur.core.catalog import HandlerOptions
from agentdur.core.errors import NotRunning, StoreError
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Store
from agentdur.core.retry import RetryPolicy
from agentdur.observe.observer import EngineObserver
from agentdur.runtime.owner import Engine, Knobs
from agentdur.runtime.writer import Committer, Pace, ThreadCommitter, attempt_commit
from agentdur.sdk.approval import ApprovalRecord
from agentdur.sdk.client import EngineClient
from agentdur.sdk.service import BaseService
from agentdur.server import App
from agentdur.stores import MemoryStore, SqliteStore

QUICK = HandlerOptions(retry=RetryPolicy(delay_ms_initial=2, delay_ms_max=8))
PATIENCE_SECONDS = 10.0


class Stage:
    """Start engines on it; `client` and `engine` are those of the one that runs now."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.app: App
        self.engine: Engine
        self.running = False
        self.services: tuple[BaseService, ...] = ()
        self.how: dict[str, Any] = {}
        self.fresh()

    def fresh(self) -> None:
        """An empty store."""
        self.path = self.folder / f"{len(list(self.folder.iterdir()))}.db"
        self.store: Store = MemoryStore() if self.kind == "memory" else SqliteStore(str(self.path))

    async def start(
        self,
        *services: BaseService,
        defaults: HandlerOptions = QUICK,
        knobs: Knobs | None = None,
        committer: Callable[[], Committer] = ThreadCommitter,
        store: Store | None = None,
        observer: EngineObserver | None = None,
    ) -> Engine:
        """An engine over what is stored."""
        self.services = services
        self.how = {"defaults": defaults, "knobs": knobs, "observer": observer}
        app = self.app = App(services)
        self.engine = Engine(
            store or self.store,
            app.handlers(),
            app.catalog(defaults),
            knobs=knobs,
            committer=committer,
            observer=observer,
        )
        await self.engine.start()
        self.running = True
        return self.engine

    @property
    def client(self) -> EngineClient:
        return EngineClient(self.engine)

    async def crash(self) -> None:
        """The process dies."""
        self.running = False
        abandon(self.engine)
        for _ in range(5):
            await asyncio.sleep(0)
        self.reopen()

    def reopen(self) -> None:
        """The store as another process finds it."""
        if self.kind != "memory":
            self.store = SqliteStore(str(self.path))

    async def restart(self, *services: BaseService, **how: Any) -> Engine:
        """Crash, and start again: the same services unless others are given."""
        await self.crash()
        return await self.start(*(services or self.services), **{**self.how, **how})

    async def stop(self) -> None:
        """Stop the engine in good order."""
        self.running = False
        await self.engine.stop()

    async def close(self) -> None:
        """Whatever runs, crash it: the story is over."""
        if self.running:
            await self.crash()

    # -- people

    async def questions(self, count: int = 1) -> list[ApprovalRecord]:
        """What people are asked, when there are so many questions; oldest first."""
        found: list[ApprovalRecord] = []

        async def how_many() -> int:
            found[:] = await self.client.approvals()
            return len(found)

        await until_it_is(how_many, count)
        return found

    async def decide(self, approved: bool = True, **said: Any) -> ApprovalRecord:
        """Decide the one question there is; `said`: by, reason, payload."""
        (asked,) = await self.questions()
        decide = self.client.approve if approved else self.client.reject
        return await decide(asked.id, asked.digest, **said)

    # -- what is stored

    def journal(self, invocation: str) -> list[tuple[int, j.Entry]]:
        """The committed journal of an invocation; empty when there is no record."""
        row = self.store.invocation(InvocationId(invocation))
        return [] if row is None else self.store.journal(row.seq)

    async def status(self, invocation: str) -> str:
        """Its status as the API says it, or `unknown`."""
        shown = await self.engine.describe(InvocationId(invocation))
        return "unknown" if shown is None else str(shown["status"])

    async def until_status(self, invocation: str, *wanted: str) -> dict[str, Any]:
        """Wait until it is in one of these statuses; answers its description."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            shown = await self.engine.describe(InvocationId(invocation)) or {"status": "unknown"}
            if shown["status"] in wanted:
                return shown
            assert time.monotonic() < deadline, f"{invocation} is {shown['status']}, not {wanted}: {shown}"
            await asyncio.sleep(0.002)


def abandon(engine: Engine) -> None:
    """As if the process had died: nothing more is committed, nobody is told, tasks just end."""
    machine = engine.machine
    machine.stopping = engine.driver.stopping = True
    machine.timers.stop()
    engine.sweeper.stop()
    if not machine.writer.dead:
        machine.writer.dead = True
        machine.writer.committer.stop()
    engine.driver.forget()
    engine.machine.streams.fail(NotRunning("the process has died"))
    for waiting in machine.waiting.values():
        for future in waiting:
            future.cancel()
    machine.waiting.clear()
    engine._uninstall()
    engine.store.close()


class InTurns(Pace):
    """Commits and the loop's work take turns, however long they take: the same commits every time."""

    def overlapping(self) -> bool:
        return False


class InlineCommitter:
    """Commits on the loop. With `limit`, the process dies at that commit, before it is made or (`after`) when
    it is: `crashed` is set and nobody is told."""

    def __init__(self, limit: int | None = None, after: bool = False) -> None:
        self.limit, self.after = limit, after
        self.pace: Pace = InTurns()
        self.count = 0
        self.crashed = asyncio.Event()

    def start(self, commit: Callable[[Any], None], done: Callable[[StoreError | None], None]) -> None:
        self._commit, self._done = commit, done
        self._loop = asyncio.get_running_loop()

    def submit(self, prepared: Any) -> None:
        self.count += 1
        last = self.count == self.limit
        if last and not self.after:
            self.crashed.set()
            return
        error = attempt_commit(self._commit, prepared)
        if last:
            self.crashed.set()
            return
        self._loop.call_soon(self._done, error)

    def let_in(self) -> None:
        """It is made already."""

    def stop(self) -> None:
        """Nothing runs."""


class Ledger:
    """What steps did to the world, in their order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> str:
        self.lines.append(line)
        return line

    def count(self, line: str) -> int:
        return self.lines.count(line)

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.lines)


async def until(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.001)


async def until_it_is(ask: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Ask again until the answer is this one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := await ask()) != wanted:
        assert time.monotonic() < deadline, f"{answer} did not become {wanted}"
        await asyncio.sleep(0.001)


def check_journal(entries: list[tuple[int, j.Entry]], ended: bool = True) -> None:
    """Numbered without a gap, every completion belongs to one command, at most one output, and that last."""
    assert [index for index, _ in entries] == list(range(len(entries)))
    assert isinstance(entries[0][1], j.Input)
    opened: set[int] = set()
    done: set[int] = set()
    outputs = 0
    for _, entry in entries:
        if isinstance(entry, j.Completion):
            assert entry.id in opened, f"nobody asked for completion {entry.id}"
            assert entry.id not in done, f"completion {entry.id} came twice"
            done.add(entry.id)
        elif isinstance(entry, j.Output):
            outputs += 1
        elif not isinstance(entry, j.Signal):
            ids = [getattr(entry, name) for name in ("completion", "id_completion") if hasattr(entry, name)]
            assert not opened & set(ids), "a completion id was given out twice"
            opened |= set(ids)
    assert outputs == int(ended)
    if ended:
        assert isinstance(entries[-1][1], j.Output)
