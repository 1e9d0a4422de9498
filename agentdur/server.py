"""Composition: an App of services, its engine in this process, and the servers around it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from fastapi import APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from agentdur.admin.app import create_admin
from agentdur.admin.settings import AdminSettings
from agentdur.approvals.http import approval_routes
from agentdur.approvals.judge import approval_object, secrets_object
from agentdur.approvals.settings import ApprovalSettings
from agentdur.budgets.judge import budget_object
from agentdur.config import Loaded, Settings, installed_version, load_settings
from agentdur.core.catalog import Catalog, HandlerOptions
from agentdur.core.errors import AddressInUse, AgentdurError, BadDefinition, BadIdentityKey, NotRunning
from agentdur.core.ports import Store
from agentdur.core.query import QueryLimits
from agentdur.ingress.app import Guest, create_ingress
from agentdur.ingress.errors import engine_error
from agentdur.ingress.openapi import openapi
from agentdur.ingress.protocol import OneWrite
from agentdur.ingress.replies import send_reply
from agentdur.ingress.settings import IngressSettings
from agentdur.observe.logs import configure_logging
from agentdur.runtime.owner import Engine, Knobs
from agentdur.runtime.remote.deployments import Signer
from agentdur.runtime.streams import StreamLimits
from agentdur.sdk.endpoint import Endpoint, identity
from agentdur.sdk.logged import HandlerLines
from agentdur.sdk.service import BaseService, Handler
from agentdur.stores import open_store
from agentdur.ui.app import PREFIX, serve_ui


def loops() -> ModuleType:
    """uvloop where there is one, else asyncio: each has `new_event_loop`."""
    try:
        return importlib.import_module("uvloop")
    except ImportError:  # not on Windows
        return asyncio


log = logging.getLogger("agentdur")
COLLECT_AFTER = (20_000, 50, 100)
"""Thresholds of the garbage collector in a process that serves: objects, young, middle collections."""
OPERATORS_SEE = frozenset({"approvals", "sessions"})
BACKLOG = 2048
"""Connections that may wait to be accepted."""


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
        self.tell(load_settings().settings)
        return Endpoint(self._all(), identity_keys=identity_keys)

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
            self._ingress = create_ingress(
                engine, ingress_settings(settings), guests_of(self, engine), self.telemetry
            )
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
                await send_reply(send, engine_error(error), None)
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


def knobs_of(settings: Settings) -> Knobs:
    """The settings that the engine itself keeps."""
    return Knobs(
        live_attempts=settings.live_attempts_limit,
        entry_size=settings.entry_size_limit,
        journal_length=settings.journal_length_limit,
        cleanup_seconds=settings.cleanup_interval.total_seconds(),
        message_seconds=settings.message_retention.total_seconds(),
        shutdown_seconds=settings.shutdown_timeout.total_seconds(),
        streams=StreamLimits(
            step_bytes=settings.stream_size_limit,
            readers=settings.stream_readers_limit,
            readers_of_one=settings.stream_readers_per_invocation_limit,
        ),
        tool_answer=settings.tool_answer_limit,
        queries=QueryLimits(
            seconds=settings.query_timeout.total_seconds(),
            rows=settings.query_rows_limit,
            bytes=settings.query_size_limit,
            running=settings.query_concurrency,
            waiting=settings.query_queue_limit,
        ),
    )


def signer_of(settings: Settings) -> Signer | None:
    """Signs requests to deployments, when a key is set."""
    path = settings.request_identity_key
    if path is None:
        return None
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise BadIdentityKey(f"{path}: {error.strerror or error}") from error
    signer: Signer = identity().Signer(pem)
    return signer


@asynccontextmanager
async def telemetry_of(settings: Settings, expose: bool) -> AsyncIterator[Any]:
    """What observes the engine, while it runs; None when nothing is wanted: then nothing is even imported."""
    standard = any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ)
    if not (standard or settings.otel_endpoint or (expose and settings.metrics)):
        yield None
        return
    setup = importlib.import_module("agentdur.telemetry.setup")
    telemetry = setup.set_up(settings, os.environ, installed_version(), expose=expose)
    if telemetry is None:
        yield None
        return
    pushing = asyncio.create_task(telemetry.push_regularly(), name="agentdur-telemetry")
    try:
        yield telemetry
    finally:
        pushing.cancel()
        telemetry.push_metrics()
        await asyncio.shield(asyncio.to_thread(telemetry.stop))


def metrics_guest(app: App, settings: Settings) -> list[Guest]:
    """`/metrics`, when it is wanted."""
    if app.telemetry is None or not settings.metrics:
        return []
    return [Guest("metrics", app.telemetry.routes())]


def ingress_settings(settings: Settings) -> IngressSettings:
    """The settings that the ingress keeps."""
    return IngressSettings(
        request_bytes_max=settings.request_size_limit,
        concurrent_requests_max=settings.concurrent_requests_limit or None,
        stream_heartbeat_ms=settings.stream_heartbeat_interval // timedelta(milliseconds=1),
        stream_stall_ms=settings.stream_stall_timeout // timedelta(milliseconds=1),
    )


def guests_of(app: App, engine: Engine) -> list[Guest]:
    """The routes of the agent wing that the ingress hosts: it knows engine and agents, they do not know each
    other."""
    client = engine.client()
    makers = dict.fromkeys(type(service).guests for service in app.services)
    made = [maker(client, app.services) for maker in makers if maker is not None]
    approvals = Guest("approvals", approval_routes(client, app.approvals))
    return [approvals, *(Guest(*guest) for guests in made for guest in guests)]


def operators_guests(app: App, engine: Engine) -> list[tuple[str, APIRouter]]:
    """What of those routes the admin port hosts as well: the web UI shows approvals and sessions, and asks no
    other server than its own."""
    guests = [(guest.prefix, guest.router) for guest in guests_of(app, engine)]
    return [guest for guest in guests if guest[0] in OPERATORS_SEE]


def serve(app: App, settings: Settings, store: str | Store | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second one ends the draining. Answers the exit code;
    raises before it serves.

    The store is `store`, else the App's own, else the settings'."""
    log_as(settings)
    with asyncio.Runner(loop_factory=loops().new_event_loop) as runner:
        return runner.run(_serve(app, settings, store))


