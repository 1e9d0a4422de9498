"""What all answers have in common: HEAD is GET without the body, and what is worth it is sent compressed.

Rules of this file:
1. A stream passes as it is: only an answer in one piece is compressed, and none so large that it would keep
   the engine's loop waiting.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.types import Scope, Send

PACKED_BYTES_MIN = 1024
PACKED_BYTES_MAX = 1024 * 1024
LEVEL = 1
"""Of gzip: fast, and most of what there is to win."""

Message = MutableMapping[str, Any]
Say = Callable[[Message], Awaitable[None]]


def outward(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """The request as the application sees it, and what it answers with."""
    packs = _takes_gzip(scope)
    if scope["method"] == "HEAD":
        scope, send = {**scope, "method": "GET"}, _Bodiless(send)
    return scope, _Packing(send) if packs else send


def _takes_gzip(scope: Scope) -> bool:
    said = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding").decode(
        "latin-1"
    )
    for one in said.split(","):
        coding, _, weight = one.partition(";")
        if coding.strip().lower() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class _Bodiless:
    def __init__(self, send: Send) -> None:
        self._send, self._over = send, False

    async def __call__(self, message: Message) -> None:
        if self._over:
            return
        await self._send(message)
        if message["type"] == "http.response.start":
            self._over = True
            await self._send({"type": "http.response.body", "body": b""})


def _is_whole(start: Message) -> bool:
    """A stream has no length, and its head must not wait for its first piece."""
    return any(name == b"content-length" for name, _ in start["headers"])


class _Packing:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_whole(message):
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            body, whole = message.get("body", b""), not message.get("more_body", False)
            headers = dict(start["headers"])
            if (
                whole
                and PACKED_BYTES_MIN <= len(body) <= PACKED_BYTES_MAX
                and b"content-encoding" not in headers
            ):
                body = gzip.compress(body, LEVEL, mtime=0)
                headers |= {b"content-encoding": b"gzip", b"vary": b"accept-encoding"}
                headers[b"content-length"] = b"%d" % len(body)
                start, message = {**start, "headers": list(headers.items())}, {**message, "body": body}
            await self._send(start)
        await self._send(message)
