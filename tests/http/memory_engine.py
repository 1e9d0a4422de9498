"""An engine that keeps everything in memory: the frontend's port, without durability, replay or retries.

Handlers are functions `(request) -> bytes`, sync or async; `Refused` ends an invocation with its failure.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from agentdur.core.catalog import Catalog
from agentdur.core.errors import UnknownInvocation
from agentdur.core.ids import InvocationId, idempotent_uuid, invocation_id, partition_key, ulid, workflow_uuid
from agentdur.core.journal import Failure, Result, Success
from agentdur.core.ports import Answer, Engine, Receipt, Request
from agentdur.core.target import HandlerKind, Target

DAY_MS = 86_400_000
Handler = Callable[[Request], Any]


class Refused(Exception):
    """The handler's terminal failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Record:
    def __init__(self, request: Request, execute_at: int | None) -> None:
        self.request, self.execute_at = request, execute_at
        self.started = False
        self.result: Result | None = None
        self.completed_at = 0
        self.waiters: list[asyncio.Future[Answer]] = []


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryEngine:
    """`handlers` by (service, handler). What was signalled is kept in `signals`."""

    def __init__(self, catalog: Catalog, handlers: dict[tuple[str, str], Handler]) -> None:
        self.catalog = catalog
        self.handlers = handlers
        self.records: dict[InvocationId, Record] = {}
        self.requests: list[Request] = []
        self.signals: list[tuple[InvocationId, int | str, Result]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.refuse_with: Exception | None = None
        self.fail_with: Exception | None = None

    # the port

    def call(self, request: Request) -> tuple[InvocationId, Awaitable[Answer]]:
        invocation, fresh = self._submit(request)
        if self.fail_with is not None:
            return invocation, _failed(self.fail_with)
        if not fresh and request.target.handler_kind is HandlerKind.WORKFLOW:
            refused = Failure(409, "the workflow method was already invoked")
            return invocation, _done(Answer(invocation, refused))
        return invocation, self._wait(invocation)

    def send(self, request: Request) -> tuple[InvocationId, Awaitable[Receipt]]:
        invocation, fresh = self._submit(request)
        if self.fail_with is not None:
            return invocation, _failed(self.fail_with)
        record = self.records[invocation]
        return invocation, _done(Receipt(invocation, fresh, None if record.started else record.execute_at))

    def lookup(self, target: Target, idempotency_key: str | None) -> InvocationId:
        scope = target.scope or None
        pk = partition_key(target.service, target.key, bucket=0, scope=scope, idempotency_key=idempotency_key)
        if target.handler_kind is HandlerKind.WORKFLOW:
            assert target.key is not None
            return invocation_id(pk, workflow_uuid(target.service, target.key, scope))
        assert idempotency_key is not None
        uuid = idempotent_uuid(target.service, target.key, target.handler, idempotency_key, scope)
        return invocation_id(pk, uuid)

    async def attach(self, invocation: InvocationId) -> Answer:
        if invocation not in self.records:
            raise UnknownInvocation(invocation)
        return await self._wait(invocation)

    async def output(self, invocation: InvocationId) -> Answer | None:
        record = self.records.get(invocation)
        if record is None:
            raise UnknownInvocation(invocation)
        return None if record.result is None else self._stored(invocation, record)

    async def signal(self, invocation: InvocationId, signal: int | str, result: Result) -> None:
        self.signals.append((invocation, signal, result))

    async def describe(self, invocation: InvocationId) -> dict[str, Any] | None:
        record = self.records.get(invocation)
        if record is None:
            return None
        target = record.request.target
        return {
            "id": invocation,
            "target_service_name": target.service,
            "target_handler_name": target.handler,
        }

    # inside

    def _submit(self, request: Request) -> tuple[InvocationId, bool]:
        if self.refuse_with is not None:
            raise self.refuse_with
        target = request.target
        if request.idempotency_key is None and target.handler_kind is not HandlerKind.WORKFLOW:
            pk = partition_key(target.service, target.key, bucket=os.urandom(1)[0])
            invocation = invocation_id(pk, ulid(now_ms(), os.urandom(10)))
        else:
            invocation = self.lookup(target, request.idempotency_key)
        if invocation in self.records:
            return invocation, False
        execute_at = None if request.delay_ms is None else now_ms() + request.delay_ms
        self.records[invocation] = Record(request, execute_at)
        self.requests.append(request)
        task = asyncio.ensure_future(self._run(invocation))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return invocation, True

    async def _run(self, invocation: InvocationId) -> None:
        record = self.records[invocation]
        request = record.request
        await asyncio.sleep((request.delay_ms or 0) / 1000)
        record.started = True
        try:
            value = self.handlers[request.target.service, request.target.handler](request)
            record.result = Success(await value if inspect.isawaitable(value) else value)
        except Refused as refused:
            record.result = refused.failure
        record.completed_at = now_ms()
        for waiter in record.waiters:
            if not waiter.done():
                waiter.set_result(Answer(invocation, record.result, None, request.target))

    def _wait(self, invocation: InvocationId) -> Awaitable[Answer]:
        record = self.records[invocation]
        if record.result is not None:
            return _done(self._stored(invocation, record))
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        record.waiters.append(waiter)
        return waiter

    def _stored(self, invocation: InvocationId, record: Record) -> Answer:
        assert record.result is not None
        expires_at = record.completed_at + DAY_MS
        return Answer(invocation, record.result, expires_at, record.request.target)


def as_engine(engine: MemoryEngine) -> Engine:
    """Only what the ingress asks for is there; operators have another door."""
    return cast(Engine, engine)


def _done(value: Any) -> Awaitable[Any]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def _failed(error: Exception) -> Awaitable[Any]:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future
