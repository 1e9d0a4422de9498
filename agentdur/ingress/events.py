"""Streams over HTTP: server-sent events.

Rules of this file:
1. The answer begins when it is known that there is something to read; errors before that are plain answers.
2. A client that leaves, or takes nothing for too long, frees everything; it may come back with the id of the
   last event it has. So may one whose server stops: it is told so by the end of the answer without `end`.
3. What is sent goes out in pieces, so that how long a client may take does not depend on their sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from agentdur.core.errors import AgentdurError
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Stream, StreamEvent
from agentdur.ingress.replies import Header, Receive, Scope, Send, cors
from agentdur.ingress.settings import IngressSettings

PIECE_BYTES: Final = 64 * 1024
RETRY_MS: Final = 500
"""How long a browser waits before it comes back."""
ABORT: Final = "agentdur.abort"
"""In the scope of a request: drops the connection, whatever is still to be written."""
_HEADERS: Final[list[Header]] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_BEGIN = b"retry: %d\n\n" % RETRY_MS
_HEARTBEAT = b": still here\n\n"
_encode = msgspec.json.Encoder().encode


class Events(NamedTuple):
    """A stream that is to be sent."""

    invocation: InvocationId
    stream: Stream


def read_after(query: bytes) -> str | None:
    """The first `after` of a query."""
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name == "after":
            return value
    return None


def encoded(event: StreamEvent) -> bytes:
    """One event as its lines."""
    said: dict[str, Any] = {
        "step": event.step, "branch": event.branch, "run": event.run, "attempt": event.attempt,
        "data": event.data,
    }  # fmt: skip
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.kind.encode(), _encode(said))


async def send_events(
    events: Events, scope: Scope, receive: Receive, send: Send, settings: IngressSettings
) -> None:
    """Send a stream to its end, or as long as the client is there and the engine runs."""
    stream = events.stream
    watch = asyncio.get_running_loop().create_task(_watch(receive, stream))
    out = _Out(send, settings.stream_stall_ms / 1000)
    try:
        headers = [(b"x-restate-id", events.invocation.encode()), *_HEADERS]
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, *cors(origin)]})
        await out.say(_BEGIN)
        while not stream.over:
            try:
                async with asyncio.timeout(settings.stream_heartbeat_ms / 1000):
                    first = await anext(stream)
            except TimeoutError:
                await out.say(_HEARTBEAT)
            except StopAsyncIteration:
                break
            except AgentdurError as error:  # who comes back is answered with it, if it lasts
                await out.say(b": %b\n\n" % " ".join(str(error).split()).encode())
                break
            else:
                await out.say(b"".join(map(encoded, (first, *stream.ready()))))
        await out.say(b"", last=True)
    except _Stalled:
        abort: Callable[[], None] | None = scope.get(ABORT)
        if abort is not None:
            abort()
            await watch  # until the connection is gone
    finally:
        stream.close()
        watch.cancel()


class _Stalled(Exception):
    """The client takes nothing."""


class _Out:
    def __init__(self, send: Send, stall_s: float) -> None:
        self._send, self._stall_s = send, stall_s

    async def say(self, text: bytes, last: bool = False) -> None:
        """Send it, piece by piece."""
        for at in range(0, len(text) or 1, PIECE_BYTES):
            piece = text[at : at + PIECE_BYTES]
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._send({"type": "http.response.body", "body": piece, "more_body": not last})
            except TimeoutError:
                raise _Stalled from None


async def _watch(receive: Receive, stream: Stream) -> None:
    while (await receive())["type"] != "http.disconnect":
        """A body, which nobody needs."""
    stream.close()
