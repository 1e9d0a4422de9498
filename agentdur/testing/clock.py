"""An event loop without sockets, threads or waiting: time moves when nothing else does.

Rules of this file:
1. One callback runs per turn; `stop` (a crash) takes effect before the next one.
2. All order comes from the calls and the seed: the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import Any

EPOCH_MS = 1_700_000_000_000
TURNS_MAX = 100_000
"""Callbacks in one life; a run needs a few thousand."""


class Stalled(Exception):
    """Everybody waits and nothing is going to happen, or what happens leads nowhere."""


class _Task(asyncio.Task[Any]):
    """Hashed by its number: sets of tasks, as asyncio keeps them, iterate in the same order in every run."""

    def __init__(self, coro: Any, number: int, **more: Any) -> None:
        self.number = number  # before asyncio puts it into a set
        super().__init__(coro, **more)
        self._log_destroy_pending = False  # a crash leaves tasks pending

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in virtual time. `disorder`: how often a callback overtakes others that are ready."""

    def __init__(self, rng: Random, start: float = 0.0, disorder: float = 0.0) -> None:
        self._rng, self._now, self._disorder = rng, start, disorder
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._stopping = False
        self._factory: Any = None
        self.executor_delay: Callable[[], float] = lambda: 0.0
        self.trouble: Callable[[dict[str, Any]], None] = lambda context: None
        self.turns = 0

    # -- running

    def run_forever(self) -> None:
        """Until `stop`, or raise Stalled."""
        self._stopping = False
        events._set_running_loop(self)
        try:
            while not self._stopping:
                self._turn()
        finally:
            events._set_running_loop(None)

    def _turn(self) -> None:
        self.turns += 1
        if self.turns > TURNS_MAX:
            raise Stalled(f"more than {TURNS_MAX} turns: something goes in circles")
        while self._timers and (self._timers[0][0] <= self._now or not self._ready):
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._now = max(self._now, when)
                self._ready.append(timer)
        if not self._ready:
            raise Stalled("no callback is ready and no timer is set")
        if self._disorder and len(self._ready) > 1 and self._rng.random() < self._disorder:
            self._ready.rotate(-self._rng.randrange(len(self._ready)))
        handle = self._ready.popleft()
        if not handle.cancelled():
            handle._run()

    def stop(self) -> None:
        """Nothing runs after the callback that runs now."""
        self._stopping = True

    def is_running(self) -> bool:
        return not self._stopping

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    # -- scheduling

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]  # any callable with its arguments
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # any callable with its arguments

    def call_later(  # type: ignore[override]  # any callable with its arguments
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]  # any callable with its arguments
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Told by the handle; it is dropped when its time comes."""

    # -- futures and tasks

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **more: Any) -> asyncio.Task[Any]:
        if self._factory is not None:
            made: asyncio.Task[Any] = self._factory(self, coro, **more)
            return made
        return self.new_task(self, coro, **more)

    def new_task(self, _: Any, coro: Any, **more: Any) -> asyncio.Task[Any]:
        """A numbered task."""
        self._count += 1
        return _Task(coro, self._count, loop=self, **more)

    def set_task_factory(self, factory: Any) -> None:
        self._factory = factory

    def get_task_factory(self) -> Any:
        return self._factory or self.new_task

    def run_in_executor(  # type: ignore[override]  # any callable with its arguments
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Runs it in this thread, after a delay."""
        future = self.create_future()

        def run() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # what it raised belongs to whoever awaits it
                future.set_exception(error)

        self.call_later(self.executor_delay(), run)
        return future

    # -- errors nobody caught

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.trouble(context)


class SimWorld:
    """A wall clock that can jump, and randomness from the seed."""

    def __init__(self, loop: SimLoop, rng: Random, jumped_ms: int = 0) -> None:
        self._loop, self._rng, self.jumped_ms = loop, rng, jumped_ms

    def now(self) -> int:
        """The wall clock."""
        return EPOCH_MS + self.jumped_ms + int(self._loop.time() * 1000)

    def chance(self) -> float:
        """A number in [0, 1)."""
        return self._rng.random()

    def bytes(self, size: int) -> bytes:
        """Bytes from the seed."""
        return self._rng.randbytes(size)
