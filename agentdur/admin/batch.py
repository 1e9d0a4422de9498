"""One action on many invocations: on those that are named, or on those that have something in common.

Rules of this file:
1. A filter says at least one thing: nobody means everything by leaving everything out.
2. Each invocation is judged when its turn comes; one that is refused does not keep the others from it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal, get_args

from fastapi import APIRouter, Depends, HTTPException
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from agentdur.admin.errors import Unreadable, json_only, message_of
from agentdur.admin.settings import CURSOR_MAX
from agentdur.admin.words import BATCH_IDS_MAX, Shown
from agentdur.core.errors import AgentdurError, BadRequest, UnknownInvocation
from agentdur.core.ids import BadId, InvocationId, parse_invocation_id
from agentdur.core.ports import Engine, Operation, Selection
from agentdur.runtime.operators import check_form

Json = dict[str, Any]
Action = Literal[Operation, "restart-as-new"]
_LIVE = ("scheduled", "pending", "ready", "running", "backing-off", "suspended", "paused")
MEANT: dict[Action, tuple[str, ...]] = {
    "cancel": _LIVE, "kill": _LIVE, "pause": ("ready", "running", "backing-off"),
    "resume": ("backing-off", "suspended", "paused"), "purge": ("completed",),
    "purge-journal": ("completed",), "restart-as-new": ("completed",),
}  # fmt: skip
"""The statuses a filter means when it names none: those that the action is for."""


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


class Common(BaseModel):
    """What the invocations have in common; times are RFC 3339 with an offset, exclusive."""

    model_config = ConfigDict(extra="forbid")

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    deployment: str | None = None
    status: list[Shown] = []
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None

    @field_validator("status", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _says_something(self) -> Common:
        if not any(value for value in self.__dict__.values()):
            raise ValueError("a filter names at least one of " + ", ".join(type(self).model_fields))
        return self


class Sweep(BaseModel):
    """The body of a batch by filter. `limit`: how many at most; `after`: where the last answer ended."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    filter: Common
    dry_run: bool = False
    deployment: str | None = None
    limit: int = Field(default=BATCH_IDS_MAX, ge=1, le=BATCH_IDS_MAX)
    after: int | None = Field(default=None, ge=0, le=CURSOR_MAX)

    def selection(self) -> Selection:
        """As the engine wants it; agentdur's own services only when they are named."""
        given = self.filter
        return Selection(
            service=given.service, handler=given.handler, key=given.key, deployment=given.deployment,
            statuses=tuple(given.status) or MEANT[self.action], internal=False,
            created_after=milliseconds(given.created_after),
            created_before=milliseconds(given.created_before),
            limit=self.limit, after=self.after,
        )  # fmt: skip


def milliseconds(at: AwareDatetime | None) -> int | None:
    """Since the epoch."""
    return None if at is None else int(at.timestamp() * 1000)


def batch_routes(engine: Engine) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["invocations"])
    json = [Depends(json_only)]

    @routes.post(
        "/internal/invocations_batch_operations/{action}", include_in_schema=False, dependencies=json
    )
    async def batch(action: str, body: Batch) -> Json:
        if action not in get_args(Action):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        check_form(body.deployment or "keep")
        if len(body.invocation_ids) > BATCH_IDS_MAX:
            raise BadRequest(f"at most {BATCH_IDS_MAX} invocations at a time, got {len(body.invocation_ids)}")
        return await _each(engine, action, body.parsed(), body.deployment)  # type: ignore[arg-type]  # is one

    @routes.post("/invocations/batch", dependencies=json)
    async def sweep(body: Sweep) -> Json:
        """One action on all invocations that fit a filter, some at a time; `dry_run` only tells on which, and
        what would be refused. `after` in the answer: there may be more, ask again with it."""
        check_form(body.deployment or "keep")
        page = await engine.select(body.selection())
        ids = [InvocationId(one["id"]) for one in page.invocations]
        done = await _each(engine, body.action, ids, body.deployment, dry_run=body.dry_run)
        matched = [{name: one[name] for name in ("id", "target", "status")} for one in page.invocations]
        return {
            "action": body.action, "dry_run": body.dry_run, "matched": matched, **done, "after": page.after,
        }  # fmt: skip

    return routes


async def _each(
    engine: Engine,
    action: Action,
    ids: list[InvocationId],
    deployment: str | None,
    *,
    dry_run: bool = False,
) -> Json:
    succeeded: list[Any] = []
    failed: list[Json] = []
    for invocation in ids:
        try:
            if action != "restart-as-new":
                await engine.operate(action, invocation, deployment or "keep", dry_run=dry_run)
                succeeded.append(invocation)
                continue
            new = await engine.restart_as_new(invocation, 0, deployment or "latest", dry_run=dry_run)
            made = {} if dry_run else {"new_invocation_id": new}
            succeeded.append({"old_invocation_id": invocation, **made})
        except AgentdurError as error:
            failed.append({"invocation_id": invocation, "error": _in_a_batch(invocation, error)})
    return {"succeeded": succeeded, "failed": failed}


def _in_a_batch(invocation: InvocationId, error: AgentdurError) -> str:
    """The same words, as clients show them in a list."""
    if isinstance(error, UnknownInvocation):
        return f"Invocation '{invocation}' not found"
    return message_of(error).replace("The invocation", "Invocation").removesuffix(".")
