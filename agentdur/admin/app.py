"""The admin application: health, version, services, invocations.

Rules of this file:
1. Every request passes one door: nothing of it is looked at when a web page of another site sent it.
2. Every route exists plain and under /v2, /v3 and /v4; older prefixes are refused.
3. What is not here is answered with an empty 404, what is here by another method with an empty 405.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from agentdur.admin.audit import audited
from agentdur.admin.batch import batch_routes
from agentdur.admin.budgets import budgets_routes
from agentdur.admin.deployments import deployments_routes
from agentdur.admin.document import with_errors
from agentdur.admin.door import outward
from agentdur.admin.errors import install_errors, refusal
from agentdur.admin.invocations import invocations_routes
from agentdur.admin.live import live_routes
from agentdur.admin.login import login_routes, session_in
from agentdur.admin.objects import objects_routes
from agentdur.admin.overview import overview_routes
from agentdur.admin.query import query_routes
from agentdur.admin.runs import runs_routes
from agentdur.admin.search import search_routes
from agentdur.admin.services import OpenApi, services_routes
from agentdur.admin.settings import API_VERSION_MAX, API_VERSION_MIN, DEFAULTS, FEATURES, AdminSettings
from agentdur.admin.signed_in import Sessions
from agentdur.admin.state import state_routes
from agentdur.core.access import CALLER, Access
from agentdur.core.errors import CrossSite, NotAllowed, NotSignedIn, PayloadsHidden, UnknownHost
from agentdur.core.ports import Engine
from agentdur.core.visitors import SAFE_METHODS, Visitors
from agentdur.observe.redaction import hiding
from agentdur.runtime.remote.deployments import Deployments

OPENAPI_PATH = "/openapi"
DOCS_PATH = "/docs"

NOTHING_MOUNTED: Mapping[str, ASGIApp] = {}

ASKED_VERSION = "agentdur.admin_version"
_VERSIONED = re.compile(r"/v(\d{1,4})(?=/|$)")


def version_of(request: Request) -> int | None:
    """The version in the path, None when there was none."""
    version: int | None = request.scope.get(ASKED_VERSION)
    return version


class Admin(FastAPI):
    """FastAPI behind a door that refuses strangers' pages and takes the version off the path."""

    visitors: Visitors
    access: Access | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and (turned_away := self._turn_away(scope)) is not None:
            await turned_away(scope, receive, send)
            return
        if scope["type"] == "http" and (match := _VERSIONED.match(scope["path"])):
            version = int(match[1])
            if not API_VERSION_MIN <= version <= API_VERSION_MAX:
                await _other_version(version)(scope, receive, send)
                return
            scope = {**scope, "path": scope["path"][match.end() :] or "/", ASKED_VERSION: version}
            scope.pop("raw_path", None)
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope, send = outward(scope, send)
        try:
            hidden = self._admit(scope)
        except (NotSignedIn, NotAllowed, PayloadsHidden) as error:
            await refusal(error)(scope, receive, audited(scope, send, error))
            return
        send = audited(scope, send)
        with hiding() if hidden else nullcontext():
            await super().__call__(scope, receive, send)

    def _admit(self, scope: Scope) -> bool:
        """Whether payloads are hidden from who asks. Nothing of a request is read before this."""
        if self.access is None:
            return False
        headers: dict[bytes, bytes] = dict(scope["headers"])
        shown = headers.get(b"authorization")
        caller = scope[CALLER] = self.access.asks(shown, session_in(headers))
        return self.access.hides(scope["method"], scope["path"], caller, showed=shown is not None)

    def _turn_away(self, scope: Scope) -> Response | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            self.visitors.check_host(headers.get(b"host"))
            self.visitors.check_page(headers, safe=scope["method"] in SAFE_METHODS)
        except (UnknownHost, CrossSite) as error:
            return refusal(error)
        return None

    def openapi(self) -> dict[str, Any]:
        """The document of this API."""
        if self.openapi_schema is None:
            self.openapi_schema = with_errors(super().openapi())
        return self.openapi_schema


def _other_version(version: int) -> Response:
    """Clients of a version that there was are told what there is."""
    if not 1 <= version < API_VERSION_MIN:
        return Response(status_code=404)
    known = f"This server supports versions between V{API_VERSION_MIN} and V{API_VERSION_MAX}."
    return PlainTextResponse(f"Unsupported Admin API version V{version}. {known}", 400)


def create_admin(
    engine: Engine,
    settings: AdminSettings = DEFAULTS,
    *,
    openapi: OpenApi | None = None,
    deployments: Deployments | None = None,
    guests: Sequence[tuple[str, APIRouter]] = (),
    mounts: Mapping[str, ASGIApp] = NOTHING_MOUNTED,
) -> FastAPI:
    """An ASGI application that operates `engine`; the caller starts and stops the engine.

    `openapi` makes the document of one service's ingress routes; without it that route is not there.
    `guests`: routes below `/{prefix}` of which nothing is known here; `mounts`: applications by path.
    """
    app = Admin(
        title="agentdur admin", version=settings.version, openapi_url=OPENAPI_PATH, docs_url=DOCS_PATH,
        redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.visitors, app.access = settings.visitors, settings.access
    install_errors(app)

    @app.get("/health", tags=["server"])
    async def health() -> Response:
        """Empty and 200 while the server is up."""
        return Response()

    @app.get("/version", tags=["server"])
    async def version() -> dict[str, Any]:
        """This server's version, the versions of this API, the ingress' address, and optional features."""
        return {
            "version": settings.version,
            "min_admin_api_version": API_VERSION_MIN,
            "max_admin_api_version": API_VERSION_MAX,
            "ingress_endpoint": settings.ingress_endpoint,
            "features": dict.fromkeys(FEATURES, False),
        }

    @app.get("/cluster-health", tags=["server"])
    async def cluster_health() -> dict[str, Any]:
        """The name of the cluster: one process is one cluster."""
        return {"cluster_name": "agentdur"}

    app.include_router(login_routes(settings.access, settings.sessions or Sessions()))
    app.include_router(services_routes(engine, openapi))
    for ours in (
        state_routes, batch_routes, query_routes, invocations_routes, runs_routes, live_routes, search_routes,
        overview_routes, objects_routes, budgets_routes,
    ):  # fmt: skip
        app.include_router(ours(engine))
    if deployments is not None:
        app.include_router(deployments_routes(deployments, engine, version_of))
    for prefix, routes in guests:
        app.include_router(routes, prefix=f"/{prefix}", tags=[prefix])
    for path, mounted in mounts.items():
        app.add_route(path, _leading_to(f"{path}/", HTTPStatus.PERMANENT_REDIRECT))
        app.mount(path, mounted)
    if mounts:
        app.add_route("/", _leading_to(f"{next(iter(mounts))}/", HTTPStatus.TEMPORARY_REDIRECT))
    return app


def _leading_to(path: str, status: HTTPStatus) -> Callable[[Request], Response]:
    def redirect(request: Request) -> Response:
        return RedirectResponse(path, status)

    return redirect
