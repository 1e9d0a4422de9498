"""Deployments as the admin API shows and changes them."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Literal, Protocol

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from agentdur.admin.errors import MethodNotAllowed, Unreadable, json_only
from agentdur.admin.services import Json, instant_ns, service_view
from agentdur.core.access import CALLER, Caller, Role
from agentdur.core.catalog import IN_PROCESS, OWN_URI, ServiceMeta
from agentdur.core.durations import BadDuration, parse_duration
from agentdur.core.errors import BadRequest, DeploymentInUse
from agentdur.core.ids import BadId, parse_id
from agentdur.core.ports import Engine, Filter
from agentdur.core.state import Status
from agentdur.runtime.remote.deployments import Asked, Changes, Deployment, Deployments
from agentdur.wire.discovery import VERSION_MAX, VERSION_MIN
from agentdur.wire.manifest import Override
from agentdur.wire.values import DURATION_MS_MAX

JSON = [Depends(json_only)]
HIDDEN = "hidden"
"""In place of a header's value."""
NO_AUTH = "auth: this server has no Google identity; give an authorization header in additional_headers"
NO_PLACE = "give the uri of an endpoint, or the arn of a Lambda function"
NOT_COMPLETED = tuple(status.value for status in Status if status is not Status.COMPLETED)
USERS_SHOWN_MAX = 3
"""So many invocations are named that keep a deployment."""
FORCED_UNTIL = 2
"""Admin API versions up to this one replace a known deployment unless told otherwise."""


class Registration(BaseModel):
    """The body of a registration."""

    model_config = ConfigDict(extra="ignore")

    uri: str | None = None
    arn: str | None = None
    assume_role_arn: str | None = None
    additional_headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    use_http_11: bool = False
    breaking: bool = False
    force: bool | None = None
    dry_run: bool = False
    auth: GoogleAuth | None = None


class GoogleIdToken(BaseModel):
    """What the reference takes; here only to be refused in words."""

    audience: str | None = None
    impersonate_service_account: str | None = None


class GoogleAuth(BaseModel):
    """The one kind of authorization that a registration may ask for."""

    google_id_token: GoogleIdToken = Field(alias="GoogleIdToken")


class Update(BaseModel):
    """The body of a change."""

    model_config = ConfigDict(extra="ignore")

    uri: str | None = None
    arn: str | None = None
    assume_role_arn: str | None = None
    additional_headers: dict[str, str] | None = None
    use_http_11: bool | None = None
    overwrite: bool = False
    dry_run: bool = False


class Configuration(BaseModel):
    """The body of a change of a service's options. Durations as in responses, or ISO 8601."""

    model_config = ConfigDict(extra="ignore")

    public: bool | None = None
    inactivity_timeout: str | None = None
    abort_timeout: str | None = None
    journal_retention: str | None = None
    idempotency_retention: str | None = None
    workflow_completion_retention: str | None = None

    def override(self) -> Override:
        """In ms; a duration that is none is told as text."""
        times = {}
        for name, text in self.model_dump(exclude={"public"}, exclude_none=True).items():
            try:
                times[name] = min(parse_duration(text), DURATION_MS_MAX)
            except BadDuration as error:
                raise Unreadable(f"{name}: {error}", HTTPStatus.UNPROCESSABLE_ENTITY) from error
        return Override(public=self.public, **times)


class Versioned(Protocol):
    """Tells which version of the API was asked for."""

    def __call__(self, request: Request) -> int | None:
        """None when the path had none."""


