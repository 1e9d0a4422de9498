"""The HTTP surface: OpenAI's and Google's routes for clients; ledger, control and health for tests.

Rules of this file:
1. Received is written to the ledger before the answer starts, finished after its last byte; nothing is
   answered that is not in the ledger.
2. All routes of the OpenAI API are there with and without /v1, because clients differ in what they take for
   the base.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agentdur.testing.scripted_llm import answers
from agentdur.testing.scripted_llm.dialect import Chat, Dialect, Responses
from agentdur.testing.scripted_llm.exchange import ClientGone, Exchange, read_body
from agentdur.testing.scripted_llm.gemini import METHODS, Gemini
from agentdur.testing.scripted_llm.ledger import Ledger, LedgerEntry
from agentdur.testing.scripted_llm.playbook import (
    BadRequest,
    ChatRequest,
    Choice,
    NoTurn,
    Playbook,
    messages_sha256,
)
from agentdur.testing.scripted_llm.responses_kept import Shelf
from agentdur.testing.scripted_llm.script import (
    AddedFaults,
    Control,
    DropBeforeHeaders,
    DropMidStream,
    EmptyChoices,
    ErrorEvent,
    Fault,
    Garbage,
    Hang,
    NoFinish,
    Script,
    ScriptError,
    Status,
    load_control,
)

BODIES_MAX = 1000
EVENT_STREAM = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """Where an answer goes, and how it is spelt."""

    exchange: Exchange
    dialect: Dialect
    request: ChatRequest


class Studio:
    """The playbook and the ledger of one server; the app's endpoints are its methods."""

    def __init__(self, script: Script, ledger: Ledger) -> None:
        self.playbook = Playbook(script)
        self.ledger = ledger
        self.stopping = False
        self.shelf = Shelf()
        self.bodies: deque[bytes] = deque(maxlen=BODIES_MAX)
        """What came in last, as it came."""

    def replace(self, script: Script) -> None:
        """From the next request on, play this checked script; fault counts begin again."""
        self.playbook = Playbook(script)

    def add_faults(self, added: AddedFaults) -> None:
        self.playbook.add_faults(added)

    def control(self, wanted: Control) -> None:
        """Do all that is asked for, or refuse it and change nothing."""
        trial = Playbook(wanted.script or self.playbook.script)
        for added in wanted.add_faults:
            trial.add_faults(added)
        if wanted.script is not None:
            self.playbook = trial
            return
        for added in wanted.add_faults:
            self.playbook.add_faults(added)

    async def complete(self, scope: Scope, receive: Receive, send: Send, dialect: Dialect) -> None:
        """POST /v1/chat/completions, /v1/responses, or /v1beta/models/…:generateContent."""
        try:
            body = await read_body(receive)
        except ClientGone:
            return
        async with Exchange(scope, receive, send) as exchange:
            self.bodies.append(body)
            await self._converse(exchange, scope, body, dialect)

    async def _converse(self, exchange: Exchange, scope: Scope, body: bytes, dialect: Dialect) -> None:
        try:
            request = dialect.parse(body)
        except BadRequest as refused:
            await self._refuse(exchange, self._entry(scope), "bad_request", str(refused))
            return
        digest = messages_sha256(request)
        entry = self._entry(scope, request, digest)
        try:
            choice = self.playbook.choose(request, digest)
        except NoTurn as missing:
            await self._refuse(exchange, entry, "no_turn", str(missing))
            return
        entry = msgspec.structs.replace(entry, turn=choice.index)
        self._received(exchange, entry)
        try:
            outcome = await self._perform(Reply(exchange, dialect, request), choice, entry)
        except ClientGone:
            outcome = "server_stopped" if self.stopping else "client_gone"
        self._finished(entry, outcome)

    async def _perform(self, reply: Reply, choice: Choice, entry: LedgerEntry) -> str:
        turn, exchange, request, dialect = choice.turn, reply.exchange, reply.request, reply.dialect
        answer = answers.make_answer(
            turn,
            request_id=entry.request_id.removeprefix("req_"),
            created=entry.time_ms // 1000,
            model=request.model,
            messages=request.messages,
            digest=entry.messages_sha256,
        )
        if choice.fault is not None:
            await exchange.pause(choice.fault.delay_ms)
            return await _strike(reply, choice.fault, answer)
        if not dialect.answered(request, answer, turn.delay_ms):
            await exchange.pause(turn.delay_ms)
        if not request.stream:
            await exchange.whole(200, dialect.whole(request, answer))
            return "answered"
        await exchange.start(200, EVENT_STREAM, {"cache-control": "no-cache"})
        for position, event in enumerate(dialect.events(request, answer)):
            if position:
                await exchange.pause(turn.chunk_delay_ms)
            await exchange.piece(event)
        await exchange.piece(dialect.last, last=True)
        return "answered"

    async def _refuse(self, exchange: Exchange, entry: LedgerEntry, outcome: str, reason: str) -> None:
        self._received(exchange, entry)
        body = answers.error_body(reason, "invalid_request_error", outcome)
        try:
            await exchange.whole(400, body)
        except ClientGone:
            outcome = "client_gone"
        self._finished(entry, outcome)

    def _entry(self, scope: Scope, request: ChatRequest | None = None, digest: str = "") -> LedgerEntry:
        retries = dict(scope["headers"]).get(b"x-stainless-retry-count", b"")
        return LedgerEntry(
            seq=self.ledger.next_seq(),
            event="received",
            time_ms=_now_ms(),
            request_id=f"req_{uuid.uuid4().hex}",
            turn=None,
            model=request.model if request else "",
            message_count=len(request.messages) if request else 0,
            messages_sha256=digest,
            stream=bool(request and request.stream),
            retry_count=int(retries) if retries.isdigit() else None,
        )

    def _received(self, exchange: Exchange, entry: LedgerEntry) -> None:
        exchange.request_id = entry.request_id
        self.ledger.append(entry)

    def _finished(self, entry: LedgerEntry, outcome: str) -> None:
        finished = msgspec.structs.replace(entry, event="finished", time_ms=_now_ms(), outcome=outcome)
        self.ledger.append(finished)

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return _json(answers.models_body(self.playbook.script.models))

    async def show_ledger(self, request: Request) -> Response:
        """GET /ledger."""
        return _json({"entries": self.ledger.entries})

    async def health(self, request: Request) -> Response:
        """GET /health."""
        return _json(
            {"status": "ok", "turns": len(self.playbook.script.turns), "requests": self.ledger.last_seq}
        )

    async def take_control(self, request: Request) -> Response:
        """POST /control."""
        try:
            self.control(load_control(await request.body()))
        except ScriptError as refused:
            return _json(answers.error_body(str(refused), "invalid_request_error", "bad_script"), status=400)
        except ClientDisconnect:
            return Response(status_code=400)
        return await self.health(request)


