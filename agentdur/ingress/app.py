"""The ingress as an application: served alone, or mounted into another FastAPI app under a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from agentdur.core.access import CALLER
from agentdur.core.errors import NotAllowed, NotSignedIn, PayloadsHidden
from agentdur.core.ports import Engine
from agentdur.ingress.errors import engine_error, unknown_service
from agentdur.ingress.front import Front
from agentdur.ingress.openapi import openapi, openapi_of_all
from agentdur.ingress.replies import Message, Receive, Scope, Send, cors, send_reply
from agentdur.ingress.requests import first_values
from agentdur.ingress.settings import DEFAULTS, IngressSettings
from agentdur.observe.observer import RequestObserver
from agentdur.observe.redaction import hiding

OPENAPI_PATH = "/restate/openapi"
DOCS_PATH = "/restate/docs"
TITLE = "agentdur ingress"


class Guest(NamedTuple):
    """Routes that the ingress hosts below `/{prefix}` and knows nothing of; a service of that name hides
    them. Composition roots bring them."""

    prefix: str
    router: APIRouter


class Ingress(FastAPI):
    """FastAPI carries the documents; all else goes through the front, past routing and middleware."""

    def __init__(
        self, engine: Engine, settings: IngressSettings, guests: Sequence[Guest] = (),
        observer: RequestObserver | None = None,
    ) -> None:  # fmt: skip
        super().__init__(title=TITLE, openapi_url=OPENAPI_PATH, docs_url=DOCS_PATH, redoc_url=None)
        self._engine, self._settings = engine, settings
        hosted = frozenset(guest.prefix.encode() for guest in guests)
        self._front = Front(engine, settings, hosted, observer)
        self.add_api_route(f"{OPENAPI_PATH}/{{name}}", self._openapi_of, include_in_schema=False)
        for guest in guests:
            self.include_router(guest.router, prefix=f"/{guest.prefix}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif not await self._front(scope, receive, send):
            headers = first_values(scope["headers"])
            origin = headers.get(b"origin")
            try:
                hidden = self._admit(scope, headers.get(b"authorization"))
            except (NotSignedIn, NotAllowed, PayloadsHidden) as error:
                await send_reply(send, engine_error(error), origin)
                return

            async def readable(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", ()), *cors(origin)]
                await send(message)

            with hiding() if hidden else nullcontext():
                await super().__call__(scope, receive, readable)

    def _admit(self, scope: Scope, authorization: bytes | None) -> bool:
        """What is hosted here and at the admin port asks for the same role at both, and hides the same."""
        path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
        access = self._settings.access
        if access is None or path.lstrip("/").partition("/")[0] not in self._settings.guarded:
            return False
        scope[CALLER], hidden = access.admit(scope["method"], path, authorization)
        return hidden

    def openapi(self) -> dict[str, Any]:
        """The document of everything that is served now."""
        return openapi_of_all(self._engine.catalog.shown.values(), TITLE)

    async def _openapi_of(self, name: str) -> JSONResponse:
        """The document of one service."""
        service = self._engine.catalog.shown.get(name)
        if service is None:
            error = unknown_service(name)
            return JSONResponse(
                {"code": error.status, "message": error.message, "source": "ingress"}, error.status
            )
        return JSONResponse(openapi(service))


def create_ingress(
    engine: Engine,
    settings: IngressSettings = DEFAULTS,
    guests: Sequence[Guest] = (),
    observer: RequestObserver | None = None,
) -> FastAPI:
    """An ASGI application that serves what `engine` serves. The caller starts and stops the engine.

    `observer` hears how each submission went."""
    return Ingress(engine, settings, guests, observer)
