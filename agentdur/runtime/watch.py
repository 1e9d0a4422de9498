"""Watching one invocation: what is committed of it, and a wake-up whenever that changes.

Rules of this file:
1. Who watches reads committed rows behind its own place; nothing is queued for it.
2. Without anybody who watches a commit costs one look at an empty dict.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agentdur.core.ids import InvocationId
from agentdur.core.ports import Row
from agentdur.runtime import views
from agentdur.runtime.engine import Machine


class Watch:
    """`core.ports.Watch`, of one engine that lives in this process."""

    def __init__(self, machine: Machine, invocation: InvocationId) -> None:
        self.id = invocation
        self._machine = machine
        self._changed = asyncio.Event()
        machine.watches.setdefault(invocation, []).append(self._changed)

    async def changed(self, seconds: float) -> bool:
        """Until something of it was committed, at most so long; False when nothing was."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    def close(self) -> None:
        """Watch no more."""
        watching = self._machine.watches.get(self.id, [])
        if self._changed in watching:
            watching.remove(self._changed)
        if not watching:
            self._machine.watches.pop(self.id, None)

    async def summary(self) -> dict[str, Any] | None:
        """The invocation without its journal, as `Engine.list` shows it; None when there is no record."""
        row = await self._row()
        return None if row is None else views.summary(self._machine, row)

    async def rows(self, after: int, limit: int, preview: int) -> list[dict[str, Any]]:
        """Journal entries behind index `after`, at most `limit`; of each payload at most `preview` bytes."""
        row = await self._row()
        if row is None:
            return []
        store = self._machine.store
        entries = store.journal(row.seq, after + 1, limit)
        times = dict(store.times(row.seq, after + 1, limit)) if entries else {}
        return [
            {"index": index, "at": views.instant(times.get(index)), **views.entry_view(entry, preview)}
            for index, entry in entries
        ]

    async def failed_attempts(self) -> list[dict[str, Any]]:
        """Those that are kept, oldest first."""
        row = await self._row()
        if row is None or row.head.last_failure is None:
            return []
        return views.failed_attempts(self._machine.store.attempts(row.seq))

    async def _row(self) -> Row | None:
        machine = self._machine
        machine.check_alive()
        waiting = machine.writer.durable(machine.writer.number - 1)
        if waiting is not None:
            await waiting
        return machine.store.invocation(self.id)
