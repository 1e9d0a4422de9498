"""Deployments as the admin API shows and changes them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from agentdur.admin.services import Json, instant_ns, service_view
from agentdur.core.errors import BadRequest
from agentdur.core.ids import BadId, parse_id
from agentdur.runtime.remote.deployments import Asked, Deployment, Deployments

FORCED_UNTIL = 2
"""Admin API versions up to this one replace a known deployment unless told otherwise."""


class Registration(BaseModel):
    """The body of a registration."""

    model_config = ConfigDict(extra="ignore")

    uri: str | None = None
    arn: str | None = None
    additional_headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    use_http_11: bool = False
    breaking: bool = False
    force: bool | None = None
    dry_run: bool = False


class Versioned(Protocol):
    """Tells which version of the API was asked for."""

    def __call__(self, request: Request) -> int | None:
        """None when the path had none."""


def deployments_routes(deployments: Deployments, version_of: Versioned) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["deployments"])

    @routes.get("/deployments")
    async def list_deployments() -> Json:
        """All of them."""
        return {"deployments": [deployment_view(one, whole=False) for one in deployments.all.values()]}

    @routes.post("/deployments", status_code=HTTPStatus.CREATED)
    async def register(given: Registration, request: Request) -> Response:
        """Ask an endpoint what it serves, and serve it from now on."""
        if given.uri is None:
            raise BadRequest("AWS Lambda is not supported by this server yet: give the uri of an endpoint")
        old = (version_of(request) or FORCED_UNTIL + 1) <= FORCED_UNTIL
        asked = Asked(
            uri=given.uri, http1=given.use_http_11, headers=given.additional_headers,
            metadata=given.metadata, force=old if given.force is None else given.force,
            breaking=given.breaking, dry_run=given.dry_run,
        )  # fmt: skip
        made, new = await deployments.register(asked)
        answer: Json = {
            "id": made.id,
            "services": [service_view(meta) for meta in made.services.values()],
            "min_protocol_version": made.min_version,
            "max_protocol_version": made.max_version,
        }
        if made.record.sdk_version:
            answer["sdk_version"] = made.record.sdk_version
        status = HTTPStatus.CREATED if new or (old and given.force is None) else HTTPStatus.OK
        return JSONResponse(answer, status, {"location": f"deployments/{made.id}"})

    @routes.get("/deployments/{deployment}")
    async def get_deployment(deployment: str) -> Json:
        """One, with its services."""
        return deployment_view(deployments.get(known_form(deployment)), whole=True)

    @routes.delete("/deployments/{deployment}", status_code=HTTPStatus.ACCEPTED)
    async def remove(deployment: str, force: bool = False) -> Response:
        """Forget it. Without `force` that would have to wait for what is pinned to it."""
        deployments.get(known_form(deployment))
        if not force:
            return Response(status_code=HTTPStatus.NOT_IMPLEMENTED)
        await deployments.remove(deployment)
        return Response(status_code=HTTPStatus.ACCEPTED)

    return routes


def known_form(deployment: str) -> str:
    """The id; BadRequest when it cannot be one."""
    try:
        parse_id("dp", deployment)
    except BadId as error:
        raise BadRequest(f"bad deployment id {deployment!r}: {error}") from error
    return deployment


def deployment_view(one: Deployment, *, whole: bool) -> Json:
    """As the reference shows it; `whole`: the services with all they have."""
    record = one.record
    view: dict[str, Any] = {
        "id": one.id,
        "uri": record.uri,
        "protocol_type": "BidiStream" if one.bidirectional else "RequestResponse",
        "http_version": "HTTP/1.1" if record.http1 else "HTTP/2.0",
        "created_at": instant_ns(record.created_at),
        "min_protocol_version": one.min_version,
        "max_protocol_version": one.max_version,
        "services": [
            service_view(meta) if whole else {"name": meta.name, "revision": meta.revision}
            for meta in one.services.values()
        ],
    }
    optional = {
        "additional_headers": record.headers, "metadata": record.metadata, "sdk_version": record.sdk_version,
    }  # fmt: skip
    return view | {name: value for name, value in optional.items() if value}
