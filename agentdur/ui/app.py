"""`/ui`: the web UI's files. What is in `static` is what the browser runs; all data comes from the admin API.

Rules of this file:
1. Nothing is loaded from elsewhere, and nothing inline runs: the policy that is sent with each file says so.
2. A file is asked for again whenever it may have changed, and sent again only when it has.
3. A path below /ui that is no file is a page: it answers index.html.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

PREFIX = "/ui"
STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
FOLDERS = ("pages/", "parts/", "vendor/")
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def serve_ui(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """An ASGI application, mounted at `/ui`."""
    request = Request(scope, receive)
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    await answer(path, request)(scope, receive, send)


def answer(path: str, request: Request) -> Response:
    """The file at `path` below /ui; index.html for what looks like a page."""
    if request.method not in ("GET", "HEAD"):
        return PlainTextResponse("", 405)
    name = path.lstrip("/")
    found = file_of(name)
    if found is None:
        if name.startswith(FOLDERS):
            return PlainTextResponse("no such file", 404, HEADERS)
        found = STATIC / "index.html"
    content = found.read_bytes()
    headers = {**HEADERS, "etag": f'"{sha256(content).hexdigest()[:32]}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, 200, {**headers, "content-type": TYPES[found.suffix]})


def file_of(name: str) -> Path | None:
    """A file of ours that a browser may have; None when there is none, or the name leads elsewhere."""
    try:
        found = (STATIC / name).resolve()
    except (OSError, ValueError):
        return None
    ours = found.is_relative_to(STATIC.resolve()) and found.suffix in TYPES and found.is_file()
    return found if ours else None
