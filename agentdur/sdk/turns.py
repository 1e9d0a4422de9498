"""Replaying branches go on in the order in which they went on when the journal was written.

Rules of this file:
1. What tasks make of their failures depends on which of them comes first: `asyncio.gather` raises the first
   one, a task group stops the others. So a replay lets the branches go on one at a time, by journal index.
2. Between two of them pass some turns of the loop: what the first one does is seen by those that wait for it.
3. Nothing new begins, and nothing that arrives is seen, before all that is recorded was seen.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from heapq import heappop, heappush
from typing import Any

TURNS_BETWEEN = 12
"""Turns of the loop from one branch to the next: as many as an error needs to reach the handler through a few
nested groups of tasks."""


class Turns:
    """Who waits to go on, by journal index. `end_index`: the length of the journal that is replayed."""

    __slots__ = ("_count", "_end", "_heap", "_loop", "_running", "over")

    def __init__(self, loop: asyncio.AbstractEventLoop, end_index: int) -> None:
        self._loop, self._end = loop, end_index
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._running = False
        self.over = False

    def before(self, index: int) -> bool:
        """True when others may have to go on before what entry `index` completes."""
        return not self.over and (index < self._end or self._running)

    def take(self, index: int) -> Generator[Any, Any, None]:
        """Wait until those with a smaller index have gone on."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._count += 1
        heappush(self._heap, (index, self._count, waiter))
        if not self._running:
            self._running = True
            self._loop.call_soon(self._pass, TURNS_BETWEEN)
        yield from waiter

    @types.coroutine
    def end(self) -> Generator[Any, Any, None]:
        """Wait until everything recorded was seen."""
        if not self.over:
            yield from self.take(self._end)

    def _pass(self, left: int) -> None:
        if left:
            self._loop.call_soon(self._pass, left - 1)
            return
        while self._heap:
            index, _, waiter = heappop(self._heap)
            if waiter.done():
                continue
            waiter.set_result(None)
            if index < self._end:
                self._loop.call_soon(self._pass, TURNS_BETWEEN)
                return
            self.over = True  # what is new goes on together
        self._running = False
