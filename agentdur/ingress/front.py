"""The door: one ASGI callable that answers every route of the ingress.

Rules of this file:
1. No middleware, no dependency injection: a request is parsed, checked, submitted, answered.
2. The order of the checks is part of the surface: clients see the first error.
3. Whatever goes wrong is answered as JSON with a source; what nobody foresaw is logged and answered with 500.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from agentdur.core.catalog import Catalog
from agentdur.core.errors import AgentdurError, UnknownInvocation
from agentdur.core.ids import FIRST_AWAKEABLE_INDEX, BadId, InvocationId, parse_awakeable_id
from agentdur.core.journal import Failure, Result, Success
from agentdur.core.ports import Answer, Engine, Request
from agentdur.core.visitors import SAFE_METHODS
from agentdur.ingress import errors
from agentdur.ingress.errors import IngressError, engine_error, ingress_error, invocation_error
from agentdur.ingress.events import Events, read_after, send_events
from agentdur.ingress.paths import (
    Awakeable,
    ByBody,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Documents,
    Health,
    Hosted,
    Route,
    Submit,
    find_route,
)
from agentdur.ingress.query import delay_ms, label_problem, read_query, refuse_limit_key
from agentdur.ingress.replies import (
    JSON,
    Header,
    Receive,
    Reply,
    Scope,
    Send,
    preflight,
    send_bare,
    send_reply,
)
from agentdur.ingress.requests import first_values, forwarded, header_text, path_of, read_body
from agentdur.ingress.served import ServedHandler, Services, serve
from agentdur.ingress.settings import IngressSettings
from agentdur.ingress.targets import idempotent_id, read_target, workflow_id
from agentdur.ingress.waiting import ClientGone, Waits
from agentdur.observe.observer import RequestObserver

LENGTH_DIGITS_MAX: Final = 18
"""A declared length with more digits is too large without being read."""

_log = logging.getLogger("agentdur.ingress")
_encode = msgspec.json.Encoder().encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Front:
    """Answers requests with an engine. `hosted`: first segments of paths that somebody else answers."""

    def __init__(
        self, engine: Engine, settings: IngressSettings, hosted: frozenset[bytes] = frozenset(),
        observer: RequestObserver | None = None,
    ) -> None:  # fmt: skip
        self._hosted, self._observer = hosted, observer
        self._engine = engine
        self._settings = settings
        self._waits = Waits(settings.disconnect_check_ms)
        self._active = 0
        self._catalog: Catalog | None = None
        self._services: Services = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer; False when the route is one of the documents or hosted, which are somebody else's."""
        headers = first_values(scope["headers"])
        if self._declares_too_much(headers):
            await send_bare(send, errors.too_large())
            return True
        origin = headers.get(b"origin")
        if scope["method"] == "OPTIONS":
            await send_reply(send, preflight(headers), origin)
            return True
        if self._active == self._settings.concurrent_requests_max:
            await send_reply(send, ingress_error(429, errors.OVERLOADED), origin)
            return True
        self._active += 1
        try:
            reply = await self._answer(scope, headers, receive)
            if isinstance(reply, Events):
                await send_events(reply, scope, receive, send, self._settings)
                return True
        except ClientGone:
            return True
        finally:
            self._active -= 1
        if reply is None:
            return False
        await send_reply(send, reply, origin)
        return True

    def _declares_too_much(self, headers: dict[bytes, bytes]) -> bool:
        length = headers.get(b"content-length")
        if length is None or not length.isdigit():
            return False
        return len(length) > LENGTH_DIGITS_MAX or int(length) > self._settings.request_bytes_max

    @property
    def services(self) -> Services:
        """What is served now."""
        catalog = self._engine.catalog
        if catalog is not self._catalog:
            self._services, self._catalog = serve(catalog), catalog
        return self._services

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive
    ) -> Reply | Events | None:
        try:
            self._settings.visitors.check_host(headers.get(b"host"))
            path, raw_path = path_of(scope)
            route = find_route(path, self.services, self._hosted)
            self._check_visitor(route, scope["method"], headers)
            if isinstance(route, Submit):
                if self._observer is None:
                    return (await self._submit(route, raw_path, scope, headers, receive))[1]
                return await self._observed(self._observer, route, raw_path, scope, headers, receive)
            if isinstance(route, ById | ByWorkflow | ByIdempotencyKey):
                _only(scope["method"], "GET")
                invocation = self._named(route)
                if route.verb == "stream":
                    return self._stream(invocation, scope, headers)
                return await self._result_of(route.verb, invocation, receive)
            return await self._other(route, scope["method"], receive)
        except IngressError as error:
            return ingress_error(error.status, error.message)
        except AgentdurError as error:
            return engine_error(error)
        except ClientGone:
            raise
        except Exception:
            _log.exception("a request failed: %s %s", scope["method"], scope["path"])
            return ingress_error(500, "internal error")

    def _check_visitor(self, route: Route, method: str, headers: dict[bytes, bytes]) -> None:
        """A GET calls a handler as a POST does: only of other routes it is safe."""
        safe = method in SAFE_METHODS and not isinstance(route, Submit)
        self._settings.visitors.check_page(headers, safe)

    # Submissions

    async def _observed(self, observer: RequestObserver, route: Submit, *request: Any) -> Reply:
        """Submit, and tell the observer how that went."""
        service, kind = route.handler.target.service, "send" if route.send else "call"
        began, status = time.perf_counter(), "request_error"
        try:
            status, reply = await self._submit(route, *request)
        except ClientGone:
            status = "client_gone"
            raise
        finally:
            observer.answered(service, kind, status, time.perf_counter() - began)
        return reply

    async def _submit(
        self, route: Submit, raw_path: bytes, scope: Scope, headers: dict[bytes, bytes], receive: Receive
    ) -> tuple[str, Reply]:
        """(how it went, in the observer's words; the answer)."""
        handler = route.handler
        if not handler.public:
            raise IngressError(400, errors.NOT_PUBLIC)
        idempotency_key = header_text(headers, b"idempotency-key")
        if idempotency_key is not None and handler.is_run:
            raise IngressError(400, errors.KEY_ON_WORKFLOW)
        if route.scope is not None:
            problem = label_problem(route.scope)
            raise IngressError(400, f"bad scope value: {problem}" if problem else errors.SCOPE_OFF)
        if scope["method"] not in ("POST", "GET"):
            raise IngressError(405, errors.METHOD_NOT_ALLOWED)
        body = await read_body(receive, self._settings.request_bytes_max)
        if problem := handler.check(headers.get(b"content-type"), body):
            raise IngressError(400, f"input validation error: {problem}")
        query: bytes = scope["query_string"]
        delay = _delay(query, headers)
        request = Request(
            target=handler.target_of(route.key),
            value=body,
            headers=forwarded(headers, raw_path, query),
            idempotency_key=idempotency_key,
            delay_ms=delay,
        )
        if route.send:
            return await self._send(request)
        if delay is not None:
            raise IngressError(400, errors.DELAY_ON_CALL)
        invocation, pending = self._engine.call(request)
        self._admitted(request, "call")
        try:
            answer = await self._waits.wait(pending, receive)
        except AgentdurError as error:
            return "request_error", engine_error(error, invocation)
        status = "completed" if isinstance(answer.result, Success) else "invocation_error"
        return status, _result(answer, handler)

    def _admitted(self, request: Request, kind: str) -> None:
        if self._observer is not None:
            self._observer.admitted(request.target.service, kind)

    async def _send(self, request: Request) -> tuple[str, Reply]:
        invocation, pending = self._engine.send(request)
        self._admitted(request, "send")
        try:
            receipt = await pending  # as long as a commit takes: nobody leaves meanwhile
        except AgentdurError as error:
            return "request_error", engine_error(error, invocation)
        fields: dict[str, str] = {"invocationId": invocation}
        if receipt.execute_at is not None:
            fields["executionTime"] = _instant(receipt.execute_at)
        fields["status"] = "Accepted" if receipt.fresh else "PreviouslyAccepted"
        return "completed", Reply(202, [(b"x-restate-id", invocation.encode()), JSON], _encode(fields))

    # Results, awakeables, health

    async def _other(self, route: Route, method: str, receive: Receive) -> Reply | None:
        match route:
            case Documents() | Hosted():
                return None
            case Health():
                _only(method, "GET")
                names = [service.decode() for service in self.services]
                return Reply(200, [JSON], _encode({"services": names}))
            case Awakeable():
                return await self._complete(route, method, receive)
            case ByBody(verb):
                _only(method, "POST")
                body = await read_body(receive, self._settings.request_bytes_max)
                invocation = read_target(body, self._engine)
                if verb == "lookup":
                    return Reply(200, [JSON], _encode({"invocationId": invocation}))
                return await self._result_of(verb, invocation, receive)
            case Submit() | ById() | ByWorkflow() | ByIdempotencyKey():
                raise AssertionError("these are handled before")

    def _named(self, route: ById | ByWorkflow | ByIdempotencyKey) -> InvocationId:
        match route:
            case ById(_, invocation):
                return invocation
            case ByWorkflow(_, name, key):
                return workflow_id(self._engine, name, key)
            case ByIdempotencyKey(_, service, key, handler, idempotency_key):
                return idempotent_id(self._engine, service, handler, key, idempotency_key)

    def _stream(self, invocation: InvocationId, scope: Scope, headers: dict[bytes, bytes]) -> Reply | Events:
        """Who reconnects says the last event's id in the header: that is newer than what the path says."""
        after = header_text(headers, b"last-event-id") or read_after(scope["query_string"]) or None
        try:
            stream = self._engine.stream(invocation, after)
        except UnknownInvocation:
            return ingress_error(404, errors.INVOCATION_NOT_FOUND)
        if stream.over:  # a browser stops to come back
            return Reply(204, [(b"x-restate-id", invocation.encode())])
        return Events(invocation, stream)

    async def _result_of(self, verb: str, invocation: InvocationId, receive: Receive) -> Reply:
        """Attach waits, output does not; each has its own way to say that there is no such invocation."""
        if verb == "attach":
            try:
                ended = await self._waits.wait(self._engine.attach(invocation), receive)
                return _retained(ended, self._handler_of(ended))
            except UnknownInvocation:
                return invocation_error(invocation, Failure(404, errors.NOT_FOUND))
        try:
            answer = await self._engine.output(invocation)
        except UnknownInvocation:
            return ingress_error(404, errors.INVOCATION_NOT_FOUND)
        if answer is None:
            return ingress_error(errors.NOT_READY_STATUS, errors.NOT_READY)
        return _retained(answer, self._handler_of(answer))

    def _handler_of(self, answer: Answer) -> ServedHandler | None:
        """The handler that is served now for this answer's target."""
        if answer.target is None:
            return None
        service = self.services.get(answer.target.service.encode())
        return None if service is None else service.handlers.get(answer.target.handler.encode())

    async def _complete(self, route: Awakeable, method: str, receive: Receive) -> Reply:
        _only(method, "POST")
        try:
            invocation, index = parse_awakeable_id(route.id)
        except BadId as error:
            raise IngressError(400, f"bad awakeable id '{route.id}': {error.reason}") from error
        body = await read_body(receive, self._settings.request_bytes_max)
        result: Result = Success(body)
        if route.verb == "reject":
            result = Failure(500, body.decode("utf-8", "replace"))
        # Ids of older journals name an entry, not a signal, and nothing here waits for one. Lower indexes
        # belong to the engine (1 is cancel): an awakeable never has them.
        if route.id.startswith("sign_") and index >= FIRST_AWAKEABLE_INDEX:
            await self._engine.signal(invocation, index, result)
        return Reply(202, [])


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise IngressError(405, errors.METHOD_NOT_ALLOWED)


