"""Runs handlers of this process.

Rules of this file:
1. An attempt may run before the commit of what it depends on; its steps start, and its answer leaves, after.
2. At most `live_attempts` attempts are in memory. One that waits is parked when another needs its place, or
   after the inactivity timeout; then only its rows are left.
3. What neither waits nor says anything for inactivity + abort timeout is aborted and retried.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any

from agentdur.core import commands as c
from agentdur.core import journal as j
from agentdur.core.catalog import Catalog, HandlerOptions
from agentdur.core.errors import JournalTooLong, StoreError
from agentdur.core.ids import InvocationId
from agentdur.core.machine.propose import places
from agentdur.core.replay import Recorded
from agentdur.core.state import Status
from agentdur.runtime.engine import Machine
from agentdur.runtime.slots import Slot
from agentdur.runtime.told import cut_short
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.context import CONTEXTS, Limits
from agentdur.sdk.failure import Failed, failure_for
from agentdur.sdk.segment import Segment
from agentdur.sdk.service import Handler

_CALLS = (j.Call, j.OneWayCall)
FAILED_LOOKED_FOR = 512
"""Entries at the end of a journal among which the command of a failed step is looked for."""
_SWEEP_SECONDS_MAX = 5.0
_SWEEP_SECONDS_MIN = 0.02
_ABORTED = (("restate_code", "RT0001"), ("agentdur_code", "AD0039"))


class _Served:
    """What running a handler needs, looked up once."""

    __slots__ = ("context", "handler", "options")

    def __init__(self, handler: Handler, catalog: Catalog) -> None:
        target = catalog.target(handler.service.name, handler.name)
        meta = catalog.find(handler.service.name, handler.name)
        assert target is not None
        assert meta is not None
        self.handler = handler
        self.context = CONTEXTS[(target.service_kind, target.handler_kind)]
        self.options = meta.options


class InProcess:
    """The driver of this process's handlers."""

    def __init__(
        self, machine: Machine, handlers: dict[tuple[str, str], Handler], live_attempts: int, limits: Limits
    ) -> None:
        self.machine, self.limits, self.loop = machine, limits, machine.loop
        self.buffering = machine.buffering
        self.served = {name: _Served(handler, machine.catalog) for name, handler in handlers.items()}
        self.live_max = live_attempts
        self.journal_max = 100_000
        self.live: dict[Attempt, Slot] = {}
        self.idle: dict[Attempt, None] = {}  # longest waiting first
        self.ready: deque[tuple[Slot, int]] = deque()
        self.stopping = self.hurry = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_seconds = _SWEEP_SECONDS_MAX
        self.serve(machine.catalog)
        machine.driver = self

    def serve(self, catalog: Catalog) -> None:
        """The same handlers, with these options from now on."""
        for served in self.served.values():
            meta = catalog.find(served.handler.service.name, served.handler.name)
            assert meta is not None
            served.options = meta.options
        shortest = min((one.options.inactivity_timeout_ms for one in self.served.values()), default=60_000)
        self._sweep_seconds = min(max(shortest / 4000, _SWEEP_SECONDS_MIN), _SWEEP_SECONDS_MAX)

    # -- attempts

    def start(self, slot: Slot, attempt: int) -> None:
        """Begin an attempt when there is room for it."""
        if self.stopping:
            return
        if len(self.live) < self.live_max:
            self._begin(slot, attempt)
            return
        self.ready.append((slot, attempt))  # behind those who wait already
        self._let_in()

    def _begin(self, slot: Slot, number: int) -> None:
        state = slot.state
        if state is None or state.head.status is not Status.INVOKED or state.head.attempt != number:
            return  # killed, paused or cancelled meanwhile
        entries = slot.entries if slot.entries is not None else self.machine.store.journal(slot.seq)
        slot.entries = None
        spec = state.spec
        target = spec.target
        attempt = Attempt(self, spec.id, number, target, Recorded(entries))
        served = self.served.get((target.service, target.handler))
        if served is None:
            error = j.Failure(500, f"{target.service}/{target.handler} is no longer served here")
            self.failed(attempt, Failed(error=error))
            return
        attempt.step_failures = slot.step_failures
        served.context(attempt, self.limits, spec.idempotency_key)
        attempt.last = self.machine.now
        attempt.slot = slot
        if spec.traceparent and self.machine.observed is not None:
            self.machine.observed.carry(attempt, spec)
        slot.attempt, slot.begun_at = attempt, self.machine.now
        self.live[attempt] = slot
        attempt.begin(served.handler)
        if self._sweeper is None:
            self._sweeper = self.machine.loop.call_later(self._sweep_seconds, self._sweep)

    def _make_room(self) -> bool:
        for attempt in self.idle:
            if attempt.idle():
                self._park(attempt)
                return True
        return False

    def _let_in(self) -> None:
        while self.ready and self._make_room():
            pass

    def _park(self, attempt: Attempt) -> None:
        """Out of memory; the rows wait."""
        awaiting, known = attempt.awaiting(), attempt.known
        attempt.flush()
        attempt.closed = True
        self.machine.dispatch(c.Suspend(attempt.id, attempt.number, awaiting, known))
        attempt.close()
        self._gone(attempt)

    def _gone(self, attempt: Attempt) -> None:
        slot = self.live.pop(attempt, None)
        self.idle.pop(attempt, None)
        if self.machine.streams.live:
            self.machine.streams.attempt_over(attempt.id, attempt.number)
        if slot is not None and slot.attempt is attempt:
            slot.attempt = None
            self.machine.release(slot)
        while self.ready and len(self.live) < self.live_max and not self.stopping:
            self._begin(*self.ready.popleft())

    # -- what attempts say

    def now(self) -> int:
        """ms since the epoch."""
        return self.machine.world.now()

    def propose(self, attempt: Attempt, entries: tuple[j.Proposal, ...], end: bool) -> None:
        """Store what the attempt did."""
        machine = self.machine
        callees: list[InvocationId] = []
        results = False
        for entry in entries:
            if type(entry) is j.RunResult:
                results = True
            elif isinstance(entry, _CALLS):
                target = machine.catalog.target(entry.service, entry.handler, entry.key, entry.scope)
                callees.append(machine.names.callee(entry, target))
        state = attempt.slot.state
        if state.length + len(entries) > self.journal_max:
            self._too_long(attempt)
            return
        attempt.last = machine.now
        machine.dispatch(c.Propose(attempt.id, attempt.number, entries, tuple(callees), end))
        if results and not end:
            attempt.placed(entries, places(state.length, entries))

    def _too_long(self, attempt: Attempt) -> None:
        error = JournalTooLong(
            f"{attempt.id} has {attempt.slot.state.length} entries, the limit is {self.journal_max} "
            "(journal-length-limit)"
        )
        self._rejected(attempt, Failed(error=failure_for(error).error, pause=True))

    def durable(self, attempt: Attempt) -> Awaitable[None] | None:
        """Until everything the attempt knows of is committed."""
        return self.machine.writer.durable(attempt.slot.touched)

    def streaming(self, attempt: Attempt, step: Any) -> Segment | None:
        """Where the chunks of a step go."""
        if attempt not in self.live:
            return None  # it is over, and its steps find out
        return self.machine.streams.segment(attempt.id, attempt.number, step)

    def values(self, attempt: Attempt) -> Mapping[str, bytes]:
        """The state of the attempt's key."""
        return self.machine.slots.state(attempt.target.object).map

    def waiting(self, attempt: Attempt) -> None:
        """It may be parked, and is, when others wait for a place."""
        self.idle[attempt] = None
        attempt.last = self.machine.now
        if self.ready:
            self.machine.loop.call_soon(self._let_in)

    def running(self, attempt: Attempt) -> None:
        """It has something to do."""
        self.idle.pop(attempt, None)
        attempt.last = self.machine.now

    def failed(self, attempt: Attempt, failure: Failed) -> None:
        """The attempt is over; the policy says when the next one is."""
        slot = self.live.get(attempt)
        if slot is not None:
            slot.step_failures = attempt.step_failures
        policy = self._options(attempt).retry
        slot = slot or self.machine.slots.find(attempt.id)
        before = None if slot is None else slot.state
        self.machine.dispatch(
            c.Fail(
                id=attempt.id, attempt=attempt.number, error=failure.error, policy=policy,
                delay_ms=failure.delay_ms, behavior="pause" if failure.pause else "retry",
                entry=self._place_of(slot, failure.step), chance=self.machine.world.chance(),
            )
        )  # fmt: skip
        if slot is not None and before is not None and slot.state is not before:
            self.machine.attempt_failed(before, slot.state, failure.error)

    def _place_of(self, slot: Slot | None, step: int | None) -> int | None:
        """The journal index of the command with this completion id, if it is one of the last.
        Its entry is committed: an action does not begin before."""
        if slot is None or slot.state is None or step is None:
            return None
        try:
            start = max(0, slot.state.length - FAILED_LOOKED_FOR)
            entries = self.machine.store.journal(slot.seq, start, FAILED_LOOKED_FOR)
        except StoreError:
            return None  # nothing can be said to the store now, and that is told elsewhere
        return next(
            (at for at, entry in entries if isinstance(entry, j.Run) and entry.completion == step), None
        )

    def ended(self, attempt: Attempt) -> None:
        """The handler's task is gone."""
        self._gone(attempt)

    def refuse(self, slot: Slot, error: j.Failure) -> None:
        """A command broke a rule: everything after it is discarded with the attempt."""
        if slot.attempt is not None:
            self._rejected(slot.attempt, Failed(error=error))

    def _rejected(self, attempt: Attempt, failed: Failed) -> None:
        if attempt.closed:  # it was its last word: it has nothing to say any more
            self.failed(attempt, failed)
        else:
            attempt.rejected(failed)

    # -- time

    def _sweep(self) -> None:
        self._sweeper = None
        if not self.live or self.stopping:
            return
        now = self.machine.world.now()
        for attempt in list(self.live):
            options = self._options(attempt)
            quiet_ms = now - attempt.last
            if quiet_ms < options.inactivity_timeout_ms:
                continue
            if attempt in self.idle and attempt.idle():
                self._park(attempt)
            elif quiet_ms >= options.inactivity_timeout_ms + options.abort_timeout_ms:
                self._abort(attempt, options)
        self._let_in()  # an attempt may have come to rest without a word
        if self.live:
            self._sweeper = self.machine.loop.call_later(self._sweep_seconds, self._sweep)

    def _options(self, attempt: Attempt) -> HandlerOptions:
        served = self.served.get((attempt.target.service, attempt.target.handler))
        return HandlerOptions() if served is None else served.options

    def _abort(self, attempt: Attempt, options: HandlerOptions) -> None:
        message = f"the attempt was closed after the 'abort timeout' ({options.abort_timeout_ms}ms) fired."
        self.failed(attempt, Failed(error=j.Failure(500, message, _ABORTED)))
        attempt.close()
        self._gone(attempt)

    # -- the end

    def forget(self) -> None:
        """Memory is gone: close everything without a word."""
        for attempt in list(self.live):
            attempt.close()
        self.live.clear()
        self.idle.clear()
        self.ready.clear()

    async def drain(self, seconds: float) -> None:
        """Let what runs come to its end or to a wait, for a while; then close it."""
        self.stopping = True
        self.ready.clear()
        deadline = self.machine.loop.time() + seconds
        while self.live and not self.hurry and self.machine.loop.time() < deadline:
            for attempt in [a for a in self.idle if a.idle()]:
                self._park(attempt)
            if self.live:
                await asyncio.sleep(0.02)
        if self.live:
            cut_short([attempt.id for attempt in self.live])
        for attempt in list(self.live):
            attempt.close()
