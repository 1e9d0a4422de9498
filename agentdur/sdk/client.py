"""Calling handlers from outside: the interface all clients share, and the one inside the engine's process.

Rules of this file:
1. Arguments and results are typed by the function of the handler: a caller sees what it takes and returns.
2. A terminal failure of the invocation is a TerminalError; all else that goes wrong is the client's own
   kind of error: CallerError in the process, HttpError over HTTP.
3. Cancelling a waiting call stops the waiting, never the invocation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast, overload

from msgspec import Struct
from msgspec.json import encode

from agentdur.core.errors import (
    BadRequest,
    IdempotencyNotAllowed,
    KeyRequired,
    UnknownHandler,
    UnknownService,
)
from agentdur.core.ids import BadId, InvocationId, parse_awakeable_id, parse_invocation_id
from agentdur.core.journal import Failure, Headers, Result, Success
from agentdur.core.ports import Answer, Engine, Request, Stream, StreamEvent
from agentdur.core.target import HandlerKind, ServiceKind, Target
from agentdur.core.text import require_text
from agentdur.sdk.approval import ApprovalRecord, Decision
from agentdur.sdk.approval_calls import LIMIT, ApprovalCalls, Wanted, judged, listed
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.serde import Serde, serde_for
from agentdur.sdk.service import Handler, handler_of

I = TypeVar("I")  # noqa: E741  # the Restate SDK's name
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")

_UNTYPED: Serde[Any] = serde_for(Any)


class ClientSendHandle(Struct, frozen=True):
    """A submission that is durable. `fresh` is False when its idempotency or workflow key was used before."""

    invocation_id: str
    status_code: int = 202
    fresh: bool = True


class Output(Struct, Generic[T], frozen=True):
    """The result of an invocation that has ended."""

    value: T


class How(Struct, frozen=True, gc=False):
    """What a caller may say beside the argument."""

    key: str | None = None
    idempotency_key: str | None = None
    headers: dict[str, str] | None = None
    delay: timedelta | None = None


_NOTHING_SAID = How()


class BaseClient(ApprovalCalls):
    """What every client can do; `generic_…` takes names and bytes, all others take the handler's function."""

    @abstractmethod
    async def _call(self, handler: Handler, arg: Any, how: How) -> Any:
        """Submit and wait for the result."""

    @abstractmethod
    async def _send(self, handler: Handler, arg: Any, how: How) -> ClientSendHandle:
        """Submit."""

    @abstractmethod
    async def _attach(self, invocation_id: str) -> bytes:
        """Wait for the result of an invocation."""

    @abstractmethod
    async def _output(self, invocation_id: str) -> bytes | None:
        """The result of an invocation, None while it has none."""

    @abstractmethod
    async def _attach_run(self, workflow: str, key: str) -> bytes:
        """Wait for the result of a workflow's main handler."""

    @abstractmethod
    async def _output_run(self, workflow: str, key: str) -> bytes | None:
        """The result of a workflow's main handler, None while it has none."""

    @abstractmethod
    def stream(self, invocation_id: str, after: str | None = None) -> AsyncIterator[StreamEvent]:
        """What an invocation streams, from its beginning or after the event of this id, to its end."""

    @abstractmethod
    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Call a handler by its name."""

    @abstractmethod
    async def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle:
        """Start a handler by its name, now or after a delay."""

    @abstractmethod
    async def resolve_awakeable(self, id: str, value: Any = None, serde: Serde[Any] = _UNTYPED) -> None:
        """Complete an awakeable. Nothing happens when it is completed or nobody waits any more."""

    @abstractmethod
    async def reject_awakeable(self, id: str, reason: str) -> None:
        """Fail an awakeable: who waits for it gets a TerminalError with this message."""

    @abstractmethod
    async def health(self) -> list[str]:
        """The names of the services that are served."""

    @overload
    async def service_call(
        self,
        tpe: Callable[[Any, I], Awaitable[O]],
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O: ...

    @overload
    async def service_call(
        self,
        tpe: Callable[[Any], Awaitable[O]],
        arg: None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O: ...

    async def service_call(
        self,
        tpe: Callable[..., Awaitable[Any]],
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Call a handler of a Service and wait for its result."""
        if idempotency_key is None and headers is None:
            return await self._call(handler_of(tpe), arg, _NOTHING_SAID)
        return await self._call(handler_of(tpe), arg, How(None, idempotency_key, headers))

    @overload
    async def object_call(
        self,
        tpe: Callable[[Any, I], Awaitable[O]],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O: ...

    @overload
    async def object_call(
        self,
        tpe: Callable[[Any], Awaitable[O]],
        key: str,
        arg: None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O: ...

    async def object_call(
        self,
        tpe: Callable[..., Awaitable[Any]],
        key: str,
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Call a handler of a VirtualObject (or Workflow) by key and wait for its result."""
        return await self._call(handler_of(tpe), arg, How(key, idempotency_key, headers))

    workflow_call = object_call

    @overload
    async def service_send(
        self,
        tpe: Callable[[Any, I], Awaitable[Any]],
        arg: I,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle: ...

    @overload
    async def service_send(
        self,
        tpe: Callable[[Any], Awaitable[Any]],
        arg: None = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle: ...

    async def service_send(
        self,
        tpe: Callable[..., Awaitable[Any]],
        arg: Any = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle:
        """Start a handler of a Service, now or after a delay; returns when that is durable."""
        return await self._send(handler_of(tpe), arg, How(None, idempotency_key, headers, send_delay))

    @overload
    async def object_send(
        self,
        tpe: Callable[[Any, I], Awaitable[Any]],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle: ...

    @overload
    async def object_send(
        self,
        tpe: Callable[[Any], Awaitable[Any]],
        key: str,
        arg: None = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle: ...

    async def object_send(
        self,
        tpe: Callable[..., Awaitable[Any]],
        key: str,
        arg: Any = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle:
        """Start a handler of a VirtualObject (or Workflow) by key; returns when that is durable."""
        return await self._send(handler_of(tpe), arg, How(key, idempotency_key, headers, send_delay))

    workflow_send = object_send

    async def attach(self, invocation_id: str, tpe: Callable[..., Awaitable[O]] | None = None) -> O:
        """Wait for the result of an invocation, read as that of `tpe`; untyped without one."""
        return cast(O, _serde_of(tpe).deserialize(await self._attach(invocation_id)))

    async def output(
        self, invocation_id: str, tpe: Callable[..., Awaitable[O]] | None = None
    ) -> Output[O] | None:
        """The result of an invocation if it has ended, None while it has not."""
        raw = await self._output(invocation_id)
        return None if raw is None else Output(cast(O, _serde_of(tpe).deserialize(raw)))

    async def workflow_attach(self, tpe: Callable[..., Awaitable[O]], key: str) -> O:
        """Wait for the result of a workflow's main handler."""
        raw = await self._attach_run(_workflow_of(tpe), key)
        return cast(O, _serde_of(tpe).deserialize(raw))

    async def workflow_output(self, tpe: Callable[..., Awaitable[O]], key: str) -> Output[O] | None:
        """The result of a workflow's main handler if it has ended, None while it has not."""
        raw = await self._output_run(_workflow_of(tpe), key)
        return None if raw is None else Output(cast(O, _serde_of(tpe).deserialize(raw)))


def _workflow_of(tpe: Callable[..., Any]) -> str:
    handler = handler_of(tpe)
    if handler.kind is not HandlerKind.WORKFLOW:
        raise BadRequest(f"{handler.service.name}/{handler.name} is no workflow's main handler")
    return handler.service.name


def _serde_of(tpe: Callable[..., Any] | None) -> Serde[Any]:
    return _UNTYPED if tpe is None else handler_of(tpe).output_serde


class EngineClient(BaseClient):
    """The client inside the engine's process: no HTTP; private handlers can be called, too."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _call(self, handler: Handler, arg: Any, how: How) -> Any:
        data = handler.input_serde.serialize(arg) if handler.takes_input else _nothing(handler, arg)
        request = self._request(handler.service.name, handler.name, data, how)
        answer = await self._engine.call(request)[1]
        return handler.output_serde.deserialize(_value(answer.result))

    async def _send(self, handler: Handler, arg: Any, how: How) -> ClientSendHandle:
        data = handler.input_serde.serialize(arg) if handler.takes_input else _nothing(handler, arg)
        return await self._submit(self._request(handler.service.name, handler.name, data, how))

    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        request = self._request(service, handler, arg, How(key, idempotency_key, headers))
        answer = await self._engine.call(request)[1]
        return _value(answer.result)

    async def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle:
        how = How(key, idempotency_key, headers, send_delay)
        return await self._submit(self._request(service, handler, arg, how))

    def stream(self, invocation_id: str, after: str | None = None) -> Stream:
        """As over HTTP, but it does not come back by itself: what raises StoreError or NotRunning, of an
        engine that stops, is to be asked for again with the id of the last event."""
        return self._engine.stream(_invocation(invocation_id), after)

    async def state(self, service: str, key: str, name: str) -> bytes | None:
        """One state value of an object or workflow, as committed; None when it is absent."""
        return await self._engine.state(service, key, name)

    async def states(
        self, service: str, name: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, bytes]]:
        """(key, value) of that state value of every key above `after` that has it, by key."""
        return await self._engine.states(service, name, after=after, limit=limit)

    async def resolve_awakeable(self, id: str, value: Any = None, serde: Serde[Any] = _UNTYPED) -> None:
        invocation, index = _awakeable(id)
        await self._engine.signal(invocation, index, Success(serde.serialize(value)))

    async def reject_awakeable(self, id: str, reason: str) -> None:
        invocation, index = _awakeable(id)
        await self._engine.signal(invocation, index, Failure(500, reason))

    async def health(self) -> list[str]:
        return sorted(self._engine.catalog.shown)

    async def approvals(
        self, status: Wanted = "pending", *, service: str | None = None, limit: int = LIMIT, after: str = ""
    ) -> list[ApprovalRecord]:
        return await listed(self._engine, status, service, limit, after)

    async def approval(self, id: str) -> ApprovalRecord:
        return await judged(self, id, "show")

    async def _decide(self, id: str, decision: Decision) -> ApprovalRecord:
        return await judged(self, id, "decide", encode(decision))

    async def _attach(self, invocation_id: str) -> bytes:
        answer = await self._engine.attach(_invocation(invocation_id))
        return _value(answer.result)

    async def _output(self, invocation_id: str) -> bytes | None:
        answer: Answer | None = await self._engine.output(_invocation(invocation_id))
        return None if answer is None else _value(answer.result)

    async def _attach_run(self, workflow: str, key: str) -> bytes:
        answer = await self._engine.attach(self._run_of(workflow, key))
        return _value(answer.result)

    async def _output_run(self, workflow: str, key: str) -> bytes | None:
        answer = await self._engine.output(self._run_of(workflow, key))
        return None if answer is None else _value(answer.result)

    def _run_of(self, workflow: str, key: str) -> InvocationId:
        require_text("key", key)
        served = self._engine.catalog.services.get(workflow)
        for handler in served.handlers.values() if served is not None else ():
            if handler.kind is HandlerKind.WORKFLOW:
                return self._engine.lookup(self._target(workflow, handler.name, key), None)
        raise UnknownService(workflow)

    async def _submit(self, request: Request) -> ClientSendHandle:
        receipt = await self._engine.send(request)[1]
        return ClientSendHandle(receipt.id, fresh=receipt.fresh)

    def _request(self, service: str, handler: str, data: bytes, how: How) -> Request:
        target = self._target(service, handler, how.key)
        if how is _NOTHING_SAID:
            return Request(target=target, value=data)
        check_texts(how)
        if how.idempotency_key is not None and target.handler_kind is HandlerKind.WORKFLOW:
            raise IdempotencyNotAllowed(str(target))
        return Request(
            target=target,
            value=data,
            headers=_header_pairs(how.headers),
            idempotency_key=how.idempotency_key,
            delay_ms=delay_ms(how.delay),
        )

    def _target(self, service: str, handler: str, key: str | None) -> Target:
        target = self._engine.catalog.target(service, handler, key)
        if target is None:
            if service in self._engine.catalog.services:
                raise UnknownHandler(f"{service}/{handler}")
            raise UnknownService(service)
        if (key is None) is not (target.service_kind is ServiceKind.SERVICE):
            raise KeyRequired(f"{service} is a {target.service_kind.value}")
        return target


def check_texts(how: How) -> None:
    """BadRequest for a key or header that is no text, or text that cannot be written."""
    for what, text in (("key", how.key), ("idempotency_key", how.idempotency_key)):
        if text is not None:
            require_text(what, text)
    for name, value in (how.headers or {}).items():
        require_text("a header's name", name)
        require_text(f"the header {name}", value)


def delay_ms(delay: timedelta | None) -> int | None:
    """Whole milliseconds; BadRequest when negative."""
    if delay is None:
        return None
    if delay < timedelta(0):
        raise BadRequest(f"send_delay cannot be negative: {delay}")
    return delay // timedelta(milliseconds=1)


def _nothing(handler: Handler, arg: Any) -> bytes:
    if arg is not None:
        raise BadRequest(f"{handler.service.name}/{handler.name} takes no argument, got {type(arg).__name__}")
    return b""


def _value(result: Result) -> bytes:
    if isinstance(result, Success):
        return result.value
    raise TerminalError(result.message, result.code, dict(result.metadata) or None)


def _header_pairs(headers: dict[str, str] | None) -> Headers:
    return tuple((name.lower(), value) for name, value in headers.items()) if headers else ()


def _invocation(text: str) -> InvocationId:
    try:
        return parse_invocation_id(text)
    except BadId as error:
        raise BadRequest(f"bad invocation id {error}") from error


def _awakeable(text: str) -> tuple[InvocationId, int]:
    try:
        return parse_awakeable_id(text)
    except BadId as error:
        raise BadRequest(f"bad awakeable id {error}") from error
