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
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any

from agentdur.core import commands as c
from agentdur.core import journal as j
from agentdur.core.catalog import HandlerOptions
from agentdur.core.errors import BadRequest, NotSerializable
from agentdur.core.replay import Recorded
from agentdur.core.state import Status
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.runtime.engine import Machine
from agentdur.runtime.slots import Slot
from agentdur.sdk.attempt import Attempt, Failed
from agentdur.sdk.context import (
    Context,
    Limits,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.service import Handler

_CONTEXTS: dict[tuple[ServiceKind, HandlerKind], type[Context]] = {
    (ServiceKind.SERVICE, HandlerKind.PLAIN): Context,
    (ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE): ObjectContext,
    (ServiceKind.VIRTUAL_OBJECT, HandlerKind.SHARED): ObjectSharedContext,
    (ServiceKind.WORKFLOW, HandlerKind.WORKFLOW): WorkflowContext,
    (ServiceKind.WORKFLOW, HandlerKind.SHARED): WorkflowSharedContext,
}
_SWEEP_SECONDS_MAX = 5.0
_SWEEP_SECONDS_MIN = 0.02
_ABORTED = (("restate_code", "RT0001"), ("agentdur_code", "AD0039"))


class InProcess:
    """The driver of this process's handlers."""

    def __init__(
        self, machine: Machine, handlers: dict[tuple[str, str], Handler], live_attempts: int, limits: Limits
    ) -> None:
        self.machine, self.handlers, self.limits = machine, handlers, limits
        self.live_max = live_attempts
        self.live: dict[Attempt, Slot] = {}
        self.idle: dict[Attempt, None] = {}  # longest waiting first
        self.ready: deque[tuple[Slot, int]] = deque()
        self.last: dict[Attempt, float] = {}
        self.stopping = False
        self._sweeper: asyncio.TimerHandle | None = None
        times = [m.options for s in machine.catalog.services.values() for m in s.handlers.values()]
        shortest = min((o.inactivity_timeout_ms for o in times), default=60_000) / 4000
        self._sweep_seconds = min(max(shortest, _SWEEP_SECONDS_MIN), _SWEEP_SECONDS_MAX)
        machine.driver = self

    # -- attempts

    def start(self, slot: Slot, attempt: int) -> None:
        """Begin an attempt when there is room for it."""
        if self.stopping:
            return
        if len(self.live) >= self.live_max and not self._make_room():
            self.ready.append((slot, attempt))
            return
        self._begin(slot, attempt)

    def _begin(self, slot: Slot, number: int) -> None:
        state = slot.state
        if state is None or state.head.status is not Status.INVOKED or state.head.attempt != number:
            return  # killed, paused or cancelled meanwhile
        entries = slot.entries if slot.entries is not None else self.machine.store.journal(slot.seq)
        slot.entries = None
        spec = state.spec
        attempt = Attempt(self, spec.id, number, spec.target, Recorded(entries))
        if slot.step_failures is not None:
            attempt.step_failures = slot.step_failures
        slot.step_failures = attempt.step_failures
        kind = _CONTEXTS[(spec.target.service_kind, spec.target.handler_kind)]
        kind(attempt, self.limits, spec.idempotency_key)
        slot.attempt = attempt
        self.live[attempt] = slot
        self.last[attempt] = self.machine.loop.time()
        attempt.begin(self._main)
        if self._sweeper is None:
            self._sweeper = self.machine.loop.call_later(self._sweep_seconds, self._sweep)

    async def _main(self, attempt: Attempt) -> bytes:
        target = attempt.target
        handler = self.handlers.get((target.service, target.handler))
        if handler is None:
            raise LookupError(f"{target.service}/{target.handler} is no longer served here")
        if handler.context_managers:
            async with AsyncExitStack() as stack:
                for manager in handler.context_managers:
                    await stack.enter_async_context(manager())
                return await _invoke(attempt, handler)
        return await _invoke(attempt, handler)

    def _make_room(self) -> bool:
        for attempt in self.idle:
            if attempt.idle():
                self._park(attempt)
                return True
        return False

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
        self.last.pop(attempt, None)
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
        callees: tuple[Any, ...] = ()
        for entry in entries:
            if isinstance(entry, j.Call | j.OneWayCall):
                target = machine.catalog.target(entry.service, entry.handler, entry.key, entry.scope)
                callees += (machine.names.callee(entry, target),)
        self.last[attempt] = machine.loop.time()
        machine.dispatch(c.Propose(attempt.id, attempt.number, entries, callees, end))

    def durable(self, attempt: Attempt) -> Awaitable[None] | None:
        """Until everything the attempt knows of is committed."""
        slot = self.live.get(attempt)
        return None if slot is None else self.machine.writer.durable(slot.touched)

    def values(self, attempt: Attempt) -> dict[str, bytes]:
        """The state of the attempt's key."""
        return self.machine.slots.state(attempt.target.object).map

    def waiting(self, attempt: Attempt) -> None:
        """It may be parked, and is, when others wait for a place."""
        self.idle[attempt] = None
        self.last[attempt] = self.machine.loop.time()
        if self.ready:
            self.machine.loop.call_soon(self._make_room)

    def running(self, attempt: Attempt) -> None:
        """It has something to do."""
        self.idle.pop(attempt, None)
        self.last[attempt] = self.machine.loop.time()

    def failed(self, attempt: Attempt, failure: Failed) -> None:
        """The attempt is over; the policy says when the next one is."""
        target = attempt.target
        meta = self.machine.catalog.find(target.service, target.handler)
        policy = (meta.options if meta is not None else HandlerOptions()).retry
        self.machine.dispatch(
            c.Fail(
                id=attempt.id, attempt=attempt.number, error=failure.error, policy=policy,
                delay_ms=failure.delay_ms, behavior="pause" if failure.pause else "retry",
                entry=failure.entry, chance=self.machine.world.chance(),
            )
        )  # fmt: skip

    def ended(self, attempt: Attempt) -> None:
        """The handler's task is gone."""
        self._gone(attempt)

    def refuse(self, slot: Slot, error: j.Failure) -> None:
        """A command broke a rule: everything after it is discarded with the attempt."""
        if slot.attempt is not None and not slot.attempt.closed:
            attempt: Attempt = slot.attempt
            attempt.buffer.clear()
            self.machine.loop.call_soon(attempt.fail, Failed(error=error))

    # -- time

    def _sweep(self) -> None:
        self._sweeper = None
        if not self.live or self.stopping:
            return
        now = self.machine.loop.time()
        for attempt in list(self.live):
            options = self._options(attempt)
            quiet_ms = (now - self.last.get(attempt, now)) * 1000
            if quiet_ms < options.inactivity_timeout_ms:
                continue
            if attempt in self.idle and attempt.idle():
                self._park(attempt)
            elif quiet_ms >= options.inactivity_timeout_ms + options.abort_timeout_ms:
                self._abort(attempt, options)
        if self.live:
            self._sweeper = self.machine.loop.call_later(self._sweep_seconds, self._sweep)

    def _options(self, attempt: Attempt) -> HandlerOptions:
        meta = self.machine.catalog.find(attempt.target.service, attempt.target.handler)
        return HandlerOptions() if meta is None else meta.options

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
        self.last.clear()
        self.ready.clear()

    async def drain(self, seconds: float) -> None:
        """Let what runs come to its end or to a wait, for a while; then close it."""
        self.stopping = True
        self.ready.clear()
        deadline = self.machine.loop.time() + seconds
        while self.live and self.machine.loop.time() < deadline:
            for attempt in [a for a in self.idle if a.idle()]:
                self._park(attempt)
            if self.live:
                await asyncio.sleep(0.02)
        for attempt in list(self.live):
            attempt.close()


async def _invoke(attempt: Attempt, handler: Handler) -> bytes:
    if handler.takes_input:
        try:
            value = handler.input_serde.deserialize(attempt.recorded.input.value)
        except BadRequest as error:
            raise TerminalError(str(error), 400, {"agentdur_code": error.code}) from error
        result = await handler.fn(attempt.context, value)
    else:
        result = await handler.fn(attempt.context)
    try:
        return handler.output_serde.serialize(result)
    except NotSerializable as error:
        raise TerminalError(str(error), 500, {"agentdur_code": error.code}) from error
