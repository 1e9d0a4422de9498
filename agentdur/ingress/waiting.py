"""Long waits: a request whose client has left stops waiting.

Rules of this file:
1. A short wait costs two dict operations; one that outlives a sweep gets a task that watches its client.
2. Leaving ends the wait, never the invocation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from agentdur.ingress.replies import Receive

T = TypeVar("T")


class ClientGone(Exception):
    """Nobody is there to be answered."""


class Waits:
    """All requests that wait for an answer of the engine."""

    def __init__(self, sweep_ms: int) -> None:
        self._sweep_s = sweep_ms / 1000
        self._fresh: dict[asyncio.Future[Any], Receive] = {}
        self._watched: dict[asyncio.Future[Any], asyncio.Task[None]] = {}
        self._gone: set[asyncio.Future[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, pending: Awaitable[T], receive: Receive) -> T:
        """The answer; ClientGone when the client leaves first."""
        future = asyncio.ensure_future(pending)
        if future.done():
            return future.result()
        self._fresh[future] = receive
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep, frozenset())
        try:
            return await future
        except asyncio.CancelledError:
            if future in self._gone:
                raise ClientGone from None
            raise
        finally:
            self._forget(future)

    def _forget(self, future: asyncio.Future[Any]) -> None:
        if self._fresh.pop(future, None) is None:
            self._gone.discard(future)
            if (watch := self._watched.pop(future, None)) is not None:
                watch.cancel()

    def _sweep(self, seen: frozenset[asyncio.Future[Any]]) -> None:
        """Watch the clients of all waits that were here at the last sweep already."""
        loop = asyncio.get_running_loop()
        for future in seen & self._fresh.keys():
            self._watched[future] = loop.create_task(self._watch(future, self._fresh.pop(future)))
        self._timer = None
        if self._fresh:
            self._timer = loop.call_later(self._sweep_s, self._sweep, frozenset(self._fresh))

    async def _watch(self, future: asyncio.Future[Any], receive: Receive) -> None:
        while not future.done():
            message = await receive()
            if message["type"] == "http.disconnect":
                self._gone.add(future)
                future.cancel()
                return