def make_app(studio: Studio) -> Starlette:
    """The ASGI app of a studio."""
    routes = [
        Route("/ledger", studio.show_ledger, methods=["GET"]),
        Route("/control", studio.take_control, methods=["POST"]),
        Route("/health", studio.health, methods=["GET"]),
    ]
    for base in ("/v1", ""):
        routes += [
            Route(f"{base}/chat/completions", _Endpoint(studio, Chat()), methods=["POST"]),
            Route(f"{base}/responses", _Endpoint(studio, Responses(studio.shelf)), methods=["POST"]),
            *studio.shelf.routes(base),
            Route(f"{base}/models", studio.models, methods=["GET"]),
        ]
    routes += [
        Route(f"/v1beta/models/{{model}}:{method}", _GeminiEndpoint(studio, method), methods=["POST"])
        for method in METHODS
    ]
    return Starlette(routes=routes, exception_handlers={404: _unknown_route})


class _Endpoint:
    """Starlette wraps plain functions into request and response; the completions need the bare connection."""

    def __init__(self, studio: Studio, dialect: Dialect) -> None:
        self._studio, self._dialect = studio, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._studio.complete(scope, receive, send, self._dialect)


class _GeminiEndpoint:
    """The same, where the path names the model."""

    def __init__(self, studio: Studio, method: str) -> None:
        self._studio, self._method = studio, method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = Gemini(scope["path_params"]["model"], self._method)
        await self._studio.complete(scope, receive, send, dialect)


async def _strike(reply: Reply, fault: Fault, answer: answers.Answer) -> str:
    exchange, request, dialect = reply.exchange, reply.request, reply.dialect
    match fault:
        case Status():
            headers = {} if fault.retry_after_s is None else {"retry-after": f"{fault.retry_after_s:g}"}
            await exchange.whole(fault.status, answers.status_body(fault), headers)
            return f"status_{fault.status}"
        case Hang():
            await exchange.until_client_gives_up()
            return "hang"
        case DropBeforeHeaders():
            await exchange.hang_up()
            return "drop_before_headers"
        case DropMidStream():
            await _send_first_part(reply, fault.after_chunks, answer)
            await exchange.hang_up()
            return "drop_mid_stream"
        case ErrorEvent():
            await _fail_midway(reply, fault, answer)
            return "error_event"
        case NoFinish():
            await _send_first_part(reply, fault.after_chunks, answer)
            if request.stream:
                await exchange.piece(dialect.last, last=True)
            else:
                await exchange.hang_up()
            return "no_finish"
        case Garbage():
            await _send(reply, whole=answers.GARBAGE_JSON, events=[answers.GARBAGE_SSE])
            return "garbage"
        case EmptyChoices():
            whole = msgspec.json.encode(dialect.empty(request, answer))
            await _send(reply, whole=whole, events=dialect.empty_events(request, answer))
            return "empty_choices"
        case _:
            assert_never(fault)


async def _send_first_part(reply: Reply, events: int, answer: answers.Answer) -> int:
    """So many events, or half of what is not streamed; how many there were."""
    exchange, request, dialect = reply.exchange, reply.request, reply.dialect
    if not request.stream:
        content = msgspec.json.encode(dialect.whole(request, answer))
        await exchange.start(200, "application/json", {"content-length": str(len(content))})
        await exchange.piece(content[: len(content) // 2])
        return 0
    await exchange.start(200, EVENT_STREAM, {"cache-control": "no-cache"})
    first = dialect.events(request, answer)[:events]
    for event in first:
        await exchange.piece(event)
    return len(first)


async def _fail_midway(reply: Reply, fault: ErrorEvent, answer: answers.Answer) -> None:
    if not reply.request.stream:
        body = answers.error_body(fault.message, "server_error", fault.code)
        await reply.exchange.whole(500, body)
        return
    sent = await _send_first_part(reply, fault.after_chunks, answer)
    event = reply.dialect.error_event(sent, fault.message, fault.code)
    await reply.exchange.piece(event + reply.dialect.last, last=True)


async def _send(reply: Reply, *, whole: bytes, events: list[bytes]) -> None:
    exchange = reply.exchange
    if not reply.request.stream:
        await exchange.whole(200, whole)
        return
    await exchange.start(200, EVENT_STREAM, {"cache-control": "no-cache"})
    for event in events:
        await exchange.piece(event)
    await exchange.piece(reply.dialect.last, last=True)


async def _unknown_route(request: Request, error: Exception) -> Response:
    reason = (
        f"{request.method} {request.url.path}: this server knows chat/completions, responses and models only"
    )
    return _json(answers.error_body(reason, "invalid_request_error", "unknown_url"), status=404)


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
