"""Reading a request: headers, body, and what of them the handler is given.

Rules of this file:
1. Of a repeated header only the first value counts, for us and for the handler.
2. A body is read up to the limit and no byte further.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from agentdur.core.edits import EDITS
from agentdur.core.journal import Headers
from agentdur.ingress.errors import LENGTH_LIMIT, IngressError, bad_header
from agentdur.ingress.replies import Header, Receive, Scope
from agentdur.ingress.waiting import ClientGone
from agentdur.sdk.along import BUDGETS

NAMES_KEPT_MAX: Final = 1_000
"""Header names whose text is remembered."""

_NOT_FORWARDED = frozenset(
    # From outside nobody is called under a budget, or as a fork.
    {b"host", b"connection", b"idempotency-key", b"idempotency-expires", BUDGETS.encode(), EDITS.encode()}
)
_names: dict[bytes, str | None] = dict.fromkeys(_NOT_FORWARDED)


def first_values(headers: Iterable[Header]) -> dict[bytes, bytes]:
    """Each header with its first value, in order of appearance."""
    pairs = headers if isinstance(headers, list) else list(headers)
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    values.clear()
    for name, value in pairs:
        values.setdefault(name, value)
    return values


def path_of(scope: Scope) -> tuple[bytes, bytes]:
    """(path below the mount point, path as it came), both still percent-encoded."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    root: str = scope.get("root_path", "")
    if not root:
        return raw, raw
    return raw.removeprefix(quote(root).encode()), raw


def forwarded(headers: dict[bytes, bytes], raw_path: bytes, query: bytes) -> Headers:
    """What the handler sees: path and query, without slashes around the path; then the request's headers."""
    path = raw_path.strip(b"/")
    shown = b"/%b?%b" % (path, query) if query else b"/" + path
    kept: list[tuple[str, str]] = [("x-restate-ingress-path", shown.decode("utf-8", "replace"))]
    known = _names
    for name, value in headers.items():
        try:
            text = known[name]
        except KeyError:
            text = _remember(name)
        if text is None:
            continue
        if not value.isascii():
            raise bad_header(text)
        kept.append((text, value.decode()))
    return tuple(kept)


def _remember(name: bytes) -> str:
    text = name.decode("latin-1").lower()
    if len(_names) < NAMES_KEPT_MAX:
        _names[name] = text
    return text


def header_text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    """The value of a header that must be ASCII; None when it is not there."""
    value = headers.get(name)
    if value is None:
        return None
    if not value.isascii():
        raise bad_header(name.decode())
    return value.decode()


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """The whole body; 413 as soon as it is longer than `bytes_max`."""
    body, more = await _piece(receive)
    if more:
        parts, size = [body], len(body)
        while more and size <= bytes_max:
            part, more = await _piece(receive)
            parts.append(part)
            size += len(part)
        body = b"".join(parts)
    if len(body) > bytes_max:
        raise IngressError(413, LENGTH_LIMIT)
    return body


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    """(bytes, is there more?)"""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)