def deployments_routes(deployments: Deployments, engine: Engine, version_of: Versioned) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["deployments"])

    @routes.get("/deployments")
    async def list_deployments(request: Request) -> Json:
        """All of them."""
        own = [own_view(deployments, whole=False)] if deployments.own.shown else []
        others = [shown_to(request, deployment_view(one, whole=False)) for one in deployments.all.values()]
        return {"deployments": own + others}

    @routes.post("/deployments", status_code=HTTPStatus.CREATED, dependencies=JSON)
    async def register(given: Registration, request: Request) -> Response:
        """Ask an endpoint what it serves, and serve it from now on."""
        if given.uri is None and given.arn is None:
            raise Unreadable(NO_PLACE, HTTPStatus.UNPROCESSABLE_ENTITY)
        if given.auth is not None:
            raise BadRequest(NO_AUTH)
        old = (version_of(request) or FORCED_UNTIL + 1) <= FORCED_UNTIL
        asked = Asked(
            uri=given.uri, http1=given.use_http_11, arn=given.arn, role=given.assume_role_arn,
            headers=given.additional_headers,
            metadata=given.metadata, force=old if given.force is None else given.force,
            breaking=given.breaking or old, dry_run=given.dry_run, only_new=old,
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
        status = HTTPStatus.CREATED if new or old else HTTPStatus.OK
        return JSONResponse(answer, status, {"location": f"deployments/{made.id}"})

    @routes.get("/deployments/{deployment}")
    async def get_deployment(deployment: str, request: Request) -> Json:
        """One, with its services. Values of its headers are told to an admin only."""
        if deployment == IN_PROCESS and deployments.own.shown:
            return own_view(deployments, whole=True)
        return shown_to(request, deployment_view(deployments.get(known_form(deployment)), whole=True))

    @routes.delete("/deployments/{deployment}", status_code=HTTPStatus.ACCEPTED)
    async def remove(deployment: str, force: bool = False, drained: bool = False) -> Response:
        """Forget it: with `drained` only when nothing needs it, with `force` at once."""
        deployments.get(registered(deployment))
        if not force and not drained:
            return Response(status_code=HTTPStatus.NOT_IMPLEMENTED)  # as the reference answers
        if not force:
            deployments.check_replaced(deployment)
            await _check_unused(engine, deployment)
        await deployments.remove(deployment)
        return Response(status_code=HTTPStatus.ACCEPTED)

    _add_changes(routes, deployments, version_of)
    return routes


async def _check_unused(engine: Engine, deployment: str) -> None:
    which = Filter(deployment=deployment, statuses=NOT_COMPLETED, limit=USERS_SHOWN_MAX + 1)
    users = await engine.list(which)
    if users:
        some = ", ".join(one["id"] for one in users[:USERS_SHOWN_MAX])
        more = ", …" if len(users) > USERS_SHOWN_MAX else ""
        raise DeploymentInUse(f"invocations began there and have not ended: {some}{more}")


def _add_changes(routes: APIRouter, deployments: Deployments, version_of: Versioned) -> None:
    @routes.patch("/services/{service}", tags=["services"], dependencies=JSON)
    async def configure(service: str, given: Configuration) -> Json:
        """Set options of a deployment's service; they hold until it is registered again."""
        return service_view(await deployments.configure(service, given.override()))

    def converting(direction: Literal["encode", "decode"]) -> None:
        path = f"/internal/services/{{service}}/serdes/{direction}/{{name:path}}"

        @routes.post(path, include_in_schema=False)
        async def convert(service: str, name: str, request: Request) -> Response:
            """Bytes as a deployment's own format shows them, and back: its endpoint does it."""
            return Response(await deployments.convert(service, f"{direction}/{name}", await request.body()))

    converting("encode")
    converting("decode")

    @routes.patch("/deployments/{deployment}", dependencies=JSON)
    async def update(deployment: str, given: Update) -> Json:
        """Another address or other headers for the same services. Asks the endpoint again."""
        changes = Changes(
            uri=given.uri, http1=given.use_http_11, arn=given.arn, role=given.assume_role_arn,
            headers=given.additional_headers,
            overwrite=given.overwrite, dry_run=given.dry_run,
        )  # fmt: skip
        return deployment_view(await deployments.update(registered(deployment), changes), whole=True)

    @routes.put("/deployments/{deployment}", deprecated=True, dependencies=JSON)
    async def put(deployment: str, given: Update, request: Request) -> Json:
        """As PATCH, for clients of version 2 of this API."""
        if (version_of(request) or FORCED_UNTIL + 1) > FORCED_UNTIL:
            raise MethodNotAllowed("use PATCH")
        return await update(deployment, given)


def known_form(deployment: str) -> str:
    """The id; BadRequest when it cannot be one."""
    try:
        parse_id("dp", deployment)
    except BadId as error:
        raise Unreadable(f"bad deployment id {deployment!r}: {error}") from error
    return deployment


def registered(deployment: str) -> str:
    """The id; BadRequest when it cannot be one, or is this process."""
    if deployment == IN_PROCESS:
        raise BadRequest("The services of this process are no registered deployment: change them in its App")
    return known_form(deployment)


def own_view(deployments: Deployments, *, whole: bool) -> Json:
    """This process as a deployment: clients look up the one of each service."""
    return {
        "id": IN_PROCESS,
        "uri": OWN_URI,
        "protocol_type": "BidiStream",
        "http_version": "HTTP/2.0",
        "created_at": instant_ns(deployments.since),
        "min_protocol_version": VERSION_MIN,
        "max_protocol_version": VERSION_MAX,
        "services": _services(deployments.own.shown.values(), whole=whole),
    }


def _services(metas: Iterable[ServiceMeta], *, whole: bool) -> list[Json]:
    if whole:
        return [service_view(meta) for meta in metas]
    return [{"name": meta.name, "revision": meta.revision} for meta in metas]


def shown_to(request: Request, view: Json) -> Json:
    """What is sent along to an endpoint is often a secret: it is told to who may change it."""
    caller: Caller | None = request.scope.get(CALLER)
    if caller is None or caller.role >= Role.ADMIN or "additional_headers" not in view:
        return view
    return view | {"additional_headers": dict.fromkeys(view["additional_headers"], HIDDEN)}


def deployment_view(one: Deployment, *, whole: bool) -> Json:
    """As the reference shows it; `whole`: the services with all they have."""
    record = one.record
    if one.function:
        place = {"arn": record.uri, "assume_role_arn": record.role, "compression": "Zstd" * one.compresses}
        place = {name: value for name, value in place.items() if value}
    else:
        place = {
            "uri": record.uri,
            "protocol_type": "BidiStream" if one.streams else "RequestResponse",
            "http_version": "HTTP/1.1" if record.http1 else "HTTP/2.0",
        }
    view: dict[str, Any] = {
        "id": one.id,
        **place,
        "created_at": instant_ns(record.created_at),
        "min_protocol_version": one.min_version,
        "max_protocol_version": one.max_version,
        "services": _services(one.services.values(), whole=whole),
    }
    optional = {
        "additional_headers": record.headers, "metadata": record.metadata, "sdk_version": record.sdk_version,
    }  # fmt: skip
    return view | {name: value for name, value in optional.items() if value}
