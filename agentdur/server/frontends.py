"""The engine's frontends: ingress, admin and web UI, and what they host."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import APIRouter
from msgspec.structs import replace
from starlette.types import ASGIApp, Send

from agentdur.admin.app import create_admin
from agentdur.admin.settings import AdminSettings
from agentdur.admin.signed_in import Sessions
from agentdur.approvals.http import approval_routes
from agentdur.config import Settings, installed_version
from agentdur.core.errors import AgentdurError
from agentdur.ingress.app import Guest, create_ingress
from agentdur.ingress.errors import engine_error
from agentdur.ingress.openapi import openapi
from agentdur.ingress.protocol import OneWrite
from agentdur.ingress.replies import send_reply
from agentdur.runtime.owner import Engine
from agentdur.server.access import access_of
from agentdur.server.app import App
from agentdur.server.parts import BACKLOG, ingress_settings, operators
from agentdur.ui.app import PREFIX, serve_ui

GUARDED = frozenset({"approvals"})
"""Of those the ingress hosts, too: deciding is an operator's, wherever it is done. Chats are for users."""
OPERATORS_SEE = frozenset({"approvals", "sessions"})
KEEP_ALIVE_SECONDS = 75
"""An idle connection stays open for longer than balancers and clients keep theirs (5 to 60 s): who asks has
to be the one that closes, else a request meets the end of its connection."""


def ingress_of(app: App, engine: Engine, settings: Settings, *, loopback: bool = False) -> ASGIApp:
    """Where callers come. `loopback`: none but those of this machine do."""
    limits = replace(
        ingress_settings(settings, loopback=loopback), access=access_of(settings), guarded=GUARDED
    )  # fmt: skip
    return create_ingress(engine, limits, guests_of(app, engine), app.telemetry)


def admin_of(app: App, engine: Engine, settings: Settings, endpoint: str, *, loopback: bool) -> ASGIApp:
    """Where operators come. `endpoint`: the address of the ingress."""
    sessions = Sessions()
    about = AdminSettings(
        ingress_endpoint=endpoint,
        version=installed_version(),
        visitors=operators(settings, loopback=loopback),
        access=access_of(settings, sessions.token_of),
        sessions=sessions,
    )
    return create_admin(
        engine, about, openapi=openapi, deployments=engine.deployments, mounts={PREFIX: serve_ui},
        guests=[*operators_guests(app, engine), *metrics_guest(app, settings)],
    )  # fmt: skip


async def refuse(send: Send, error: AgentdurError) -> None:
    """The answer to a request for which there is no engine."""
    await send_reply(send, engine_error(error), None)


def metrics_guest(app: App, settings: Settings) -> list[Guest]:
    """`/metrics`, when it is wanted."""
    if app.telemetry is None or not settings.metrics:
        return []
    routes = importlib.import_module("agentdur.telemetry.http").metrics_routes(app.telemetry.registry)
    return [Guest("metrics", routes)]


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


class _Quiet(uvicorn.Server):
    """Signals are handled here, once for both servers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture."""
        yield


def server_of(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    """A web server for it; it listens where it is told to."""
    config = uvicorn.Config(
        app, http=OneWrite, lifespan="off", log_config=None, backlog=BACKLOG, proxy_headers=False,
        access_log=False, server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.shutdown_timeout.total_seconds()) + 1,
    )  # fmt: skip
    return _Quiet(config)
