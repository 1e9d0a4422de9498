"""HTTP/1.1 to a deployment, through httpx: the whole request first, then the answer."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from agentdur.runtime.remote.transport import Address, Headers, Receiver, TransportFailed

CONNECT_SECONDS_MAX = 10.0
CONNECTIONS_MAX = 256
UNREAD_BYTES_MAX = 1024 * 1024
"""So much may wait for its commit before no more is read."""


class Request:
    """One exchange (`transport.Exchange`): sent when it is complete."""

    def __init__(
        self, transport: Http1, method: str, path: str, headers: Headers, receiver: Receiver
    ) -> None:
        self._transport, self._receiver = transport, receiver
        self._method, self._path, self._headers = method, path, headers
        self._body: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self._unread = 0
        self._read = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Kept until the end."""
        self._body.append(data)

    def end(self) -> None:
        """Send it."""
        if self._task is None and not self._over:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def consumed(self, size: int) -> None:
        """Read on."""
        self._unread -= size
        if self._unread <= UNREAD_BYTES_MAX:
            self._read.set()

    def abort(self) -> None:
        """Drop it."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            request = self._transport.client.stream(
                self._method, self._path, headers=self._headers, content=b"".join(self._body)
            )
            async with request as answer:
                self._receiver.response(answer.status_code, dict(answer.headers))
                async for chunk in answer.aiter_raw():
                    self._unread += len(chunk)
                    self._read.clear()
                    self._receiver.data(chunk)
                    if self._unread > UNREAD_BYTES_MAX:
                        await self._read.wait()
        except httpx.HTTPError as error:
            if not self._over:
                self._over = True
                unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                detail = str(error) or type(error).__name__
                self._receiver.lost(TransportFailed("connect" if unreachable else "reset", detail))
            return
        if not self._over:
            self._over = True
            self._receiver.ended()


class Http1:
    """The connections to one deployment (`transport.Transport`)."""

    bidirectional = False

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        if tls is None and address.scheme == "https":
            tls = ssl.create_default_context()  # as for HTTP/2: the system's, or those of SSL_CERT_FILE
        self.client = httpx.AsyncClient(
            base_url=f"{address.scheme}://{address.authority}", verify=tls or False,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS_MAX), follow_redirects=False,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX), trust_env=False,
        )  # fmt: skip
        self.client.headers.clear()  # it would ask for compressed answers, and answers are read as they come
        self._address = address

    def open(self, method: str, path: str, headers: Headers, receiver: Receiver) -> Request:
        """Begin an exchange."""
        return Request(self, method, self._address.path_to(path), headers, receiver)

    async def close(self) -> None:
        """Drop all connections."""
        await self.client.aclose()
