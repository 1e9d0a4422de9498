"""An endpoint as an AWS Lambda function: one request, one answer, all of it in one event.

Source of the envelope: the service protocol's Lambda binding (request and response frames as base64).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
Event: TypeAlias = dict[str, Any]


def lambda_handler(app: App) -> Callable[[Event, Any], Event]:
    """The function that Lambda calls. Its loop stays between calls, as the process does."""
    runner = asyncio.Runner()

    def handler(event: Event, _: Any) -> Event:
        return runner.run(_answer(app, event))

    return handler


async def _answer(app: App, event: Event) -> Event:
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    headers = [
        (name.lower().encode("latin-1"), str(value).encode("latin-1"))
        for name, value in (event.get("headers") or {}).items()
    ]
    scope: Message = {
        "type": "http", "http_version": "1.1", "method": event.get("httpMethod", "GET"),
        "path": event.get("path", "/"), "root_path": "", "headers": headers, "query_string": b"",
    }  # fmt: skip
    status, given, parts = 500, {}, []

    async def receive() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, given
        if message["type"] == "http.response.start":
            status = message["status"]
            given = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    answer = base64.b64encode(b"".join(parts)).decode()
    return {"statusCode": status, "headers": given, "body": answer, "isBase64Encoded": True}
