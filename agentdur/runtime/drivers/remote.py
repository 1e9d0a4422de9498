"""Runs attempts elsewhere: at deployments that speak the service protocol.

Rules of this file:
1. An attempt begins when everything it is sent is durable.
2. An invocation keeps to the deployment and the protocol version of its first stored entry.
3. One that says nothing for the inactivity timeout is asked to leave, and after the abort timeout aborted.
4. When there is no room for another one, those that have been quiet for longest are asked to leave.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, Protocol
from urllib.parse import quote

from agentdur.core import commands as c
from agentdur.core import journal as j
from agentdur.core.catalog import HandlerOptions
from agentdur.core.errors import JournalTooLong, ProtocolViolation
from agentdur.core.ids import InvocationId, random_seed, raw_invocation_id
from agentdur.core.state import Accepted, Invocation, Status
from agentdur.core.target import ServiceKind
from agentdur.core.trace import HEADER, STATE_HEADER, below, is_sampled, parent_of
from agentdur.runtime.engine import Machine
from agentdur.runtime.remote.attempt import RemoteAttempt
from agentdur.runtime.remote.transport import Headers, Transport
from agentdur.runtime.slots import Slot
from agentdur.sdk.failure import Failed, failure_for
from agentdur.wire import messages as m
from agentdur.wire.codec import encode

PROTOCOL_MAX = 7
_CALLS = (j.Call, j.OneWayCall)
_SWEEP_SECONDS = 0.25
CROWDED_SECONDS = 0.05
"""So long an attempt has to be quiet to be asked to leave for another one."""
SURPLUS_SECONDS_MAX = 5.0
"""So long an exchange may go on after its attempt has said how it ended."""


class Served(Protocol):
    """A deployment, as far as an attempt needs it."""

    id: str
    min_version: int
    max_version: int
    bidirectional: bool

    def transport(self) -> Transport:
        """The connections to it."""

    def headers(self, path: str) -> Headers:
        """What every request carries."""

    def options(self, service: str, handler: str) -> HandlerOptions:
        """A handler's options."""


class Registry(Protocol):
    """Where targets are served."""

    def find(self, deployment: str | None, service: str) -> Served | None:
        """The deployment by its id, or the newest that serves the service."""


def _trace_headers(spec: Accepted, given: j.Headers) -> Headers:
    """The invocation's span is what the deployment's are below. `given`: what the invocation was called
    with."""
    state = dict(given).get(STATE_HEADER, "") if parent_of(spec.traceparent) else ""
    return [(HEADER, below(spec.traceparent, spec.id)), (STATE_HEADER, state)]


class Retries(NamedTuple):
    """How often an invocation has failed since an entry was stored; SDKs count a step's attempts by it."""

    length: int
    failures: int
    since: int
    """When the first of these attempts last said something: ms since the epoch."""


def _retries(slot: Slot, state: Invocation) -> Retries:
    known = (slot.step_failures or {}).get(0)
    if isinstance(known, Retries) and known.length == state.length:
        return known
    return Retries(state.length, 0, 0)


