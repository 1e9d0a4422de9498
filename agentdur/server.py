"""Composition: an App of services, its engine in this process, and the servers around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from agentdur.core.catalog import Catalog, HandlerOptions
from agentdur.core.errors import BadDefinition, NotRunning
from agentdur.core.ports import Store
from agentdur.runtime.owner import Engine, Knobs
from agentdur.sdk.service import BaseService, Handler
from agentdur.stores import open_store


class App:
    """Services to be served together. An ASGI app (the ingress), and usable in a script by `running()`."""

    def __init__(self, services: Iterable[BaseService] = (), *, store: str | Store | None = None) -> None:
        self.services = list(services)
        self.store = store
        self.engine: Engine | None = None
        names = [service.name for service in self.services]
        for name in names:
            if names.count(name) > 1:
                raise BadDefinition(f"two services are named {name}")
        for service in self.services:
            service.check()

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """Every handler by (service, handler)."""
        return {(s.name, name): handler for s in self.services for name, handler in s.handlers.items()}

    def catalog(self, defaults: HandlerOptions | None = None) -> Catalog:
        """What the engine and the frontends know of the services."""
        defaults = defaults or HandlerOptions()
        return Catalog({service.name: service.meta(defaults) for service in self.services})

    @asynccontextmanager
    async def running(
        self,
        store: str | Store | None = None,
        *,
        knobs: Knobs | None = None,
        defaults: HandlerOptions | None = None,
    ) -> AsyncIterator[Engine]:
        """An engine in this process, without HTTP: for scripts, notebooks and tests."""
        if self.engine is not None:
            raise NotRunning("this app runs already")
        given = store or self.store or "sqlite:///agentdur.db"
        opened: Store = open_store(given) if isinstance(given, str) else given
        engine = Engine(opened, self.handlers(), self.catalog(defaults), knobs=knobs)
        await engine.start()
        self.engine = engine
        try:
            yield engine
        finally:
            self.engine = None
            await asyncio.shield(engine.stop())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise NotRunning("not composed yet")