def _delay(query: bytes, headers: dict[bytes, bytes]) -> int | None:
    """The delay in milliseconds; refuses what the query or the limit-key header says wrongly."""
    limit_key = header_text(headers, b"x-restate-limit-key")
    delay = None
    if query:
        asked = read_query(query)
        if asked.delay is not None:
            delay = delay_ms(asked.delay)
        limit_key = limit_key or asked.limit_key
    if limit_key:
        refuse_limit_key(limit_key)
    return delay


def _retained(answer: Answer, handler: ServedHandler | None) -> Reply:
    """A result by id: without its handler nobody knows the content type of a value."""
    if handler is None and isinstance(answer.result, Success):
        return ingress_error(404, errors.NOT_FOUND)
    return _result(answer, handler)


def _result(answer: Answer, handler: ServedHandler | None) -> Reply:
    """The end of an invocation: its bytes, or its failure."""
    result = answer.result
    if isinstance(result, Success):
        headers: list[Header] = [(b"x-restate-id", answer.id.encode())]
        if handler is not None and (content_type := handler.content_type_for(result.value)) is not None:
            headers.append(content_type)
        reply = Reply(200, headers, result.value)
    else:
        reply = invocation_error(answer.id, result)
    if answer.expires_at is not None:
        reply.headers.insert(1, (b"idempotency-expires", _expiry(answer.expires_at)))
    return reply


def _instant(at_ms: int) -> str:
    """RFC 3339 with nine digits, UTC."""
    return f"{_EPOCH + timedelta(milliseconds=at_ms):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}000000Z"


def _expiry(at_ms: int) -> bytes:
    """RFC 3339 with milliseconds, UTC."""
    return f"{_EPOCH + timedelta(milliseconds=at_ms):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}+00:00".encode()
