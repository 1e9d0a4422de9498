"""Looking at invocations, and intervening."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from agentdur.admin.batch import Json, milliseconds
from agentdur.admin.errors import Unreadable
from agentdur.admin.ids import InvocationPath, parsed_id
from agentdur.admin.settings import CURSOR_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX
from agentdur.admin.words import STATUSES
from agentdur.core.errors import TooEarly, UnknownInvocation, WrongStatus
from agentdur.core.ports import Engine, Operation, Selection

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
        *,
        service: str | None = None,
        handler: str | None = None,
        key: str | None = None,
        status: Annotated[list[str] | None, Query(description=", ".join(STATUSES))] = None,
        deployment: str | None = None,
        created_after: AwareDatetime | None = None,
        created_before: AwareDatetime | None = None,
        limit: Annotated[int, Query(ge=1, le=LIST_LIMIT_MAX)] = LIST_LIMIT_DEFAULT,
        after: Annotated[
            int | None, Query(ge=0, le=CURSOR_MAX, description="where the last answer ended")
        ] = None,
    ) -> Json:
        """Invocations, newest first; those of agentdur's own services only when `service` names one. With
        `after` in the answer there may be more: ask again with it."""
        which = Selection(
            service=service, handler=handler, key=key, deployment=deployment, statuses=_statuses(status),
            created_after=milliseconds(created_after), created_before=milliseconds(created_before),
            internal=False, limit=limit, after=after,
        )  # fmt: skip
        page = await engine.select(which)
        return {"invocations": page.invocations, "after": page.after}

    @routes.get("/invocations/{id}")
    async def describe_invocation(id: InvocationPath) -> Json:
        """Everything known about one invocation, with its journal."""
        found = await engine.describe(parsed_id(id))
        if found is None:
            raise UnknownInvocation(id)
        return found


def _add_operations(routes: APIRouter, engine: Engine) -> None:
    @routes.delete("/invocations/{id}", deprecated=True)
    async def delete_invocation(
        id: InvocationPath, mode: Literal["cancel", "kill", "purge"] = "cancel"
    ) -> Response:
        """Cancel, kill or purge; also answers 202 when there is nothing to do. Use the PATCH routes."""
        # Promised to be accepted, whatever the invocation's status.
        with contextlib.suppress(UnknownInvocation, WrongStatus, TooEarly):
            await engine.operate(mode, parsed_id(id))
        return Response(status_code=HTTPStatus.ACCEPTED)

    for action in get_args(Operation):
        if action != "resume":
            routes.patch(f"/invocations/{{id}}/{action}", name=action)(_operation(engine, action))

    @routes.patch("/invocations/{id}/resume")
    async def resume(id: InvocationPath, deployment: _Deployment = "keep") -> Response:
        """Go on: ends a pause, a back-off or a suspension at once."""
        done = await engine.operate("resume", parsed_id(id), deployment)
        return Response(status_code=HTTPStatus.OK if done else HTTPStatus.ACCEPTED)

    @routes.patch("/invocations/{id}/restart-as-new")
    async def restart_as_new(
        id: InvocationPath,
        from_: Annotated[int, Query(alias="from", ge=0, description="last journal entry to keep")] = 0,
        deployment: _Deployment = "latest",
    ) -> Json:
        """A new invocation with the same input, and the journal up to an entry."""
        return {"new_invocation_id": await engine.restart_as_new(parsed_id(id), from_, deployment)}


def _operation(engine: Engine, action: Operation) -> Callable[..., Awaitable[Response]]:
    async def operation(id: InvocationPath) -> Response:
        return await _operate(engine, action, id)

    operation.__doc__ = _MEANING[action]
    return operation


_MEANING: dict[Operation, str] = {
    "cancel": "Ask it to end: its next await raises a TerminalError (202), or it had not begun (200).",
    "kill": "End it at once with 409 `killed`, and all it called.",
    "pause": "Stop its attempts until it is resumed: 202 while one runs, else 200.",
    "purge": "Forget a completed invocation: result, idempotency key and journal.",
    "purge-journal": "Forget a completed invocation's journal; the result stays.",
}


async def _operate(engine: Engine, action: Operation, id: str) -> Response:
    done = await engine.operate(action, parsed_id(id))
    return Response(status_code=HTTPStatus.OK if done else HTTPStatus.ACCEPTED)


def _statuses(given: list[str] | None) -> tuple[str, ...]:
    """Repeated or separated by commas."""
    words = tuple(word for one in given or () for word in one.split(",") if word)
    for word in words:
        if word not in STATUSES:
            raise Unreadable(f"status: {word!r} is none of {', '.join(STATUSES)}")
    return words
