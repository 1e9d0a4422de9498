"""Calls and sends to other handlers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from agentdur.core import journal as j
from agentdur.sdk.along import with_along
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.future import CallFuture, DurableFuture, SendHandle
from agentdur.sdk.service import handler_of

Fn = Callable[..., Any]
_NO_HEADERS: j.Headers = ()


class Calls:
    """What every context can say to other handlers. Arguments are typed by the callee's annotations."""

    __slots__ = ()
    _attempt: Attempt

    def service_call(
        self,
        tpe: Fn,
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> CallFuture[Any]:
        """Call a handler of a Service."""
        return typed_call(self._attempt, tpe, arg, Options(idempotency_key, headers))

    def object_call(
        self,
        tpe: Fn,
        key: str,
        arg: Any = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> CallFuture[Any]:
        """Call a handler of a VirtualObject."""
        return typed_call(self._attempt, tpe, arg, Options(idempotency_key, headers, key=key))

    workflow_call = object_call

    def service_send(
        self,
        tpe: Fn,
        arg: Any = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start a handler of a Service, now or after a delay."""
        return typed_send(self._attempt, tpe, arg, Options(idempotency_key, headers, delay=send_delay))

    def object_send(
        self,
        tpe: Fn,
        key: str,
        arg: Any = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Start a handler of a VirtualObject, now or after a delay."""
        return typed_send(self._attempt, tpe, arg, Options(idempotency_key, headers, send_delay, key))

    workflow_send = object_send

    def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> CallFuture[bytes]:
        """Call any handler by name, with bytes."""
        options = Options(idempotency_key, headers, None, key, scope or "", limit_key or "")
        return call(self._attempt, (service, handler), arg, options, None)

    def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> SendHandle:
        """Start any handler by name, with bytes."""
        options = Options(idempotency_key, headers, send_delay, key, scope or "", limit_key or "")
        return send(self._attempt, (service, handler), arg, options)


class Options:
    """How a call is made."""

    __slots__ = ("delay", "headers", "idempotency_key", "key", "limit_key", "scope")

    def __init__(
        self,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        delay: timedelta | None = None,
        key: str | None = None,
        scope: str = "",
        *more: str,
    ) -> None:
        self.idempotency_key, self.delay, self.key, self.scope = idempotency_key, delay, key, scope
        self.headers: j.Headers = tuple(headers.items()) if headers else _NO_HEADERS
        self.limit_key = more[0] if more else ""


def typed_call(attempt: Attempt, tpe: Fn, arg: Any, options: Options) -> CallFuture[Any]:
    """Call by handler function: the argument and the answer use its types."""
    handler = handler_of(tpe)
    data = handler.input_serde.serialize(arg) if handler.takes_input else b""
    to = (handler.service.name, handler.name)
    return call(attempt, to, data, options, handler.output_serde.deserialize)


def typed_send(attempt: Attempt, tpe: Fn, arg: Any, options: Options) -> SendHandle:
    """Send by handler function."""
    handler = handler_of(tpe)
    data = handler.input_serde.serialize(arg) if handler.takes_input else b""
    return send(attempt, (handler.service.name, handler.name), data, options)


def call(
    attempt: Attempt,
    to: tuple[str, str],
    data: bytes,
    options: Options,
    decode: Callable[[bytes], Any] | None,
) -> CallFuture[Any]:
    """Journal a Call; two futures: the callee's id, and the result."""
    branch = attempt.here()
    first = attempt.next_completion
    callee: DurableFuture[Any] = DurableFuture(attempt, first, None)
    future: CallFuture[Any] = CallFuture(attempt, first + 1, decode, callee)
    made = j.Call(
        service=to[0], handler=to[1], key=options.key, parameter=data,
        headers=with_along(attempt, to[0], options.headers),
        idempotency_key=options.idempotency_key, scope=options.scope, limit_key=options.limit_key,
        id_completion=first, completion=first + 1, branch=branch.name,
    )  # fmt: skip
    there = attempt.command(branch, made)
    if isinstance(there, j.Call):
        attempt.expect(there.id_completion, callee)
        attempt.expect(there.completion, future)
    else:
        attempt.next_completion = first + 2
        attempt.pending[first], attempt.pending[first + 1] = callee, future
    return future


def send(attempt: Attempt, to: tuple[str, str], data: bytes, options: Options) -> SendHandle:
    """Journal a OneWayCall."""
    branch = attempt.here()
    invoke_at = 0
    if options.delay is not None:
        invoke_at = attempt.driver.now() + max(0, int(options.delay.total_seconds() * 1000))
    callee: DurableFuture[Any] = DurableFuture(attempt, attempt.next_completion, None)
    made = j.OneWayCall(
        service=to[0], handler=to[1], key=options.key, parameter=data,
        headers=with_along(attempt, to[0], options.headers),
        idempotency_key=options.idempotency_key, scope=options.scope, limit_key=options.limit_key,
        invoke_at=invoke_at, id_completion=attempt.next_completion, branch=branch.name,
    )  # fmt: skip
    there = attempt.command(branch, made)
    if isinstance(there, j.OneWayCall):
        attempt.expect(there.id_completion, callee)
    else:
        attempt.next_completion += 1
        attempt.pending[made.id_completion] = callee
    return SendHandle(attempt, callee)


class ScopedContext:
    """Calls and sends that carry a scope (preview, as in Restate: refused while scopes are off)."""

    __slots__ = ("_attempt", "_scope")

    def __init__(self, context: Calls, scope: str) -> None:
        self._attempt, self._scope = context._attempt, scope

    def _options(self, given: dict[str, Any]) -> Options:
        limit_key = given.pop("limit_key", None) or ""
        delay = given.pop("send_delay", None)
        key, headers = given.pop("key", None), given.pop("headers", None)
        return Options(given.pop("idempotency_key", None), headers, delay, key, self._scope, limit_key)

    def service_call(self, tpe: Fn, arg: Any = None, **options: Any) -> CallFuture[Any]:
        """Call a handler of a Service; options: limit_key, idempotency_key, headers."""
        return typed_call(self._attempt, tpe, arg, self._options(options))

    def service_send(self, tpe: Fn, arg: Any = None, **options: Any) -> SendHandle:
        """Start a handler of a Service; options: send_delay, limit_key, idempotency_key, headers."""
        return typed_send(self._attempt, tpe, arg, self._options(options))

    def object_call(self, tpe: Fn, key: str, arg: Any = None, **options: Any) -> CallFuture[Any]:
        """Call a handler of a VirtualObject."""
        return typed_call(self._attempt, tpe, arg, self._options({**options, "key": key}))

    def object_send(self, tpe: Fn, key: str, arg: Any = None, **options: Any) -> SendHandle:
        """Start a handler of a VirtualObject."""
        return typed_send(self._attempt, tpe, arg, self._options({**options, "key": key}))

    workflow_call = object_call
    workflow_send = object_send
