"""What is sent back, and the two ASGI messages it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias

Header: TypeAlias = tuple[bytes, bytes]
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

JSON: Header = (b"content-type", b"application/json")
_CREDENTIALS: Header = (b"access-control-allow-credentials", b"true")
_VARY: Header = (b"vary", b"origin, access-control-request-method, access-control-request-headers")
_BODYLESS = frozenset({204, 304})


class Reply(NamedTuple):
    """Status, headers without those every answer has, body."""

    status: int
    headers: list[Header]
    body: bytes = b""


async def send_reply(send: Send, reply: Reply, origin: bytes | None) -> None:
    """Answer a routed request: any origin may read it."""
    reply.headers.extend(cors(origin))
    await send_bare(send, reply)


def cors(origin: bytes | None) -> list[Header]:
    """What lets a page from anywhere read an answer."""
    if origin is None:
        return [_VARY, _CREDENTIALS]
    return [_VARY, _CREDENTIALS, (b"access-control-allow-origin", origin)]


async def send_bare(send: Send, reply: Reply) -> None:
    """Answer without CORS headers."""
    status, headers, body = reply
    if status in _BODYLESS:
        body = b""
    else:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def preflight(headers: dict[bytes, bytes]) -> Reply:
    """Whatever a browser asks to do is allowed."""
    allowed: list[Header] = []
    for asked, answer in (
        (b"access-control-request-method", b"access-control-allow-methods"),
        (b"access-control-request-headers", b"access-control-allow-headers"),
    ):
        if (value := headers.get(asked)) is not None:
            allowed.append((answer, value))
    return Reply(200, allowed)
