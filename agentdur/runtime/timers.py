"""Durable timers: the store has all of them, memory the earliest ones.

Rules of this file:
1. A timer fires once its time has come, late when the owner was down, in the order of its time.
2. Idle costs nothing: one call of the loop is armed, for the earliest timer.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from typing import Protocol

from agentdur.core import commands as c
from agentdur.core.errors import StoreError
from agentdur.core.journal import VOID
from agentdur.core.ports import Store, Timer
from agentdur.runtime.world import World

IN_MEMORY_MAX = 10_000
"""Timers kept in memory when they are read from the store."""
PER_TURN_MAX = 500
"""Timers fired in one turn of the loop, so that a crowd of them does not block it."""
_ARM_SECONDS_MAX = 3600.0


class Owner(Protocol):
    """What the timers need of the engine."""

    loop: asyncio.AbstractEventLoop
    store: Store
    world: World

    def dispatch(self, message: c.Message) -> None:
        """Say a message."""

    def unstored_timers(self) -> Iterable[Timer]:
        """Those that are only in the commit that is being collected."""

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call this when what is collected now is durable."""

    def drop_timer(self, timer: Timer) -> None:
        """Remove it from the store."""


class Timers:
    """A heap of the earliest timers. `horizon`: later ones are in the store only (None: all are here)."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._heap: list[Timer] = []
        self._known: set[Timer] = set()
        self._horizon: int | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """Read the earliest ones."""
        timers = self._owner.store.timers(IN_MEMORY_MAX)
        self._horizon = timers[-1].at if len(timers) >= IN_MEMORY_MAX else None
        for timer in (*timers, *self._owner.unstored_timers()):
            near = self._horizon is None or timer.at <= self._horizon
            if near and timer not in self._known:
                self._known.add(timer)
                heapq.heappush(self._heap, timer)
        self._arm()

    def stop(self) -> None:
        """Fire no more."""
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()

    def add(self, timer: Timer) -> None:
        """A timer was set; it is stored with the commit that is being collected."""
        if self._horizon is not None and timer.at > self._horizon:
            return
        self._known.add(timer)
        heapq.heappush(self._heap, timer)
        if self._heap[0] is timer:
            self._arm()

    def drop(self, timer: Timer) -> None:
        """It is not wanted any more; its place in the heap is passed over."""
        self._known.discard(timer)

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if not self._heap or self._stopped:
            return
        delay = (self._heap[0].at - self._owner.world.now()) / 1000
        self._handle = self._owner.loop.call_later(min(max(0.0, delay), _ARM_SECONDS_MAX), self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._stopped:
            return
        now = self._owner.world.now()
        fired = 0
        while self._heap and self._heap[0].at <= now and fired < PER_TURN_MAX:
            timer = heapq.heappop(self._heap)
            if timer not in self._known:
                continue
            self._known.discard(timer)
            fired += 1
            self._owner.drop_timer(timer)
            try:
                if timer.completion:
                    self._owner.dispatch(c.Notify(timer.id, timer.completion, VOID, "Sleep"))
                else:
                    self._owner.dispatch(c.StartDue(timer.id))
            except StoreError:
                return  # the owner forgets its memory, and these timers with it
        if not self._heap and self._horizon is not None:
            self._owner.after_commit(self._refill)
            return
        self._arm()

    def _refill(self) -> None:
        """What has fired has left the store, and what was set beyond the horizon is in it."""
        if not self._stopped:
            self.start()
