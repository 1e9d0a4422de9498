"""What a page needs to show one run and to act on it: whole payloads, conversations, starting, answering.

Rules of this file:
1. Nothing here can be done only here: each route is plain JSON, for scripts as well as for the web UI.
"""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentdur.admin.errors import json_only
from agentdur.admin.ids import InvocationPath, parsed_id
from agentdur.admin.live import INDEX_MAX
from agentdur.core.edits import TurnEdit
from agentdur.core.errors import BadRequest, UnknownConversation, UnknownEntry, UnknownService, WrongStatus
from agentdur.core.journal import FIRST_FREE_SIGNAL, Failure, Result, Success
from agentdur.core.ports import Engine
from agentdur.core.target import PromiseAddress, ServiceKind
from agentdur.sdk.client import EngineClient

Json = dict[str, Any]
EDITS_MAX = 100
"""Values that are others in one fork."""
WHOLE_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of one payload that is asked for by itself."""


Place = Annotated[int, Field(ge=0, le=INDEX_MAX)]
Parts = Annotated[list[dict[str, Any]], Field(min_length=1)]
"""What a message says that is more than text."""


class Start(BaseModel):
    """A new invocation. `input` is JSON; `key`: of an object or a workflow; `delay_seconds` from now."""

    service: str
    handler: str
    key: str | None = None
    input: Any = None
    has_input: bool = True
    idempotency_key: str | None = None
    delay_seconds: Annotated[float, Field(ge=0, le=10**9)] = 0


class Turn(BaseModel):
    """How a turn of a model is asked anew: another model, other contents of messages by their places."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1)] | None = None
    messages: Annotated[dict[Place, str | Parts], Field(max_length=EDITS_MAX)] = {}

    @model_validator(mode="after")
    def _says_something(self) -> Turn:
        if self.model is None and not self.messages:
            raise ValueError("give another model, other messages, or both")
        return self


class Fork(BaseModel):
    """`from`: the last entry to keep, by default all that the edits allow; `edits`: JSON values by entry
    index, up to that one; `turns` behind it, by the index of the model's step or of its answer."""

    model_config = ConfigDict(extra="forbid")

    from_entry: Annotated[int | None, Field(alias="from", ge=0, le=INDEX_MAX)] = None
    turns: Annotated[dict[Place, Turn], Field(max_length=EDITS_MAX)] = {}
    edits: Annotated[dict[Place, Any], Field(max_length=EDITS_MAX)] = {}
    deployment: str = "latest"


class Answer(BaseModel):
    """What an awaited signal is given: a value, or a failure's message."""

    value: Any = None
    failure: str | None = None

    def result(self) -> Result:
        """As the journal keeps it."""
        if self.failure is not None:
            return Failure(500, self.failure)
        return Success(msgspec.json.encode(self.value))


def runs_routes(engine: Engine) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["invocations"])
    _add_starting(routes, engine)
    _add_looking(routes, engine)
    _add_answering(routes, engine)
    return routes


def _add_starting(routes: APIRouter, engine: Engine) -> None:
    client = EngineClient(engine)

    @routes.post("/invocations", status_code=HTTPStatus.ACCEPTED, dependencies=[Depends(json_only)])
    async def start(body: Start) -> Json:
        """Start a handler, and answer the id of its invocation."""
        data = msgspec.json.encode(body.input) if body.has_input else b""
        delay = timedelta(seconds=body.delay_seconds) if body.delay_seconds else None
        headers = {"content-type": "application/json"} if body.has_input else None
        sent = await client.generic_send(
            body.service, body.handler, data, body.key, delay, idempotency_key=body.idempotency_key,
            headers=headers,
        )  # fmt: skip
        return {"id": sent.invocation_id}

    @routes.post("/invocations/{id}/fork", dependencies=[Depends(json_only)])
    async def fork(id: InvocationPath, body: Fork) -> Json:
        """A new invocation with the journal up to an entry, and other values in it: the input, or what steps,
        calls and signals answered. Turns of models behind it may be told something else, or another model:
        that holds for all that the new one asks. The old one stays as it is."""
        edits = {index: msgspec.json.encode(value) for index, value in body.edits.items()}
        turns = {index: TurnEdit(turn.model, dict(turn.messages)) for index, turn in body.turns.items()}
        new = await engine.fork(parsed_id(id), body.from_entry, edits, body.deployment, turns=turns)
        return {"new_invocation_id": new}


def _add_looking(routes: APIRouter, engine: Engine) -> None:
    @routes.get("/invocations/{id}/entries/{index}")
    async def entry(id: InvocationPath, index: Annotated[int, Path(ge=0, le=INDEX_MAX)]) -> Json:
        """One journal entry with its whole payload."""
        watch = engine.watch(parsed_id(id))
        try:
            rows = await watch.rows(index - 1, 1, WHOLE_BYTES_MAX)
        finally:
            watch.close()
        if not rows or rows[0]["index"] != index:
            raise UnknownEntry(f"{id} has no entry {index}")
        return rows[0]

    @routes.get("/conversations/{head}")
    async def conversation(head: str) -> Json:
        """The messages that a model step was told, or the tools it was offered, by the hash in its note."""
        messages = await engine.conversation(head)
        if messages is None:
            raise UnknownConversation(head)
        return {"messages": messages}


def _add_answering(routes: APIRouter, engine: Engine) -> None:
    @routes.post(
        "/invocations/{id}/signals/{signal}", status_code=HTTPStatus.ACCEPTED,
        dependencies=[Depends(json_only)],
    )  # fmt: skip
    async def answer(id: InvocationPath, signal: str, body: Answer) -> Json:
        """Complete an awakeable (by its number) or a named signal; nothing happens when nobody waits."""
        if signal.isdigit() and int(signal) < FIRST_FREE_SIGNAL:
            raise BadRequest(f"signal: {signal} is the engine's own, awakeables begin at {FIRST_FREE_SIGNAL}")
        await engine.signal(parsed_id(id), int(signal) if signal.isdigit() else signal, body.result())
        return {}

    @routes.post(
        "/services/{service}/promises/{name}", status_code=HTTPStatus.ACCEPTED,
        dependencies=[Depends(json_only)],
    )  # fmt: skip
    async def settle(service: str, name: str, object_key: str, body: Answer, scope: str = "") -> Json:
        """Complete a durable promise of a workflow; 409 when it was completed before."""
        meta = engine.catalog.services.get(service)
        if meta is None:
            raise UnknownService(service)
        if meta.kind is not ServiceKind.WORKFLOW:
            raise BadRequest(f"The service '{service}' is no workflow: it has no promises")
        if not await engine.settle(PromiseAddress(service, object_key, name, scope), body.result()):
            raise WrongStatus(f"The promise '{name}' was already completed.")
        return {}
