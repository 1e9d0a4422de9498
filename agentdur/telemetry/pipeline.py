"""Telemetry of one engine: what commits say is told on when nobody waits for the loop, and sent by a thread.

Rules of this file:
1. It is told on while the next commit is being made: then handlers wait for the disk, not for us. (A thread
   of its own cost twice as much: it fights for the interpreter. docs/adr/0008 has the figures.)
2. It takes at most `share` of the loop's time: where more begins than that allows, a part of the traces is
   not begun (sampled), each with all that belongs to it or not at all. Metrics count everything.
3. When more waits than `queue` transitions, whole commits are left out and counted; what was open then is
   forgotten, so that nothing wrong is told.
4. Spans leave in batches, in the order in which they ended, at the latest EXPORT_SECONDS after that.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from agentdur.core.ids import InvocationId
from agentdur.core.journal import Headers
from agentdur.core.trace import HEADER, ROOT, ROOT_UNSAMPLED, inbound
from agentdur.observe.observer import Said
from agentdur.sdk.carried import carry, current
from agentdur.telemetry.count import EngineCounts, IngressCounts
from agentdur.telemetry.follow import Follower, Listener
from agentdur.telemetry.gauges import Figures, engine_gauges
from agentdur.telemetry.metrics import Gauge, Registry
from agentdur.telemetry.options import Destination, Options, Parcel
from agentdur.telemetry.otlp import Envelope, encoded
from agentdur.telemetry.span import Span
from agentdur.telemetry.spans import Sink, SpanMaker

SLICE_SECONDS: Final = 0.002
"""So long the loop is kept at a time."""
EXPORT_SECONDS: Final = 1.0
SHARE_SECONDS: Final = 0.25
ROOM_MIN: Final = 0.01
BATCH_SPANS: Final = 2048
BATCH_BYTES: Final = 1024 * 1024
STOP_SECONDS: Final = 5.0

_log = logging.getLogger("agentdur.telemetry")


class Collector:
    """The sink that encodes spans and sends them to a collector. Only the telemetry thread calls it."""

    def __init__(self, destination: Destination, envelope: Envelope, sender: Any) -> None:
        self._destination, self._envelope, self._sender = destination, envelope, sender
        self._batch: list[bytes] = []
        self._bytes = 0

    def give(self, span: Span) -> None:
        """Encode it."""
        self.write(encoded(span))

    def write(self, data: bytes) -> None:
        """An encoded span; a full batch leaves."""
        self._batch.append(data)
        self._bytes += len(data)
        if len(self._batch) >= BATCH_SPANS or self._bytes >= BATCH_BYTES:
            self.pass_on()

    def pass_on(self) -> None:
        """Send the batch."""
        if self._batch:
            batch, self._batch, self._bytes = self._batch, [], 0
            self._sender.put(Parcel(self._destination, self._envelope.request(batch), len(batch)))


class Share:
    """How much of the loop's time telemetry takes, and how many traces may begin (`room`, a part of 1) so
    that it is not more than `most`."""

    def __init__(self, most: float) -> None:
        self._most, self.room = most, 1.0
        self._since = self._spent = self._taken = 0.0

    def took(self, seconds: float, now: float) -> None:
        """So much processor time, until `now` on the loop's clock."""
        self._spent += seconds
        passed = now - self._since
        if passed < SHARE_SECONDS:
            return
        share, self._since, self._spent = self._spent / passed, now, 0.0
        if passed < 2 * SHARE_SECONDS:  # else nothing has happened for a while
            self._taken = share
            if share > self._most:
                self.room = max(ROOM_MIN, self.room * self._most / share)
                return
        self.room = min(1.0, self.room * 1.1 + ROOM_MIN)

    def gauges(self) -> list[Gauge]:
        """For the registry."""
        return [
            Gauge("agentdur_telemetry_loop_share", "The part of the loop's time that telemetry took lately.",
                  {(): self._taken}),
            Gauge("agentdur_telemetry_traces_room", "The part of new traces that is begun.", {(): self.room}),
        ]  # fmt: skip


