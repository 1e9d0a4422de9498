"""Services as an endpoint of the service protocol: an ASGI app that a Restate or an agentdur server drives.

Rules of this file:
1. Over HTTP/2 requests and answers flow at the same time; over anything else a request is read to its end
   first, and the attempt leaves when it has to wait.
2. What the server has to know of the services is said at discovery; what it could not do is refused there.
3. Nothing is installed in the process but the loop's task factory, at the first request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.metadata import version as installed
from typing import Any, TypeAlias

from agentdur.core.catalog import Catalog, HandlerOptions
from agentdur.core.errors import AgentdurError, ProtocolError
from agentdur.core.trace import HEADER
from agentdur.sdk.branch import install
from agentdur.sdk.endpoint_driver import FrameDriver
from agentdur.sdk.endpoint_lambda import lambda_handler
from agentdur.sdk.service import BaseService, Handler
from agentdur.sdk.traced import Traced
from agentdur.wire import messages as m
from agentdur.wire.codec import VERSIONS, encode
from agentdur.wire.discovery import Mode, accepted_version, unsayable, write_manifest
from agentdur.wire.frames import FrameReader

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_INVOKE = re.compile(r"/invoke/([^/]+)/([^/]+)")
_INVOCATION_TYPE = re.compile(r"application/vnd\.restate\.invocation\.v(\d+)")
_VIOLATION = 571
CLOSING_SECONDS_MAX = 10.0


def identity() -> Any:
    """What checks signatures; loaded by those who need it, since nobody else should wait for that."""
    return import_module("agentdur.wire.identity")


class Endpoint:
    """An ASGI app. `identity_keys`: public keys (`publickeyv1_…`) of the servers that may call; none: all.
    `message_retention`: how long the messages of conversations are kept at the server, by an object that is
    among the services; zero: they are not."""

    def __init__(
        self,
        services: Iterable[BaseService],
        *,
        identity_keys: Iterable[str] = (),
        message_retention: timedelta = timedelta(0),
    ) -> None:
        self.services = {service.name: service for service in services}
        for service in self.services.values():
            service.check()
        self._handlers: dict[tuple[str, str], Handler] = {
            (s.name, name): handler for s in self.services.values() for name, handler in s.handlers.items()
        }
        self._verifiers = [identity().Verifier(key) for key in identity_keys]
        self._server = f"agentdur/{installed('agentdur')}".encode()
        self.messages_ms = message_retention // timedelta(milliseconds=1)
        self._installed: asyncio.AbstractEventLoop | None = None

    def lambda_handler(self) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
        """The same endpoint as the function of an AWS Lambda: `handler = app.endpoint().lambda_handler()`."""
        return lambda_handler(self)

    def catalog(self) -> Catalog:
        """What is served; options that nobody gave are the server's."""
        return Catalog({name: service.meta(HandlerOptions()) for name, service in self.services.items()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Discovery, an invocation, or the answer that there is no such thing."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        root: str = scope.get("root_path") or ""
        if root and path.startswith(root):
            path = path[len(root) :]
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        reply = await self._route(path, headers, scope, receive, send)
        if reply is not None:
            status, more, body = reply
            await self._head(send, status, [*more, (b"content-length", str(len(body)).encode())])
            await send({"type": "http.response.body", "body": body})

    async def _route(
        self, path: str, headers: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        if path == "/health":
            return 200, [(b"content-type", b"application/json")], b'{"status":"OK"}'
        if self._verifiers and not any(verifier.allows(headers, path) for verifier in self._verifiers):
            return 401, [], b""
        if path == "/discover":
            return self._discover(headers, bidirectional=scope.get("http_version") == "2")
        found = _INVOKE.fullmatch(path)
        handler = self._handlers.get((found[1], found[2])) if found else None
        if handler is None or scope["method"] != "POST":
            return 404, [], b""
        content_type = headers.get("content-type", "")
        spoken = _INVOCATION_TYPE.fullmatch(content_type)
        if spoken is None or int(spoken[1]) not in VERSIONS:
            return 415, [], b""
        if self._installed is not asyncio.get_running_loop():
            self._installed = asyncio.get_running_loop()
            install(self._installed)
        await self._head(send, 200, [(b"content-type", content_type.encode())])
        exchange = Exchange(handler, int(spoken[1]), receive, send, self.messages_ms)
        if HEADER in headers:
            exchange.carry(headers)
        await exchange.run()
        return None

    def _discover(
        self, headers: dict[str, str], *, bidirectional: bool
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        wanted = accepted_version(headers.get("accept", ""))
        if wanted is None:
            return 415, [], b""
        if lost := unsayable(self.catalog(), wanted):
            text = f"this server reads manifests up to v{wanted}, which cannot say {', '.join(lost)}"
            return 501, [(b"content-type", b"text/plain")], text.encode()
        mode: Mode = "BIDI_STREAM" if bidirectional else "REQUEST_RESPONSE"
        try:
            content_type, body = write_manifest(self.catalog(), mode, wanted)
        except AgentdurError as error:
            return 500, [(b"content-type", b"text/plain")], str(error).encode()
        return 200, [(b"content-type", content_type.encode())], body

    async def _head(self, send: Send, status: int, more: list[tuple[bytes, bytes]]) -> None:
        headers = [(b"x-restate-server", self._server), *more]
        await send({"type": "http.response.start", "status": status, "headers": headers})


class Exchange:
    """One request and its answer: bytes between the web server and the driver."""

    def __init__(
        self, handler: Handler, version: int, receive: Receive, send: Send, messages_ms: int
    ) -> None:
        self._receive, self._send = receive, send
        self._version = version
        self._frames = FrameReader()
        self._out: list[bytes] = []
        self._over = False
        self._wake: asyncio.Future[None] | None = None
        self._driver = FrameDriver(version, handler, self._write, self._finish, messages_ms)

    def carry(self, headers: dict[str, str]) -> None:
        """The handler goes on with the trace of the request."""
        carried = import_module("agentdur.sdk.carried")
        self._driver.traced = Traced("", partial(carried.carry_on, headers))

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._go_on()

    def _finish(self) -> None:
        self._over = True
        self._go_on()

    def _go_on(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def run(self) -> None:
        """Until the attempt is over, or nobody listens."""
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._read())
        try:
            while not self._over:
                if not self._out:
                    self._wake = loop.create_future()
                    await self._wake
                    continue
                data, self._out = b"".join(self._out), []
                await self._send({"type": "http.response.body", "body": data, "more_body": not self._over})
            data = b"".join(self._out)
            if not reading.done():
                # The server closes its side when it has read the last frame. Web servers forget a stream
                # whose answer is complete, and stumble over what still comes for it.
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
                data = b""
                await asyncio.wait([reading], timeout=CLOSING_SECONDS_MAX)
            await self._send({"type": "http.response.body", "body": data, "more_body": False})
        finally:
            reading.cancel()
            self._driver.lost()

    async def _read(self) -> None:
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._driver.lost()
                    self._finish()
                    return
                if not self._over:
                    for frame in self._frames.feed(message.get("body", b"")):
                        self._driver.frame(frame)
                if not message.get("more_body", False):
                    if not self._over:
                        self._frames.done()
                        self._driver.input_closed()
                    return
        except ProtocolError as error:
            self._driver.lost()
            self._write(encode(m.Error(code=_VIOLATION, message=str(error)), self._version))
            self._finish()


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to start: an endpoint keeps nothing."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
