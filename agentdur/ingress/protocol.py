"""HTTP/1.1 as uvicorn speaks it, with an answer's head and body in one write.

uvicorn writes them one after the other, and each write is a system call that wakes the client: a sixth of
what a small request costs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentdur.ingress.events import ABORT


class Joined:
    """A transport that keeps what is written until more comes, or until the loop's next turn."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data`, after what is kept."""
        held = self._held
        if held is None:
            self._held = data
            self._loop.call_soon(self._send)
        else:
            self._held = None
            self._transport.write(held + data)

    def _send(self) -> None:
        held, self._held = self._held, None
        if held:
            self._transport.write(held)

    def close(self) -> None:
        """Send what is kept, then close."""
        self._send()
        self._transport.close()


class OneWrite(HttpToolsProtocol):
    """uvicorn's protocol on a joined transport."""

    # The transport is typed as uvicorn types it; a Joined has all that is used of one.
    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        joined: Any = Joined(transport, self.loop)
        super().connection_made(joined)

    def on_message_begin(self) -> None:
        """A request begins: whoever answers it can drop the connection."""
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]  # our own
