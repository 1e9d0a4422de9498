"""An App of services, and its engine in this process."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from agentdur.approvals.judge import approval_object, secrets_object
from agentdur.approvals.settings import ApprovalSettings
from agentdur.budgets.judge import budget_object
from agentdur.config import Loaded, Settings, load_settings
from agentdur.conversations import conversation_object
from agentdur.core.catalog import Catalog, HandlerOptions
from agentdur.core.errors import AgentdurError, BadDefinition, NotRunning
from agentdur.core.ports import Store
from agentdur.runtime.owner import Engine
from agentdur.sdk.endpoint import Endpoint
from agentdur.sdk.service import BaseService, Handler
from agentdur.server.parts import knobs_of, signer_of, telemetry_of
from agentdur.stores import open_store

log = logging.getLogger("agentdur")


def frontends() -> Any:
    """`agentdur.server.frontends`, which loads the web framework."""
    return importlib.import_module("agentdur.server.frontends")


class App:
    """Services to be served together. An ASGI app (the ingress), and usable in a script by `running()`.

    Mounted into another app, its engine starts with that app's lifespan (`lifespan=agents.lifespan`), or at
    the first request when that was not given: then what was running before a restart waits for it.
    """

    def __init__(self, services: Iterable[BaseService] = (), *, store: str | Store | None = None) -> None:
        self.services = list(services)
        self.store = store
        self.engine: Engine | None = None
        self.telemetry: Any = None
        """`agentdur.telemetry.pipeline.Telemetry` of the engine that runs, when some is wanted."""
        self._ingress: ASGIApp | None = None
        self._late: asyncio.Task[None] | None = None
        """Holds the engine that the first request started, until the loop ends."""
        self._up: asyncio.Future[None]
        self.approvals = ApprovalSettings()
        self.internal: list[BaseService] = [
            approval_object(self.approvals),
            secrets_object(),
            budget_object(),
        ]
        """Services of agentdur's own: served beside the others, and shown to nobody."""
        names = [service.name for service in self.services]
        for name in names:
            if names.count(name) > 1:
                raise BadDefinition(f"two services are named {name}")
        for service in self.services:
            service.check()

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """Every handler by (service, handler)."""
        return {(s.name, name): handler for s in self._all() for name, handler in s.handlers.items()}

    def catalog(self, defaults: HandlerOptions | None = None) -> Catalog:
        """What the engine and the frontends know of the services."""
        defaults = defaults or HandlerOptions()
        return Catalog({service.name: service.meta(defaults) for service in self._all()})

    def _all(self) -> list[BaseService]:
        return [*self.services, *self.internal]

    def endpoint(self, *, identity_keys: Iterable[str] = ()) -> Endpoint:
        """The services for a server that runs elsewhere: an ASGI app that speaks the service protocol. No
        engine is started here; `identity_keys` are the public keys of the servers that may call."""
        settings = load_settings().settings
        self.tell(settings)
        return Endpoint(
            [*self._all(), conversation_object()], identity_keys=identity_keys,
            message_retention=settings.message_retention,
        )  # fmt: skip

    def tell(self, settings: Settings, address: str = "") -> None:
        """What the internal services need to know; `address`: where the ingress is, if that is known."""
        self.approvals.retention = settings.approval_retention
        self.approvals.webhook = settings.approval_webhook
        self.approvals.link_key = settings.approval_link_key
        self.approvals.public_url = settings.public_url or address or self.approvals.public_url

    @asynccontextmanager
    async def running(
        self,
        store: str | Store | None = None,
        *,
        settings: Settings | None = None,
        expose_metrics: bool = False,
    ) -> AsyncIterator[Engine]:
        """An engine in this process, without HTTP: for scripts, notebooks and tests.

        The store is `store`, else the App's own, else the settings'. `expose_metrics`: somebody can come and
        ask for them. Raises StoreError when the store cannot open, BadTelemetry when the settings do not fit.
        """
        if self.engine is not None:
            raise NotRunning("this app runs already")
        settings = settings or Settings()
        given = store or self.store or settings.store
        opened: Store = open_store(given) if isinstance(given, str) else given
        self.tell(settings)
        catalog = self.catalog(settings.handler_options())
        async with telemetry_of(settings, expose_metrics) as telemetry:
            self.telemetry = telemetry
            engine = Engine(
                opened, self.handlers(), catalog, knobs=knobs_of(settings),
                defaults=settings.handler_options(), signer=signer_of(settings), observer=telemetry,
            )  # fmt: skip
            await engine.start()
            self.engine = engine
            if telemetry is not None:
                telemetry.measure(engine)
            try:
                yield engine
            finally:
                self.engine = self.telemetry = None
                await asyncio.shield(engine.stop())

    @asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:
        """For an app this one is mounted into: `FastAPI(lifespan=agents.lifespan)`."""
        loaded = load_settings()
        settings = loaded.settings
        async with self.running(store_of(self, loaded), settings=settings) as engine:
            self._ingress = frontends().ingress_of(self, engine, settings)
            try:
                yield
            finally:
                self._ingress = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ingress as an ASGI app."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
            return
        if self._ingress is None:
            try:
                await self._start_late()
            except AgentdurError as error:
                log.error("no engine could be started for the first request: %s", error)
                if scope["type"] != "http":
                    raise
                await frontends().refuse(send, error)
                return
        assert self._ingress is not None
        await self._ingress(scope, receive, send)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
                stage = "shutdown"
        except Exception as error:
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _start_late(self) -> None:
        """In a task of its own: when the loop ends, that is cancelled, and stops the engine as it should."""
        if self._late is None or self._late.done():
            self._up = asyncio.get_running_loop().create_future()
            self._late = asyncio.create_task(self._stay(self._up), name="agentdur")
        await asyncio.shield(self._up)

    async def _stay(self, up: asyncio.Future[None]) -> None:
        try:
            async with self.lifespan():
                up.set_result(None)
                await asyncio.get_running_loop().create_future()  # until this task is cancelled
        except Exception as error:
            if up.done():
                raise
            up.set_exception(error)


def store_of(app: App, loaded: Loaded) -> str | Store:
    """The store that a setting names, else the App's own, else the default."""
    if loaded.sources["store"] == "default" and app.store is not None:
        return app.store
    return loaded.settings.store
