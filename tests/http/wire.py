"""HTTP without an HTTP library's manners: what is written goes out byte for byte."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from typing import Any, NamedTuple

TIMEOUT_S = 10.0


class Response(NamedTuple):
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Address(NamedTuple):
    """Where requests go; `prefix` is put before each path."""

    port: int
    prefix: bytes = b""

    def ask(
        self,
        method: str,
        path: str | bytes,
        body: bytes | None = None,
        headers: Iterable[tuple[str, str | bytes]] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> Response:
        """One request on a connection of its own. `body` None: no content-length header."""
        raw_path = path.encode() if isinstance(path, str) else path
        lines = [
            b"%s %s%s HTTP/1.1" % (method.encode(), self.prefix, raw_path),
            b"host: test",
            b"connection: close",
        ]
        for name, value in headers:
            lines.append(
                name.encode() + b": " + (value.encode("latin-1") if isinstance(value, str) else value)
            )
        if body is not None:
            lines.append(b"content-length: %d" % len(body))
        return self.exchange(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""), timeout_s)

    def exchange(self, request: bytes, timeout_s: float = TIMEOUT_S) -> Response:
        """Bytes out, one response in; the server has to close the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            connection.sendall(request)
            received = bytearray()
            while piece := connection.recv(65_536):
                received += piece
        return parse(bytes(received))


def parse(received: bytes) -> Response:
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    _, status, reason = [*status_line.split(" ", 2), ""][:3]
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Response(int(status), reason, headers, body)


JSON = ("content-type", "application/json")
