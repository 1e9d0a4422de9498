"""Looking at invocations, and intervening."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response
from pydantic import BaseModel

from agentdur.admin.errors import Unreadable, json_only, message_of
from agentdur.admin.settings import BATCH_IDS_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX
from agentdur.core.errors import AgentdurError, BadRequest, TooEarly, UnknownInvocation, WrongStatus
from agentdur.core.ids import BadId, InvocationId, parse_id, parse_invocation_id
from agentdur.core.ports import Engine, Filter
from agentdur.core.state import Status

Json = dict[str, Any]
Action = Literal["cancel", "kill", "pause", "resume", "purge", "purge-journal"]
STATUSES = tuple(status.value for status in Status)

_Id = Annotated[str, Path(description="an invocation id, `inv_…`")]
_Deployment = Annotated[str, Query(description="`keep`, `latest` or a deployment id")]


def invocations_routes(engine: Engine) -> APIRouter:
    """The routes for looking, for one invocation, and for batches."""
    routes = APIRouter(tags=["invocations"])
    _add_looking(routes, engine)
    _add_operations(routes, engine)
    return routes


def _add_looking(routes: APIRouter, engine: Engine) -> None:

    @routes.get("/invocations")
    async def list_invocations(
        service: str | None = None,
        handler: str | None = None,
        key: str | None = None,
        status: Annotated[list[str] | None, Query(description=", ".join(STATUSES))] = None,
        limit: Annotated[int, Query(ge=1, le=LIST_LIMIT_MAX)] = LIST_LIMIT_DEFAULT,
    ) -> Json:
        """Invocations, newest first; those of agentdur's own services only when `service` names one."""
        which = Filter(
            service=service, handler=handler, key=key, statuses=_statuses(status), limit=limit,
            internal=False,
        )  # fmt: skip
        return {"invocations": await engine.list(which)}

    @routes.get("/invocations/{id}")
    async def describe_invocation(id: _Id) -> Json:
        """Everything known about one invocation, with its journal."""
        found = await engine.describe(_parsed(id))
        if found is None:
            raise UnknownInvocation(id)
        return found


def _add_operations(routes: APIRouter, engine: Engine) -> None:
    @routes.delete("/invocations/{id}", deprecated=True)
    async def delete_invocation(id: _Id, mode: Literal["cancel", "kill", "purge"] = "cancel") -> Response:
        """Cancel, kill or purge; also answers 202 when there is nothing to do. Use the PATCH routes."""
        # Promised to be accepted, whatever the invocation's status.
        with contextlib.suppress(UnknownInvocation, WrongStatus, TooEarly):
            await engine.operate(mode, _parsed(id))
        return Response(status_code=HTTPStatus.ACCEPTED)

    for action in get_args(Action):
        if action != "resume":
            routes.patch(f"/invocations/{{id}}/{action}", name=action)(_operation(engine, action))

    @routes.patch("/invocations/{id}/resume")
    async def resume(id: _Id, deployment: _Deployment = "keep") -> Response:
        """Go on: ends a pause, a back-off or a suspension at once."""
        done = await engine.operate("resume", _parsed(id), deployment)
        return Response(status_code=HTTPStatus.OK if done else HTTPStatus.ACCEPTED)

    @routes.patch("/invocations/{id}/restart-as-new")
    async def restart_as_new(
        id: _Id,
        from_: Annotated[int, Query(alias="from", ge=0, description="last journal entry to keep")] = 0,
        deployment: _Deployment = "latest",
    ) -> Json:
        """A new invocation with the same input, and the journal up to an entry."""
        return {"new_invocation_id": await engine.restart_as_new(_parsed(id), from_, deployment)}

    @routes.post(
        "/internal/invocations_batch_operations/{action}", include_in_schema=False,
        dependencies=[Depends(json_only)],
    )  # fmt: skip
    async def batch(action: str, body: Batch) -> Json:
        if action not in (*get_args(Action), "restart-as-new"):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        if body.deployment not in (None, "keep", "latest"):
            _check_deployment(body.deployment)
        if len(body.invocation_ids) > BATCH_IDS_MAX:
            raise BadRequest(f"at most {BATCH_IDS_MAX} invocations at a time, got {len(body.invocation_ids)}")
        return await _batch(engine, action, body.parsed(), body.deployment)


class Batch(BaseModel):
    """The body of a batch operation."""

    invocation_ids: list[str]
    deployment: str | None = None

    def parsed(self) -> list[InvocationId]:
        """All ids; one that cannot be parsed spoils the batch."""
        try:
            return [parse_invocation_id(one) for one in self.invocation_ids]
        except BadId as error:
            raise Unreadable(f"bad invocation id {error}", HTTPStatus.UNPROCESSABLE_ENTITY) from error


def _operation(engine: Engine, action: Action) -> Callable[..., Awaitable[Response]]:
    async def operation(id: _Id) -> Response:
        return await _operate(engine, action, id)

    operation.__doc__ = _MEANING[action]
    return operation


_MEANING: dict[Action, str] = {
    "cancel": "Ask it to end: its next await raises a TerminalError (202), or it had not begun (200).",
    "kill": "End it at once with 409 `killed`, and all it called.",
    "pause": "Stop its attempts until it is resumed: 202 while one runs, else 200.",
    "purge": "Forget a completed invocation: result, idempotency key and journal.",
    "purge-journal": "Forget a completed invocation's journal; the result stays.",
}


async def _operate(engine: Engine, action: Action, id: str) -> Response:
    done = await engine.operate(action, _parsed(id))
    return Response(status_code=HTTPStatus.OK if done else HTTPStatus.ACCEPTED)


async def _batch(engine: Engine, action: str, ids: list[InvocationId], deployment: str | None) -> Json:
    succeeded: list[Any] = []
    failed: list[Json] = []
    for invocation in ids:
        try:
            if action == "restart-as-new":
                new = await engine.restart_as_new(invocation, 0, deployment or "latest")
                succeeded.append({"old_invocation_id": invocation, "new_invocation_id": new})
            else:
                wanted = deployment or "keep"
                await engine.operate(action, invocation, wanted)  # type: ignore[arg-type]  # the route's word
                succeeded.append(invocation)
        except AgentdurError as error:
            failed.append({"invocation_id": invocation, "error": _in_a_batch(invocation, error)})
    return {"succeeded": succeeded, "failed": failed}


def _in_a_batch(invocation: InvocationId, error: AgentdurError) -> str:
    """The same words, as clients show them in a list."""
    if isinstance(error, UnknownInvocation):
        return f"Invocation '{invocation}' not found"
    return message_of(error).replace("The invocation", "Invocation").removesuffix(".")


def _parsed(text: str) -> InvocationId:
    try:
        return parse_invocation_id(text)
    except BadId as error:
        raise BadRequest(f"bad invocation id {error}") from error


def _check_deployment(text: str | None) -> None:
    """BadRequest when it cannot be the id of a deployment."""
    try:
        parse_id("dp", text or "")
    except BadId as error:
        raise BadRequest(f"deployment: {text!r} is none: {error}") from error


def _statuses(given: list[str] | None) -> tuple[str, ...]:
    """Repeated or separated by commas."""
    words = tuple(word for one in given or () for word in one.split(",") if word)
    for word in words:
        if word not in STATUSES:
            raise Unreadable(f"status: {word!r} is none of {', '.join(STATUSES)}")
    return words
