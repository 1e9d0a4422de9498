"""One request and its answer on the wire, with an eye on whether the client is still there.

Rules of this file:
1. A client that leaves is noticed while waiting and before each piece of the answer; then ClientGone is
   raised.
2. Sending the last piece and returning happen without giving up the event loop, so nobody who has seen the
   end of an answer can look at the ledger before it is written there.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

REQUEST_BYTES_MAX = 64 * 1024 * 1024
TRANSPORT = "transport"  # where the server leaves the connection of a request in its ASGI state


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


async def read_body(receive: Receive) -> bytes:
    """The whole body, or its first bytes when it has more than REQUEST_BYTES_MAX; raises ClientGone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > REQUEST_BYTES_MAX or not message.get("more_body", False):
            return bytes(body)


class Exchange:
    """Sends the answer to a request whose body has been read. Use as `async with`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._transport: asyncio.Transport = scope["state"][TRANSPORT]
        self._receive, self._send = receive, send
        self.request_id = ""

    async def __aenter__(self) -> Exchange:
        self._gone = asyncio.create_task(self._until_gone())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._gone

    async def pause(self, delay_ms: int) -> None:
        """Wait, at least one turn of the event loop, and raise ClientGone as soon as the client leaves."""
        await asyncio.wait({self._gone}, timeout=delay_ms / 1000)
        self._check()

    async def until_client_gives_up(self) -> None:
        await self._gone

    async def hang_up(self) -> None:
        """Close the connection after what has been sent, whatever the answer still lacked."""
        self._transport.close()
        await self._gone

    async def start(self, status: int, content_type: str, headers: dict[str, str]) -> None:
        """Send the head of an answer."""
        self._check()
        everything = {"content-type": content_type, "x-request-id": self.request_id, **headers}
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in everything.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def piece(self, body: bytes, *, last: bool = False) -> None:
        """Send a piece of the body."""
        self._check()
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def whole(
        self, status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        """Send a complete JSON answer (bytes are sent as they are, JSON or not)."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        sized = {"content-length": str(len(content)), **(headers or {})}
        await self.start(status, "application/json", sized)
        await self.piece(content, last=True)

    def _check(self) -> None:
        # The transport knows first; what is sent into a closing one is dropped without a word.
        if self._transport.is_closing():
            raise ClientGone

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
