"""Questions in SQL on their way to the store: few at a time, each on a thread beside the engine.

Rules of this file:
1. The loop is asked for what only memory knows, once; all the rest happens elsewhere.
2. More than may run wait, more than may wait are refused.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agentdur.core.catalog import IN_PROCESS, OWN_URI
from agentdur.core.errors import NotRunning, QueriesBusy
from agentdur.core.ports import Store
from agentdur.core.query import Live, LiveAttempt, QueryLimits, Question, ServedAt, ServedService, Table
from agentdur.runtime.engine import Machine
from agentdur.runtime.remote.deployments import Deployment, Deployments
from agentdur.wire.discovery import VERSION_MAX, VERSION_MIN


class Queries:
    """Asks `store`. `stop` ends those that run."""

    def __init__(self, store: Store, limits: QueryLimits) -> None:
        self._store, self.limits = store, limits
        self._threads: ThreadPoolExecutor | None = None
        self._asked = 0
        self._stopped = False

    async def ask(self, sql: str, now: int, live: Live) -> Table:
        """The answer; QueriesBusy when too many wait."""
        if self._stopped:
            raise NotRunning("the engine is stopping")
        if self._asked >= self.limits.running + self.limits.waiting:
            raise QueriesBusy(f"{self._asked} queries run or wait")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.limits.running, "agentdur-query")
        left = False

        def stopped() -> bool:
            return left or self._stopped

        question = Question(sql=sql, now=now, live=live, limits=self.limits, stopped=stopped)
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._store.query, question
            )
        except asyncio.CancelledError:
            left = True
            raise
        finally:
            self._asked -= 1

    async def stop(self) -> None:
        """Answer no more; what runs is interrupted."""
        self._stopped = True
        if self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def live_of(machine: Machine, deployments: Deployments) -> Live:
    """What only the engine's memory knows."""
    catalog = deployments.catalog()
    return Live(
        attempts=tuple(
            LiveAttempt(slot.seq, None if slot.attempt.closed else slot.attempt.awaiting())
            for slot in machine.slots.invocations.values()
            if slot.attempt is not None
        ),
        services=tuple(
            ServedService(
                name=meta.name, revision=meta.revision, public=meta.public, ty=meta.kind.value,
                deployment=meta.deployment_id,
            )
            for meta in catalog.shown.values()
        ),
        deployments=tuple([*_own(deployments), *map(_served, deployments.all.values())]),
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
