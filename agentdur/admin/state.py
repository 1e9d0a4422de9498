"""State of objects and workflows: reading it, and replacing it under the key's lock.

Rules of this file:
1. An edit replaces the whole state of a key, or nothing when the state is not the one it was made for.
2. It waits behind the exclusive handler that runs: 202 says that it is stored, not that it has happened.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from agentdur.admin.errors import json_only
from agentdur.core.errors import BadRequest, UnknownService
from agentdur.core.ports import Engine
from agentdur.core.target import ObjectAddress
from agentdur.observe.redaction import hidden, marker

Json = dict[str, Any]
Byte = Annotated[int, Field(ge=0, le=255, strict=True)]
Value = Annotated[str, Field(strict=True)] | list[Byte]
"""A value as its text, or as its bytes."""


class NewState(BaseModel):
    """The body of an edit. `version`: of the state it was made for; without it, it always holds."""

    version: str | None = None
    object_key: str
    scope: str | None = None
    new_state: dict[str, Value]

    def values(self) -> dict[str, bytes]:
        """All values as bytes."""
        return {
            name: value.encode() if isinstance(value, str) else bytes(value)
            for name, value in self.new_state.items()
        }


def state_routes(engine: Engine) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["state"])

    def check_keyed(service: str) -> None:
        meta = engine.catalog.services.get(service)
        if meta is None:
            raise UnknownService(service)
        if not meta.keyed:
            raise BadRequest(f"The service '{service}' is a plain service: it has no state")

    @routes.get("/services/{service}/state")
    async def read_state(service: str, object_key: str, scope: str = "") -> Json:
        """The state of one key in the form in which it is edited: texts, and bytes where they are none."""
        check_keyed(service)
        version, values = await engine.values(ObjectAddress(service, object_key, scope))
        shown = {name: _shown(values[name]) for name in sorted(values)}
        if hidden():  # the version is made of the values, and has no key: what is short could be guessed
            version = ""
        return {"object_key": object_key, "version": version, "state": shown}

    @routes.post(
        "/services/{service}/state", status_code=HTTPStatus.ACCEPTED, dependencies=[Depends(json_only)]
    )
    async def edit_state(service: str, given: NewState) -> Response:
        """Replace the whole state of a key: what is not said is removed. It happens when no exclusive handler
        runs there."""
        if (
            given.new_state or service in engine.catalog.services
        ):  # what is left of one that went can be cleared
            check_keyed(service)
        key = ObjectAddress(service, given.object_key, given.scope or "")
        await engine.edit_state(key, given.values(), given.version)
        return Response(status_code=HTTPStatus.ACCEPTED)

    return routes


def _shown(value: bytes) -> Any:
    if hidden():
        return marker(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return list(value)
