"""A site: the ingress over a stage's engine, on a port of its own, as clients see it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from agentdur.ingress.app import create_ingress
from agentdur.ingress.protocol import OneWrite
from agentdur.sdk.service import BaseService
from agentdur.server import App, guests_of
from tests.support.stage import PATIENCE_SECONDS, Stage

Event = dict[str, Any]


class Site:
    """The address at which a stage is served now, and a client for it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False)

    async def events(self, method: str, path: str, **how: Any) -> AsyncIterator[Event]:
        """The events of an answer, as they come; a broken connection is the end of them."""
        headers = {"accept": "text/event-stream", **how.pop("headers", {})}
        try:
            async with self.http.stream(method, path, headers=headers, **how) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for event in read_events(answer.aiter_lines()):
                    yield event
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return


async def read_events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Server-sent events: {event, id, data}."""
    event: Event = {}
    async for line in lines:
        if not line:
            if "data" in event:
                yield event
            event = {}
            continue
        name, _, value = line.partition(": ")
        if name == "data":
            event["data"] = value if value == "[DONE]" else json.loads(value)
        elif name in ("event", "id"):
            event[name] = value


@asynccontextmanager
async def site(stage: Stage, *services: BaseService, port: int = 0) -> AsyncIterator[Site]:
    """Start the stage with these services, and serve it. A stage that runs is served as it is."""
    if not stage.running:
        await stage.start(*services)
    app = App(services)
    ingress = create_ingress(stage.engine, guests=guests_of(app, stage.engine))
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(ingress, log_config=None, access_log=False, lifespan="off", http=OneWrite)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # the test's own stay
    serving = asyncio.ensure_future(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    made = Site(f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        yield made
    finally:
        await made.http.aclose()
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


def _no_signals() -> Any:
    class _Nothing:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    return _Nothing()
