"""Questions in SQL on their way to the store: few at a time, each on a thread beside the engine.

Rules of this file:
1. The loop is asked for what only memory knows, once; all the rest happens elsewhere.
2. More than may run wait, more than may wait are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from agentdur.core.catalog import IN_PROCESS, OWN_URI
from agentdur.core.errors import NotRunning, QueriesBusy
from agentdur.core.ports import Store
from agentdur.core.query import Live, LiveAttempt, QueryLimits, Question, ServedAt, ServedService, Table
from agentdur.core.search import Findings, Search
from agentdur.runtime.engine import Machine
from agentdur.runtime.remote.deployments import Deployment, Deployments
from agentdur.runtime.slots import Slot
from agentdur.wire.discovery import VERSION_MAX, VERSION_MIN

T = TypeVar("T")

WAITING_TOLD_MAX = 5000
"""Of more invocations that wait for an attempt, the moment of their last one is not told."""


class Driver(Protocol):
    """What runs attempts."""

    @property
    def live(self) -> Mapping[Any, Slot]:
        """The invocations that have an attempt, by attempt."""


class Owner(Protocol):
    """What is asked of the engine."""

    machine: Machine
    deployments: Deployments

    @property
    def driver(self) -> Driver:
        """Runs attempts in this process."""

    @property
    def remote(self) -> Driver:
        """Runs them elsewhere."""

    def serves(self, service: str, handler: str) -> bool:
        """Whether this process runs the handler."""


class Queries:
    """Asks `store`. `stop` ends those that run."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store, self.limits = store, limits
        self._threads: ThreadPoolExecutor | None = None
        self._asked = 0
        self._stopped = False

    async def ask(self, sql: str, now: int, live: Live) -> Table:
        """The answer; QueriesBusy when too many wait."""

        def ask(stopped: Callable[[], bool]) -> Table:
            question = Question(sql=sql, now=now, live=live, limits=self.limits, stopped=stopped)
            return self._store.query(question)

        return await self._on_thread(ask)

    async def search(self, what: Search) -> Findings:
        """What is found in the time there is; QueriesBusy when too many wait."""

        def look(stopped: Callable[[], bool]) -> Findings:
            return self._store.search(replace(what, seconds=self.limits.search_seconds, stopped=stopped))

        return await self._on_thread(look)

    async def _on_thread(self, work: Callable[[Callable[[], bool]], T]) -> T:
        """What it answers; it is told to stop when nobody waits any more."""
        if self._stopped:
            raise NotRunning("the engine is stopping")
        if self._asked >= self.limits.running + self.limits.waiting:
            raise QueriesBusy(f"{self._asked} queries run or wait")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.limits.running, "agentdur-query")
        left = False

        def stopped() -> bool:
            return left or self._stopped

        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, stopped)
        except asyncio.CancelledError:
            left = True
            task = asyncio.current_task()
            if self._stopped and (task is None or not task.cancelling()):
                raise NotRunning("the engine is stopping") from None  # its turn had not come
            raise
        finally:
            self._asked -= 1

    async def stop(self) -> None:
        """Answer no more; what runs is interrupted."""
        self._stopped = True
        if self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def live_of(engine: Owner) -> Live:
    """What only the engine's memory knows."""
    deployments = engine.deployments
    return Live(
        attempts=tuple(_attempts(engine)),
        services=tuple(
            ServedService(
                name=meta.name, revision=meta.revision, public=meta.public, ty=meta.kind.value,
                deployment=meta.deployment_id, handlers=tuple(meta.handlers),
            )
            for meta in deployments.catalog().shown.values()
        ),
        deployments=tuple([*_own(deployments), *map(_served, deployments.all.values())]),
    )  # fmt: skip


def _attempts(engine: Owner) -> Iterator[LiveAttempt]:
    """Those that run, and of those that wait for their next attempt as many as can be told quickly."""
    for driver in (engine.driver, engine.remote):
        yield from (_attempt(engine, slot) for slot in driver.live.values())
    waiting = (
        slot for slot in engine.machine.slots.invocations.values() if slot.begun_at and slot.attempt is None
    )
    yield from (_attempt(engine, slot) for slot in islice(waiting, WAITING_TOLD_MAX))


def _attempt(engine: Owner, slot: Slot) -> LiveAttempt:
    attempt, target = slot.attempt, slot.target
    server, place = None, IN_PROCESS
    if target is not None and not engine.serves(target.service, target.handler):
        pinned = None if slot.state is None else slot.state.head.deployment
        found = engine.deployments.find(pinned, target.service)
        if found is not None:
            place, server = found.id, found.record.sdk_version
    return LiveAttempt(
        slot.seq, attempt is not None, slot.begun_at, place, server,
        None if attempt is None or attempt.closed else attempt.awaiting(),
    )  # fmt: skip


def _own(deployments: Deployments) -> list[ServedAt]:
    if not deployments.own.shown:
        return []
    return [
        ServedAt(
            id=IN_PROCESS, ty="http", endpoint=OWN_URI, created_at=deployments.since, min_version=VERSION_MIN,
            max_version=VERSION_MAX, services=tuple(deployments.own.shown),
        )
    ]  # fmt: skip


def _served(one: Deployment) -> ServedAt:
    record: Any = one.record
    return ServedAt(
        id=one.id, ty="lambda" if one.function else "http", endpoint=record.uri,
        created_at=record.created_at, min_version=one.min_version, max_version=one.max_version,
        services=tuple(one.services),
    )  # fmt: skip
