"""What a provider allows us: requests and tokens per minute, and how many at once, for all invocations of
this process.

Rules of this file:
1. A limit holds for every span of a minute, not for the minute of the clock: that is what providers count.
2. Who came first goes first, among those who wait for the same limit. An invocation that left memory
   meanwhile keeps its place in the line.
3. Tokens are guessed before a call and corrected when the provider has counted them.
4. Waiting is no failure and no timeout: after a while in memory the step asks to be called again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from heapq import heappop, heappush

from agentdur.core.errors import BadDefinition
from agentdur.llm.errors import ModelBusy

WINDOW_SECONDS = 60.0
IN_MEMORY_SECONDS_MAX = 20.0
"""How long a step waits in memory; then the invocation leaves it and comes back when its turn may be."""
AWAY_SECONDS_MAX = 60.0
PLACES_MAX = 100_000
"""Places in line that are remembered for invocations that left memory."""


class Limit:
    """The calls of the last minute to one provider or model, against what is allowed."""

    def __init__(
        self, name: str, requests: int | None = None, tokens: int | None = None, concurrent: int | None = None
    ) -> None:
        self.name, self.requests, self.tokens, self.concurrent = name, requests, tokens, concurrent
        self.running = 0
        self._spent = 0
        self._calls: deque[Call] = deque()

    def covers(self, model: str) -> bool:
        """True for the model itself, and for all models of the provider."""
        return model == self.name or model.startswith(f"{self.name}/")

    def wait(self, tokens: int, now: float) -> float | None:
        """Seconds until a call of so many tokens may begin, 0 for now; None: when another one ends."""
        self._forget(now)
        if self.concurrent is not None and self.running >= self.concurrent:
            return None
        seconds = 0.0
        if self.requests is not None and len(self._calls) >= self.requests:
            seconds = self._calls[len(self._calls) - self.requests].at + WINDOW_SECONDS - now
        if self.tokens is not None:
            room = self.tokens - min(tokens, self.tokens)  # what never fits goes when nothing else does
            left, calls = self._spent, iter(self._calls)
            while left > room:
                oldest = next(calls)
                left -= oldest.tokens
                seconds = max(seconds, oldest.at + WINDOW_SECONDS - now)
        return max(0.0, seconds)

    def begin(self, tokens: int, now: float) -> Call:
        """A call begins."""
        call = Call(now, tokens)
        self._calls.append(call)
        self._spent += tokens
        self.running += 1
        return call

    def correct(self, call: Call, tokens: int) -> None:
        """The provider has counted: what it says replaces the guess, as long as it matters."""
        if not call.gone:
            self._spent += tokens - call.tokens
            call.tokens = tokens

    def _forget(self, now: float) -> None:
        while self._calls and self._calls[0].at + WINDOW_SECONDS <= now:
            call = self._calls.popleft()
            call.gone = True
            self._spent -= call.tokens


class Call:
    """One call within the window."""

    __slots__ = ("at", "gone", "tokens")

    def __init__(self, at: float, tokens: int) -> None:
        self.at, self.tokens, self.gone = at, tokens, False


class Slot:
    """The right to make one call now; tell it what the call really cost."""

    def __init__(self, held: list[tuple[Limit, Call]]) -> None:
        self._held = held

    def correct(self, tokens: int) -> None:
        """What the provider counted."""
        for limit, call in self._held:
            limit.correct(call, tokens)


class _Waiter:
    __slots__ = ("future", "limits", "tokens")

    def __init__(self, limits: list[Limit], tokens: int, future: asyncio.Future[None]) -> None:
        self.limits, self.tokens, self.future = limits, tokens, future


class Limiter:
    """All limits of a process and the line before them. Lives on one loop at a time."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}
        self._line: list[tuple[int, int, _Waiter]] = []
        self._held: dict[int, list[tuple[Limit, Call]]] = {}
        self._places: dict[str, int] = {}
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, limit: Limit) -> None:
        """Replace what holds for a provider or model."""
        if limit.requests is None and limit.tokens is None and limit.concurrent is None:
            self._limits.pop(limit.name, None)
        else:
            self._limits[limit.name] = limit

    def clear(self) -> None:
        """No limits, nobody in line."""
        self.__init__()  # type: ignore[misc]  # everything a limiter has begins anew

    @asynccontextmanager
    async def slot(
        self, model: str, tokens: int, *, key: str, patience: timedelta, stays: bool = False
    ) -> AsyncIterator[Slot | None]:
        """Wait for the turn of a call of about so many tokens. `key` names the step: who comes back with
        it has its old place. `stays`: it waits in memory, however long. None when nothing limits this
        model."""
        limits = [limit for limit in self._limits.values() if limit.covers(model)]
        if not limits:
            yield None
            return
        held = await self._turn(limits, tokens, key, None if stays else patience)
        try:
            yield Slot(held)
        finally:
            for limit, _ in held:
                limit.running -= 1
            self._serve()

    async def _turn(
        self, limits: list[Limit], tokens: int, key: str, patience: timedelta | None
    ) -> list[tuple[Limit, Call]]:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # another engine's loop is over, and with it who waited there
            self._loop, self._line, self._timer = loop, [], None
        place = self._places.pop(key, None)
        if place is None:
            self._next += 1
            place = self._next
        waiter = _Waiter(limits, tokens, loop.create_future())
        number = id(waiter)
        heappush(self._line, (place, number, waiter))
        self._serve()
        try:
            async with asyncio.timeout(None if patience is None else IN_MEMORY_SECONDS_MAX):
                await waiter.future
        except TimeoutError:
            self._leave(number, waiter)
            self._keep(key, place)
            wait = timedelta(seconds=min(self._longest(limits, tokens), AWAY_SECONDS_MAX))
            names = ", ".join(limit.name for limit in limits)
            raise ModelBusy(f"our limit for {names} is reached", 429, wait, patience=patience) from None
        except asyncio.CancelledError:
            self._leave(number, waiter)
            raise
        return self._held.pop(number)

    def _leave(self, number: int, waiter: _Waiter) -> None:
        """Out of the line; its turn may just have come."""
        waiter.future.cancel()
        for limit, call in self._held.pop(number, ()):
            limit.running -= 1
            limit.correct(call, 0)
        self._serve()

    def _keep(self, key: str, place: int) -> None:
        if len(self._places) >= PLACES_MAX:
            del self._places[next(iter(self._places))]
        self._places[key] = place

    def _longest(self, limits: Iterable[Limit], tokens: int) -> float:
        assert self._loop is not None
        now = self._loop.time()
        return max(1.0, *(limit.wait(tokens, now) or 0.0 for limit in limits))

    def _serve(self) -> None:
        """Let go whoever may: in the order of their places, and nobody past one that waits for the same
        limit."""
        loop = self._loop
        if loop is None:
            return
        now, full, later = loop.time(), set[str](), list[tuple[int, int, _Waiter]]()
        soonest: float | None = None
        while self._line and len(full) < len(self._limits):
            place, number, waiter = heappop(self._line)
            if waiter.future.done():
                continue
            waits = [limit.wait(waiter.tokens, now) for limit in waiter.limits]
            blocked = any(limit.name in full for limit in waiter.limits)
            if not blocked and all(wait == 0.0 for wait in waits):
                self._held[number] = [(limit, limit.begin(waiter.tokens, now)) for limit in waiter.limits]
                waiter.future.set_result(None)
                continue
            later.append((place, number, waiter))
            full |= {limit.name for limit, wait in zip(waiter.limits, waits, strict=True) if wait != 0.0}
            known = [wait for wait in waits if wait]
            if not blocked and None not in waits and known:
                soonest = max(known) if soonest is None else min(soonest, max(known))
        for entry in later:
            heappush(self._line, entry)
        self._again_in(soonest, loop)

    def _again_in(self, seconds: float | None, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else loop.call_later(seconds, self._serve)


LIMITER = Limiter()
"""That of this process."""


def limits(
    provider_or_model: str,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrent: int | None = None,
) -> None:
    """Keep within what a provider (`openai`) or one model (`openai/gpt-5`) allows, over all invocations of
    this process. Calls wait for their turn, in order; that costs no attempt and counts to no timeout. Said
    again for the same name it replaces what was said; with nothing it ends the limit."""
    given = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    for name, value in {**given, "concurrent": concurrent}.items():
        if value is not None and value < 1:
            raise BadDefinition(f"limits({provider_or_model!r}, {name}={value}): at least 1 is needed")
    LIMITER.set(Limit(provider_or_model, requests_per_minute, tokens_per_minute, concurrent))
