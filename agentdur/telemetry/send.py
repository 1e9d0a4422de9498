"""Sending to a collector over HTTP, from a thread of its own.

Rules of this file:
1. Nobody waits for a collector: what does not fit into the queue is dropped, and counted.
2. What the specification calls retryable is tried again for a while, with growing pauses; then it is dropped.
3. A collector that does not answer is told of once, and once when it answers again.
"""

from __future__ import annotations

import gzip
import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
from opentelemetry import context as otel

from agentdur.core.errors import TelemetryNotSent
from agentdur.telemetry.options import Destination, Parcel

WAITING_MAX = 64
"""Requests that wait to be sent."""
TRY_SECONDS_MAX = 60.0
"""How long a request is tried."""
PAUSE_SECONDS_FIRST = 0.5
PAUSE_SECONDS_MAX = 15.0
RETRYABLE = frozenset({429, 502, 503, 504})

THREAD = "agentdur-telemetry-sender"

_log = logging.getLogger("agentdur.telemetry")
logging.getLogger("httpx").addFilter(lambda record: record.threadName != THREAD)  # a line for each request


def _tls(destination: Destination) -> dict[str, Any]:
    """How an address of https is trusted, and who we are there."""
    if destination.certificate is None and destination.client_certificate is None:
        return {}
    context = ssl.create_default_context(cafile=destination.certificate)
    if destination.client_certificate is not None:
        context.load_cert_chain(destination.client_certificate, destination.client_key)
    return {"verify": context}


class Sender:
    """Sends parcels one after another. `counted(result, count)` hears what became of each: sent, failed or
    dropped."""

    def __init__(self, counted: Callable[[str, int], None]) -> None:
        self._counted = counted
        self._waiting: deque[Parcel] = deque()
        self._changed = threading.Condition()
        self._stopping = self._busy = False
        self._deadline = float("inf")
        self._silent = False
        self._clients: dict[Destination, httpx.Client] = {}
        self._thread = threading.Thread(target=self._serve, name=THREAD, daemon=True)
        self._thread.start()

    def put(self, parcel: Parcel) -> None:
        """Send it soon; when too many wait it is dropped."""
        with self._changed:
            if len(self._waiting) >= WAITING_MAX or self._stopping:
                self._counted("dropped", parcel.size)
                return
            self._waiting.append(parcel)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all was sent or given up, at most so long. False: something still waits."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def stop(self, seconds: float) -> None:
        """Send what waits, at most so long; the rest is dropped."""
        with self._changed:
            self._stopping, self._deadline = True, time.monotonic() + seconds
            self._changed.notify_all()
        self._thread.join(seconds + 1)

    def _serve(self) -> None:
        quiet = otel.set_value("suppress_instrumentation", True)
        otel.attach(otel.set_value("suppress_http_instrumentation", True, quiet))  # no spans of sending spans
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    break
                parcel = self._waiting.popleft()
                self._busy = True
            self._counted("sent" if self._try(parcel) else "failed", parcel.size)
        for client in self._clients.values():
            client.close()

    def _try(self, parcel: Parcel) -> bool:
        destination = parcel.destination
        body = gzip.compress(parcel.body, 1) if destination.gzip else parcel.body
        pause, until = PAUSE_SECONDS_FIRST, time.monotonic() + TRY_SECONDS_MAX
        while True:
            again, wait, why = self._post(destination, body)
            if not why:
                self._answered(destination)
                return True
            wait = max(wait, pause * (1 + random.random()) / 2)
            if not again or time.monotonic() + wait > min(until, self._deadline):
                self._unanswered(destination, why)
                return False
            self._unanswered(destination, why)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, wait)

    def _post(self, destination: Destination, body: bytes) -> tuple[bool, float, str]:
        """(may be tried again, after so many seconds, what went wrong: empty when nothing)."""
        headers = [("content-type", "application/x-protobuf"), *destination.headers]
        if destination.gzip:
            headers.append(("content-encoding", "gzip"))
        try:
            reply = self._client(destination).post(destination.url, content=body, headers=headers)
        except (httpx.HTTPError, OSError, ValueError) as error:
            return True, 0.0, f"{type(error).__name__}: {error}"
        if reply.is_success:
            return False, 0.0, ""
        asked = reply.headers.get("retry-after", "")
        wait = float(asked) if asked.isdigit() else 0.0
        return reply.status_code in RETRYABLE, wait, f"status {reply.status_code}"

    def _client(self, destination: Destination) -> httpx.Client:
        client = self._clients.get(destination)
        if client is None:
            seconds = destination.timeout_ms / 1000
            client = self._clients[destination] = httpx.Client(timeout=seconds, **_tls(destination))
        return client

    def _answered(self, destination: Destination) -> None:
        if self._silent:
            self._silent = False
            _log.warning("telemetry is sent again to %s", destination.url)

    def _unanswered(self, destination: Destination, why: str) -> None:
        if not self._silent:
            self._silent = True
            error = TelemetryNotSent(f"{destination.url}: {why}")
            _log.warning("%s", error, extra={"fields": {"agentdur_code": error.code, "error": error.detail}})
