"""A site: the ingress over a stage's engine, on a port of its own, as clients see it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from agentdur.ingress.app import create_ingress
from agentdur.ingress.protocol import OneWrite
from agentdur.sdk.service import BaseService
from agentdur.server import App
from agentdur.server.frontends import guests_of
from tests.support.serving import served
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
    async with served(ingress, port, http=OneWrite) as url:
        made = Site(url)
        try:
            yield made
        finally:
            await made.http.aclose()