class Remote:
    """The driver of all deployments (`runtime.engine.Driver`)."""

    def __init__(self, machine: Machine, registry: Registry, live_attempts: int) -> None:
        self.machine, self.registry, self.live_max = machine, registry, live_attempts
        self.journal_max = 100_000
        self.entry_bytes_max = 32 * 1024 * 1024
        self.eager_bytes_max = 1024 * 1024
        """A key with more state than this is read value by value."""
        self.live: dict[RemoteAttempt, Slot] = {}
        self.ready: deque[tuple[Slot, int]] = deque()
        self.stopping = self.hurry = False
        self._leaving: dict[RemoteAttempt, float] = {}
        """Finished ones whose exchange goes on, and until when it may."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._crowded: asyncio.TimerHandle | None = None

    def runs_at(self, deployment: str) -> bool:
        """Whether an attempt runs there, also one that has stored nothing yet."""
        return any(attempt.deployment.id == deployment for attempt in self.live if attempt.deployment)

    # -- attempts

    def start(self, slot: Slot, number: int) -> None:
        """Begin an attempt when there is room for it."""
        if self.stopping:
            return
        if len(self.live) >= self.live_max:
            self.ready.append((slot, number))
            if self._crowded is None:
                self._crowded = self.machine.loop.call_later(CROWDED_SECONDS, self._make_room)
            return
        self._begin(slot, number)

    def _make_room(self) -> None:
        """Ask as many to leave as wait for a place. A step that runs ends first."""
        self._crowded = None
        if not self.ready or self.stopping:
            return
        latest = self.machine.world.now() - CROWDED_SECONDS * 1000
        quiet = [attempt for attempt in self.live if not attempt.half_closed and attempt.last <= latest]
        quiet.sort(key=lambda attempt: attempt.last)
        for attempt in quiet[: len(self.ready)]:
            attempt.half_close()
        self._crowded = self.machine.loop.call_later(CROWDED_SECONDS, self._make_room)

    def _begin(self, slot: Slot, number: int) -> None:
        state = slot.state
        if state is None or state.head.status is not Status.INVOKED or state.head.attempt != number:
            return  # killed, paused or cancelled meanwhile
        entries = slot.entries if slot.entries is not None else self.machine.store.journal(slot.seq)
        slot.entries = None
        attempt = RemoteAttempt(self, state.spec.id, number, slot, self.entry_bytes_max)
        attempt.last = self.machine.now
        attempt.seen = state.length
        attempt.pinned = state.head.deployment is not None
        slot.attempt, slot.begun_at = attempt, self.machine.now
        self.live[attempt] = slot
        self._sweep_later()
        deployment = self.registry.find(state.head.deployment, state.spec.target.service)
        if deployment is None:
            self._soon(attempt, "RT0011", f"no deployment serves {state.spec.target.service}")
            return
        attempt.deployment = deployment
        options = deployment.options(state.spec.target.service, state.spec.target.handler)
        attempt.inactivity_ms = options.inactivity_timeout_ms if deployment.bidirectional else 0
        attempt.abort_ms = options.abort_timeout_ms
        attempt.version = state.head.protocol or min(deployment.max_version, PROTOCOL_MAX)
        if not deployment.min_version <= attempt.version <= deployment.max_version:
            self._soon(attempt, "RT0013", f"{deployment.id} no longer speaks protocol V{attempt.version}")
            return
        for _, entry in entries:
            attempt.commands += isinstance(entry, j.Command)
            if isinstance(entry, j.Run):
                attempt.runs.add(entry.completion)
            elif isinstance(entry, j.Completion):
                attempt.runs.discard(entry.id)
        journal = [self._start_frame(slot, state, attempt.version, len(entries))]
        journal += [encode(entry, attempt.version) for _, entry in entries]
        given = entries[0][1].headers if isinstance(entries[0][1], j.Input) else ()
        self.machine.writer.after(partial(self._open, attempt, state, b"".join(journal), given))

    def _start_frame(self, slot: Slot, state: Invocation, version: int, known: int) -> bytes:
        spec, target = state.spec, state.spec.target
        values: tuple[tuple[str, bytes], ...] = ()
        partial_state = True
        if target.service_kind is not ServiceKind.SERVICE:
            held = self.machine.slots.state(target.object).map
            lazy = self._options_of(state).lazy_state
            if not lazy and sum(map(len, held.values())) <= self.eager_bytes_max:
                values, partial_state = tuple(held.items()), False
        retries = _retries(slot, state)
        start = m.Start(
            id=raw_invocation_id(spec.id), debug_id=spec.id, known_entries=known, state=values,
            partial_state=partial_state, key=target.key or "", retry_count=retries.failures,
            duration_ms=max(0, self.machine.now - retries.since) if retries.failures else 0,
            random_seed=spec.seed or random_seed(spec.id), scope=target.scope or None,
            idempotency_key=spec.idempotency_key,
        )  # fmt: skip
        return encode(start, version)

    def _open(self, attempt: RemoteAttempt, state: Invocation, journal: bytes, given: j.Headers) -> None:
        if attempt.closed:
            return
        deployment: Served = attempt.deployment
        target = state.spec.target
        path = f"/invoke/{target.service}/{target.handler}"
        kind = f"application/vnd.restate.invocation.v{attempt.version}"
        headers = [
            ("content-type", kind), ("accept", kind), ("x-restate-invocation-id", attempt.id),
            *deployment.headers(path),
        ]  # fmt: skip
        if is_sampled(state.spec.traceparent):
            headers += _trace_headers(state.spec, given)
        if target.key is not None:
            headers.append(("x-restate-service-key", quote(target.key, safe="")))
        exchange = deployment.transport().open("POST", path, headers, attempt)
        attempt.begin(exchange, journal, open_ended=attempt.inactivity_ms > 0)

    def _soon(self, attempt: RemoteAttempt, code: str, detail: str) -> None:
        failure = j.Failure(500, f"[{code}] {detail}", (("restate_code", code),))
        self.machine.writer.after(partial(self.fail, attempt, Failed(error=failure)))

    def _gone(self, attempt: RemoteAttempt) -> None:
        slot = self.live.pop(attempt, None)
        if slot is not None and slot.attempt is attempt:
            slot.attempt = None
            self.machine.release(slot)
        while self.ready and len(self.live) < self.live_max and not self.stopping:
            self._begin(*self.ready.popleft())

    # -- what attempts say

    def now_ms(self) -> int:
        """ms since the epoch."""
        return self.machine.world.now()

    def heard(self, attempt: RemoteAttempt) -> None:
        """It is alive."""
        attempt.last = self.machine.world.now()

    def stored(self, attempt: RemoteAttempt) -> int:
        """The commit that is being collected; when it is done, the attempt may speak of it."""
        number = self.machine.writer.touch()
        if attempt.told != number:
            attempt.told = number
            self.machine.writer.after(partial(attempt.speak, number))
        return number

    def after(self, action: Callable[[], None]) -> None:
        """Call this when what is stored now is durable."""
        self.machine.writer.after(action)

    def finished(self, attempt: RemoteAttempt) -> None:
        """Its exchange may go on for a while."""
        self._leaving[attempt] = self.machine.loop.time() + SURPLUS_SECONDS_MAX
        self._sweep_later()

    def left(self, attempt: RemoteAttempt) -> None:
        """It is gone, also when somebody else closed it; that may be in the middle of a message."""
        self._leaving.pop(attempt, None)
        if attempt in self.live:
            self.machine.loop.call_soon(self._gone, attempt)

    def propose(self, attempt: RemoteAttempt, entries: tuple[j.Proposal, ...], end: bool) -> None:
        """Store what the handler did."""
        machine, state = self.machine, attempt.slot.state
        if state is None:
            return
        callees = self._checked(attempt, state, entries)
        if state.length + len(entries) > self.journal_max:
            detail = f"{attempt.id} has {state.length} entries, the limit is {self.journal_max}"
            error = JournalTooLong(f"{detail} (journal-length-limit)")
            self.fail(attempt, Failed(error=failure_for(error).error, pause=True))
            return
        if entries and not attempt.pinned:
            attempt.pinned = True
            machine.dispatch(c.Pin(attempt.id, attempt.deployment.id, attempt.version))
        if entries:
            machine.dispatch(c.Propose(attempt.id, attempt.number, entries, callees, end))
        elif end:
            machine.dispatch(c.End(attempt.id, attempt.number))
        if end and not attempt.closed:
            attempt.finish()
            self._gone(attempt)

    def _checked(
        self, attempt: RemoteAttempt, state: Invocation, entries: tuple[j.Proposal, ...]
    ) -> tuple[InvocationId, ...]:
        """The callees' ids; ProtocolViolation for what the core takes on trust."""
        callees: list[InvocationId] = []
        used = state.open | state.done
        for entry in entries:
            if isinstance(entry, j.RunResult):
                if entry.completion not in attempt.runs:
                    raise ProtocolViolation(f"no step waits for a result with id {entry.completion}")
                attempt.runs.discard(entry.completion)
                continue
            for name in ("id_completion", "completion"):
                completion = getattr(entry, name, 0)
                if completion and used >> completion & 1:
                    raise ProtocolViolation(f"completion id {completion} was used before")
                used |= 1 << completion if completion else 0
            if isinstance(entry, j.Run):
                attempt.runs.add(entry.completion)
            elif isinstance(entry, _CALLS):
                target = self.machine.catalog.target(entry.service, entry.handler, entry.key, entry.scope)
                callees.append(self.machine.names.callee(entry, target))
        return tuple(callees)

    def suspend(self, attempt: RemoteAttempt, awaiting: j.Awaiting, seen: int) -> None:
        """It leaves, or begins again at once when what it waits for is there."""
        attempt.finish()
        self.machine.dispatch(c.Suspend(attempt.id, attempt.number, awaiting, seen))
        self._gone(attempt)

    def fail(self, attempt: RemoteAttempt, failed: Failed) -> None:
        """The policy says when the next one is."""
        if attempt.closed:
            return
        attempt.close()
        slot, state = attempt.slot, attempt.slot.state
        if state is not None:
            before = _retries(slot, state)
            since = before.since if before.failures else attempt.last
            slot.step_failures = {0: Retries(state.length, before.failures + 1, since)}
            behavior: Literal["retry", "pause", "fail"] = "retry"
            if failed.pause or failed.final:
                behavior = "pause" if failed.pause else "fail"
            self.machine.dispatch(
                c.Fail(
                    id=attempt.id, attempt=attempt.number, error=failed.error,
                    policy=self._options_of(state).retry, delay_ms=failed.delay_ms, behavior=behavior,
                    chance=self.machine.world.chance(),
                )
            )  # fmt: skip
            if slot.state is not state:
                self.machine.attempt_failed(state, slot.state, failed.error)
        self._gone(attempt)

    def refuse(self, slot: Slot, error: j.Failure) -> None:
        """A proposed command broke a rule."""
        if isinstance(slot.attempt, RemoteAttempt):
            self.fail(slot.attempt, Failed(error=error))

    def _options_of(self, state: Invocation) -> HandlerOptions:
        target = state.spec.target
        found = self.registry.find(state.head.deployment, target.service)
        return HandlerOptions() if found is None else found.options(target.service, target.handler)

    # -- time

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = self.machine.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if not self.stopping:
            now = self.machine.world.now()
            for attempt in list(self.live):
                self._look_at(attempt, now - attempt.last)
        late = self.machine.loop.time()
        for attempt in [one for one, until in self._leaving.items() if until <= late]:
            del self._leaving[attempt]
            attempt.drop()
        if self.live or self._leaving:
            self._sweep_later()

    def _look_at(self, attempt: RemoteAttempt, quiet_ms: int) -> None:
        if attempt.exchange is None or attempt.closed:
            return
        if quiet_ms >= attempt.inactivity_ms + attempt.abort_ms:
            message = f"nothing was heard for {quiet_ms} ms: the 'abort timeout' fired."
            failure = j.Failure(500, message, (("restate_code", "RT0001"), ("agentdur_code", "AD0039")))
            self.fail(attempt, Failed(error=failure))
        elif quiet_ms >= attempt.inactivity_ms:
            attempt.half_close()

    # -- the end

    def forget(self) -> None:
        """Memory is gone: close everything without a word."""
        live, self.live = list(self.live), {}
        self.ready.clear()
        for attempt in live:
            attempt.close()

    async def drain(self, seconds: float) -> None:
        """Ask all to leave, wait for a while, and drop the rest: they go on at the next start."""
        self.stopping = True
        self.ready.clear()
        for attempt in self.live:
            attempt.half_close()
        deadline = self.machine.loop.time() + seconds
        now = self.machine.loop.time
        while self.live and not self.hurry and now() < deadline:  # noqa: ASYNC110  # for a set to be empty
            await asyncio.sleep(0.02)
        for attempt in list(self._leaving):
            attempt.drop()
        for attempt in list(self.live):
            attempt.close()