def log_as(settings: Settings) -> None:
    """Log as the settings say; lines of handlers say whose they are, and those of replays are left out."""
    configure_logging(settings.log_level, settings.log_format, HandlerLines())


def settle_memory() -> None:
    """For a process that serves: what is there now stays, so that the garbage collector need not look at it
    again, and it looks less often at what comes and goes. `agentdur serve` does this; other programs may."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


async def _serve(app: App, settings: Settings, store: str | Store | None) -> int:
    ingress_socket = _listen(settings.host, settings.ingress_port, "ingress_port")
    admin_socket = _listen(settings.host, settings.admin_port, "admin_port")
    host = settings.host
    endpoint = f"http://{host}:{ingress_socket.getsockname()[1]}/"
    async with app.running(store, settings=settings, expose_metrics=True) as engine:
        app.tell(settings, endpoint)
        ingress = create_ingress(engine, ingress_settings(settings), guests_of(app, engine), app.telemetry)
        about = AdminSettings(ingress_endpoint=endpoint, version=installed_version())
        admin_app = create_admin(
            engine, about, openapi=openapi, deployments=engine.deployments,
            guests=[*operators_guests(app, engine), *metrics_guest(app, settings)], mounts={PREFIX: serve_ui},
        )  # fmt: skip
        servers = [
            (_server(ingress, settings), ingress_socket),
            (_server(admin_app, settings), admin_socket),
        ]
        stop = asyncio.Event()

        def asked_to_stop() -> None:
            if stop.is_set():  # asked again: steps that run now run once more after the next start
                engine.hurry()
                for server, _ in servers:
                    server.force_exit = True
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked_to_stop)
        settle_memory()
        tasks = [asyncio.ensure_future(server.serve(sockets=[sock])) for server, sock in servers]
        names = ", ".join(s.name for s in app.services) or "no services"
        admin = f"http://{host}:{admin_socket.getsockname()[1]}/"
        print(f"agentdur {installed_version()} serves {names} at {endpoint} (admin {admin})", flush=True)
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        seconds = settings.shutdown_timeout.total_seconds()
        log.info("stopping: what runs is given %.3g s to come to a rest", seconds)
        for server, _ in servers:
            server.should_exit = True
        await engine.drain()
        await asyncio.gather(*tasks)
        waiting.cancel()
    return 0


class _Quiet(uvicorn.Server):
    """Signals are handled here, once for both servers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture."""
        yield


def _server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        app, http=OneWrite, lifespan="off", log_config=None, proxy_headers=False,
        access_log=False, backlog=BACKLOG, server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_timeout.total_seconds()) + 1,
    )  # fmt: skip
    return _Quiet(config)


def _listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket: who connects before it is served waits. The protocol is named because asyncio turns
    Nagle's delay off only then."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, socket.IPPROTO_TCP)
        if sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        raise AddressInUse(f"{host}:{port} ({setting}): {error.strerror or error}") from error
    return sock