class Telemetry:
    """`EngineObserver` and `RequestObserver`. `sink`: where spans go instead of a collector. Start it before
    the engine, stop it after."""

    def __init__(self, options: Options, version: str, sink: Sink | None = None) -> None:
        self.options, self.registry = options, Registry()
        self._began_ms = _now_ms()
        self._envelope = Envelope(options.resource, version)
        self.left = self.registry.counter(
            "agentdur_telemetry_spans",
            "Spans and data points, by what became of them: sent, failed, dropped.",
            ("result",),
        )  # fmt: skip
        self.lost = self.registry.counter(
            "agentdur_telemetry_lost_transitions", "Transitions that nothing is told of: too many waited."
        )
        destination = options.traces
        self._sender: Any = None
        if destination is not None or options.metrics is not None:
            sender = import_module("agentdur.telemetry.send").Sender  # httpx: not before it is needed
            self._sender = sender(lambda result, count: self.left.add((result,), count))
        if sink is None and destination is not None and self._sender is not None:
            sink = Collector(destination, self._envelope, self._sender)
        self._sink = sink
        self._counts = EngineCounts(self.registry)
        requests = IngressCounts(self.registry)
        self.admitted, self.answered = requests.admitted, requests.answered
        self.commit = self._counts.commit
        listeners: list[Listener] = []
        if options.expose or options.metrics is not None:
            listeners.append(self._counts)
        if sink is not None:
            listeners.append(SpanMaker(sink, options.content, options.content_bytes))
        self._follower = Follower(listeners, options.content == "all")
        self._queue: deque[list[Said] | None] = deque()
        self._waiting = 0
        self._overflowing = self._awake = self._told_broken = False
        self._leaving: asyncio.TimerHandle | None = None
        self._share = Share(options.share)
        self.registry.gauges.append(self._share.gauges)

    @property
    def followed(self) -> int:
        """Invocations that something is kept of."""
        return self._follower.size

    # -- what the engine says, on its loop

    def accepts(self, invocation: InvocationId, headers: Headers) -> str:
        """The traceparent of an invocation from outside: below the span that is current here, or that the
        caller sent; or it begins a trace of its own."""
        if self._sink is None:
            return ""
        if here := current():
            return here
        for name, value in headers:
            if name == HEADER:
                context = inbound(value)
                if context:
                    return context
        ratio = self.options.sample_ratio * self._share.room
        return ROOT if ratio >= 1 or random.random() < ratio else ROOT_UNSAMPLED

    def carry(self) -> None:
        """Clients that a step uses go on with the trace."""
        carry()

    def committed(self, said: list[Said]) -> None:
        """Keep it until nobody waits for the loop."""
        if self._waiting + len(said) > self.options.queue:
            self.lost.add((), len(said))
            if not self._overflowing:
                self._overflowing = True
                self._queue.append(None)
            return
        self._overflowing = False
        self._waiting += len(said)
        self._queue.append(said)
        if not self._awake:
            self._awake = True
            soon = asyncio.get_running_loop().call_soon
            soon(soon, soon, self._tell_on)  # those who are told go first, then the next commit begins

    def forget(self) -> None:
        """What is open is not known any more."""
        self._queue.append(None)

    # -- telling on

    def _tell_on(self) -> None:
        loop = asyncio.get_running_loop()
        began = time.thread_time()  # not while others have the processor
        over = self.drain(SLICE_SECONDS)
        self._share.took(time.thread_time() - began, loop.time())
        if not over:
            loop.call_soon(self._tell_on)
            return
        self._awake = False
        if self._leaving is None and self._sink is not None:
            self._leaving = loop.call_later(EXPORT_SECONDS, self._leave)

    def _leave(self) -> None:
        self._leaving = None
        if self._sink is not None:
            self._sink.pass_on()

    def drain(self, seconds: float = float("inf")) -> bool:
        """Tell on what was committed, for so long; False: not all of it."""
        queue, hear, clock = self._queue, self._follower.hear, time.perf_counter
        until = clock() + seconds
        while queue:
            said = queue.popleft()
            if said is None:
                self._follower.forget()
                continue
            self._waiting -= len(said)
            try:
                hear(said)
            except Exception:
                self._broken()
                self._follower.forget()
            if clock() > until:
                return not queue
        return True

    def _broken(self) -> None:
        """Telemetry never stops an engine; it says once that something in it is wrong."""
        if not self._told_broken:
            self._told_broken = True
            _log.exception("telemetry leaves something out")

    def flush(self, seconds: float = STOP_SECONDS) -> bool:
        """Let all leave that was committed before this, at most so long. False: something still waits.
        Blocks."""
        self.drain()
        self._leave()
        return self._sender is None or self._sender.flush(seconds)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """The same, for the last time. Blocks."""
        self.drain()
        if self._leaving is not None:
            self._leaving.cancel()
        self._leave()
        if self._sender is not None:
            self._sender.stop(seconds)

    # -- metrics

    def measure(self, engine: Figures) -> None:
        """Show what is so in this engine, too."""
        self.registry.gauges.append(engine_gauges(engine))

    async def push_regularly(self) -> None:
        """Send metrics again and again; on the engine's loop, until cancelled."""
        while self.options.metrics is not None:
            await asyncio.sleep(self.options.metric_interval_ms / 1000)
            self.push_metrics()

    def push_metrics(self) -> None:
        """Send what the metrics are now; on the engine's loop, where the gauges are."""
        destination = self.options.metrics
        if destination is not None and self._sender is not None:
            metrics_of = import_module("agentdur.telemetry.otlp_metrics").metrics_of
            fields: Sequence[bytes] = metrics_of(self.registry, self._began_ms, _now_ms())
            self._sender.put(Parcel(destination, self._envelope.request(fields), len(fields)))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
