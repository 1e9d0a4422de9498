"""The engine as frontends see it (core.ports.Engine), over one Machine and its in-process driver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agentdur.core import commands as c
from agentdur.core import journal as j
from agentdur.core.catalog import Catalog, HandlerOptions
from agentdur.core.edits import NO_TURNS, TurnEdit
from agentdur.core.errors import (
    IdempotencyNotAllowed,
    JournalGone,
    StoreError,
    UnknownHandler,
    UnknownInvocation,
    ValueTooLarge,
)
from agentdur.core.ids import InvocationId
from agentdur.core.machine.propose import retention
from agentdur.core.machine.submit import ALREADY_INVOKED
from agentdur.core.ports import Answer, Filter, Operation, Page, Receipt, Request, Selection, Store, Stream
from agentdur.core.query import QueryLimits, Table
from agentdur.core.search import Findings, Search
from agentdur.core.state import Invocation, Status
from agentdur.core.target import HandlerKind, ObjectAddress, PromiseAddress, Target
from agentdur.observe.observer import EngineObserver
from agentdur.runtime import views
from agentdur.runtime.attempts import ATTEMPTS_KEPT_MAX
from agentdur.runtime.drivers.inproc import InProcess
from agentdur.runtime.drivers.remote import Remote
from agentdur.runtime.drivers.router import Router
from agentdur.runtime.edits import Wanted
from agentdur.runtime.engine import Machine
from agentdur.runtime.observed import Observed
from agentdur.runtime.operators import Operators
from agentdur.runtime.own import KEPT_AS, KEPT_IN, KEPT_MAX, kept_at
from agentdur.runtime.queries import Queries, live_of
from agentdur.runtime.reader import Nothing, Subject
from agentdur.runtime.remote.deployments import Deployments, Signer
from agentdur.runtime.retention import Sweeper
from agentdur.runtime.slots import Slot
from agentdur.runtime.streams import StreamLimits, read_position
from agentdur.runtime.watch import Watch
from agentdur.runtime.world import RealWorld, World
from agentdur.runtime.writer import Committer, ThreadCommitter
from agentdur.sdk.branch import install
from agentdur.sdk.client import EngineClient
from agentdur.sdk.context import Limits
from agentdur.sdk.service import Handler


class Knobs:
    """What an engine can be told; the limits' names are the settings' names."""

    __slots__ = (
        "cleanup_seconds", "entry_size", "failed_attempts", "journal_length", "live_attempts",
        "message_seconds", "node", "queries", "shutdown_seconds", "streams", "tool_answer",
    )  # fmt: skip

    def __init__(
        self,
        *,
        live_attempts: int = 1000,
        entry_size: int = 32 * 1024 * 1024,
        journal_length: int = 100_000,
        cleanup_seconds: float = 3600.0,
        shutdown_seconds: float = 10.0,
        streams: StreamLimits | None = None,
        tool_answer: int = 256 * 1024,
        message_seconds: float = 7 * 24 * 3600.0,
        queries: QueryLimits | None = None,
        failed_attempts: int = ATTEMPTS_KEPT_MAX,
        node: str = "",
    ) -> None:
        self.failed_attempts, self.node = failed_attempts, node
        self.tool_answer, self.queries = tool_answer, queries or QueryLimits()
        self.live_attempts, self.entry_size, self.journal_length = live_attempts, entry_size, journal_length
        self.cleanup_seconds, self.shutdown_seconds = cleanup_seconds, shutdown_seconds
        self.streams, self.message_seconds = streams or StreamLimits(), message_seconds


class Engine:
    """Accepts, runs and answers. Create it on the loop it shall live on; `start` before use, `stop` after."""

    def __init__(
        self,
        store: Store,
        handlers: dict[tuple[str, str], Handler],
        catalog: Catalog,
        *,
        knobs: Knobs | None = None,
        defaults: HandlerOptions | None = None,
        signer: Signer | None = None,
        world: World | None = None,
        committer: Callable[[], Committer] = ThreadCommitter,
        observer: EngineObserver | None = None,
    ) -> None:
        self.knobs = knobs or Knobs()
        self.observer = observer
        self.store = store
        self._handlers, self._catalog = handlers, catalog
        self._retention: dict[tuple[str, str, bool], tuple[int, int]] = {}
        self._world, self._committer = world or RealWorld(), committer
        self.deployments = Deployments(
            catalog, defaults or HandlerOptions(), world=self._world, save=self._save, keep=self._keep,
            changed=self._serve, signer=signer,
        )  # fmt: skip
        self.remote: Remote
        self.machine: Machine
        self.operators: Operators
        self.driver: InProcess

    @property
    def catalog(self) -> Catalog:
        """What is served."""
        return self._catalog

    @property
    def entry_size(self) -> int:
        """The largest payload, bytes."""
        return self.knobs.entry_size

    def serves(self, service: str, handler: str) -> bool:
        """Whether this process runs the handler."""
        return (service, handler) in self._handlers

    # -- life

    async def start(self) -> None:
        """Open the store and go on with everything that was running."""
        self.store.open()
        self._uninstall = install(asyncio.get_running_loop())
        self.machine = Machine(self.store, self._committer, self._world, self._catalog)
        self.machine.streams.limits = self.knobs.streams
        failures = self.machine.failures
        failures.kept_max, failures.node = self.knobs.failed_attempts, self.knobs.node
        if self.observer is not None:
            self.machine.observed = Observed(self.observer, self.store)
            self.machine.observed.forget(self.machine.writer)
        limits = Limits(self.knobs.entry_size, self.knobs.tool_answer)
        self.driver = InProcess(self.machine, self._handlers, self.knobs.live_attempts, limits)
        self.remote = Remote(self.machine, self.deployments, self.knobs.live_attempts)
        self.deployments.running = self.remote.runs_at
        self.driver.journal_max = self.remote.journal_max = self.knobs.journal_length
        self.operators = Operators(self, self.machine)
        self.queries = Queries(self.store, self.knobs.queries)
        kept = self.store.states(KEPT_IN, KEPT_AS, "", KEPT_MAX)
        self.deployments.load(self.store.deployments(), kept)
        try:
            self.machine.recover()
        except StoreError:
            self.machine.stopping = True  # it would try again by itself
            self._uninstall()
            raise
        self.sweeper = Sweeper(self.machine, self.knobs.cleanup_seconds, self.knobs.message_seconds)
        self.sweeper.start()

    async def drain(self) -> None:
        """Accept nothing, let steps finish for a while, commit; who still waits for a result is told to ask
        the successor."""
        self.machine.stopping = True
        self.sweeper.stop()
        seconds = self.knobs.shutdown_seconds
        await asyncio.gather(self.driver.drain(seconds), self.remote.drain(seconds))
        await self.queries.stop()
        await self.machine.close()
        await self.deployments.close()

    def hurry(self) -> None:
        """End the draining now."""
        self.driver.hurry = self.remote.hurry = True

    async def stop(self) -> None:
        """Drain, and close the store."""
        await self.drain()
        self._uninstall()
        self.store.close()

    def client(self) -> EngineClient:
        """Typed calls into this engine."""
        return EngineClient(self)

    # -- deployments

    def _serve(self, catalog: Catalog) -> None:
        """Other services than before: new calls see them from now on."""
        self._catalog = self.machine.catalog = catalog
        self.driver.serve(catalog)
        self._retention.clear()
        self.machine.driver = Router(self.driver, self.remote)

    async def _save(self, deployment: str, record: bytes | None) -> None:
        self.machine.check_alive()
        self.machine.writer.touch()
        self.machine.writer.writes.deployments[deployment] = record
        await self.durable()

    async def _keep(self, service: str, override: bytes) -> None:
        self.machine.check_alive()
        self.machine.writer.touch()
        self.machine.writer.writes.values[(kept_at(service), KEPT_AS)] = override
        await self.durable()

    # -- submissions

    def _submit(self, request: Request) -> c.Submit:
        machine = self.machine
        machine.check_alive()
        target = request.target
        idempotent = request.idempotency_key is not None
        kept = self._retention.get((target.service, target.handler, idempotent))
        if kept is None:
            kept = self._retention_of(target, idempotent)
        if len(request.value) > self.knobs.entry_size:
            raise ValueTooLarge(
                f"the input has {len(request.value)} bytes, the limit is {self.knobs.entry_size} "
                "(entry-size-limit)"
            )
        new = machine.names.new(target, request.idempotency_key)
        return c.Submit(
            id=new, target=target, value=request.value,
            headers=request.headers, idempotency_key=request.idempotency_key,
            execute_at=None if request.delay_ms is None else self._world.now() + request.delay_ms,
            completion_retention_ms=kept[0], journal_retention_ms=kept[1],
            traceparent=self.traceparent(new, request.headers),
        )  # fmt: skip

    def traceparent(self, new: InvocationId, headers: j.Headers = ()) -> str:
        """The trace context of a new invocation; empty when nobody traces."""
        return "" if self.observer is None else self.observer.accepts(new, headers)

    def figures(self) -> dict[str, int]:
        """Attempts in memory (`live`, of which `waiting`; `elsewhere`), and those that wait for room
        (`ready`)."""
        own, remote = self.driver, self.remote
        return {
            "live": len(own.live), "waiting": len(own.idle), "elsewhere": len(remote.live),
            "ready": len(own.ready) + len(remote.ready),
        }  # fmt: skip

    def _retention_of(self, target: Target, idempotent: bool) -> tuple[int, int]:
        """(completion, journal) retention in ms; refuses what cannot be submitted."""
        meta = self._catalog.find(target.service, target.handler)
        if meta is None:
            raise UnknownHandler(f"{target.service}/{target.handler}")
        if meta.kind is HandlerKind.WORKFLOW and idempotent:
            raise IdempotencyNotAllowed(f"{target.service}/{target.handler}")
        kept = self._retention[(target.service, target.handler, idempotent)] = retention(meta, idempotent)
        return kept

    def call(self, request: Request) -> tuple[InvocationId, Awaitable[Answer]]:
        """Submit and wait for the end."""
        message = self._submit(request)
        machine = self.machine
        if not machine.names.is_fresh(message):
            slot = machine.slots.find(message.id)
            if slot is not None and slot.state is not None:
                machine.release(slot)
                return message.id, self._meet(message, slot.state, slot.touched)
        else:
            machine.slots.fresh(message.id)
        future: asyncio.Future[Answer] = machine.loop.create_future()
        machine.waiting[message.id] = [future]
        machine.dispatch(message)
        return message.id, future

    def _meet(self, message: c.Submit, state: Invocation, touched: int) -> Awaitable[Answer]:
        if message.target.handler_kind is HandlerKind.WORKFLOW:
            return self._after(touched, Answer(message.id, ALREADY_INVOKED))
        if state.head.result is not None:
            return self._after(touched, stored_answer(state))
        return self._wait(message.id)

    def _wait(self, invocation: InvocationId) -> asyncio.Future[Answer]:
        waiting = self.machine.waiting.setdefault(invocation, [])
        waiting[:] = [other for other in waiting if not other.done()]  # those who left
        future: asyncio.Future[Answer] = self.machine.loop.create_future()
        waiting.append(future)
        return future

    async def _after(self, number: int, answer: Answer) -> Answer:
        await self.durable(number)
        return answer

    async def durable(self, number: int | None = None) -> None:
        """Until a commit (default: the one being collected) is done; may be cancelled freely."""
        writer = self.machine.writer
        future = writer.durable(writer.number if number is None else number)
        if future is not None:
            await asyncio.shield(future)

    def send(self, request: Request) -> tuple[InvocationId, Awaitable[Receipt]]:
        """Submit; the receipt comes when it is durable."""
        message = self._submit(request)
        machine = self.machine
        if not machine.names.is_fresh(message):
            slot = machine.slots.find(message.id)
            if slot is not None and slot.state is not None:
                machine.release(slot)
                state = slot.state
                waiting = state.head.status in (Status.SCHEDULED, Status.INBOXED)
                at = state.spec.execute_at if waiting else None
                return message.id, self._receipt(Receipt(message.id, False, at), slot.touched)
        machine.dispatch(message)
        receipt = Receipt(message.id, True, message.execute_at)
        return message.id, self._receipt(receipt, machine.writer.number)

    async def _receipt(self, receipt: Receipt, number: int) -> Receipt:
        await self.durable(number)
        return receipt

    def lookup(self, target: Target, idempotency_key: str | None) -> InvocationId:
        """The id a workflow run or an idempotent request has."""
        return self.machine.names.new(target, idempotency_key)

    # -- results

    def _known(self, invocation: InvocationId) -> tuple[Invocation, int]:
        slot, state = self.slot(invocation)
        return state, slot.touched

    def slot(self, invocation: InvocationId) -> tuple[Slot, Invocation]:
        self.machine.check_alive()
        slot = self.machine.slots.find(invocation)
        if slot is None or slot.state is None:
            raise UnknownInvocation(invocation)
        self.machine.release(slot)
        return slot, slot.state

    async def attach(self, invocation: InvocationId) -> Answer:
        """Wait for the end."""
        state, touched = self._known(invocation)
        if state.head.result is not None:
            return await self._after(touched, stored_answer(state))
        return await self._wait(invocation)

    async def output(self, invocation: InvocationId) -> Answer | None:
        """The end, if it is there."""
        state, touched = self._known(invocation)
        if state.head.result is None:
            return None
        return await self._after(touched, stored_answer(state))

    def stream(self, invocation: InvocationId, after: str | None = None) -> Stream:
        """What it streams, from its beginning or after an event."""
        position = read_position(after)
        slot, state = self.slot(invocation)
        if position.ended:
            return Nothing()
        ended = state.head.result is not None
        if ended and not state.journal_kept:
            raise JournalGone(invocation)
        length = None if ended else state.length
        return self.machine.streams.read(Subject(invocation, slot.seq, slot.touched), length, position)

    # -- signals, promises, state

    async def signal(self, invocation: InvocationId, signal: int | str, result: j.Result) -> None:
        """Complete an awakeable or a named signal."""
        self.machine.check_alive()
        self.machine.dispatch(c.SignalTo(invocation, signal, result))
        await self.durable()

    async def settle(self, promise: PromiseAddress, result: j.Result) -> bool:
        """Complete a durable promise."""
        self.machine.check_alive()
        before = self.machine.promise_state(promise)
        if before is not None and before.result is not None:
            return False
        self.machine.dispatch(c.SettlePromise(promise, result))
        await self.durable()
        return True

    async def edit_state(self, key: ObjectAddress, values: dict[str, bytes], version: str | None) -> None:
        """Replace a key's whole state, after the handler that runs."""
        await self.operators.edit_state(key, values, version)

    # -- operators

    async def operate(
        self, action: Operation, invocation: InvocationId, deployment: str = "keep", *, dry_run: bool = False
    ) -> bool:
        """Cancel, kill, pause, resume or purge."""
        return await self.operators.operate(action, invocation, deployment, dry_run=dry_run)

    async def restart_as_new(
        self,
        invocation: InvocationId,
        from_entry: int = 0,
        deployment: str = "latest",
        *,
        dry_run: bool = False,
    ) -> InvocationId:
        """A new invocation with the same input and the journal up to `from_entry`."""
        return await self.operators.restart_as_new(invocation, from_entry, deployment, dry_run=dry_run)

    async def fork(
        self,
        invocation: InvocationId,
        from_entry: int | None,
        edits: Mapping[int, bytes],
        deployment: str = "latest",
        *,
        turns: Mapping[int, TurnEdit] = NO_TURNS,
    ) -> InvocationId:
        """As `restart_as_new`, with other values in the journal, and turns that are asked otherwise."""
        wanted = Wanted(from_entry, edits, turns)
        return await self.operators.restart_as_new(invocation, 0, deployment, wanted=wanted)

    async def select(self, which: Selection) -> Page:
        """Those that have something in common, newest first."""
        await self._readable()
        return await self.operators.select(which)

    # -- views

    async def _readable(self) -> None:
        """Until what is being committed can be read; the StoreError when the store has failed."""
        if self.machine.error is not None:
            raise self.machine.error
        await self.durable(self.machine.writer.number - 1)

    async def state(self, service: str, key: str, name: str) -> bytes | None:
        """One state value of a key, as committed."""
        await self._readable()
        return self.store.value(ObjectAddress(service, key), name)

    async def values(self, key: ObjectAddress) -> tuple[str, dict[str, bytes]]:
        """(version, all state values) of a key, as committed."""
        await self._readable()
        values = self.store.values(key)
        return self.operators.version_of(values), values

    async def describe(self, invocation: InvocationId) -> dict[str, Any] | None:
        """Everything known about one invocation."""
        await self._readable()
        return views.describe(self.machine, invocation)

    async def states(
        self, service: str, name: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, bytes]]:
        """One state value of every key that has it, by key, as committed."""
        await self._readable()
        return self.store.states(service, name, after, limit)

    def watch(self, invocation: InvocationId) -> Watch:
        """Look at one invocation while it goes on."""
        return Watch(self.machine, invocation)

    async def conversation(self, head: str) -> list[Any] | None:
        """The messages that a model step's note refers to."""
        await self._readable()
        found = self.store.conversation(head)
        return None if found is None else [views.payload(value) for value in found]

    async def list(self, which: Filter) -> list[dict[str, Any]]:
        """Stored invocations, newest first."""
        await self._readable()
        return [views.summary(self.machine, row) for row in self.store.list(which)]

    async def query(self, sql: str) -> Table:
        """The answer to a question in SQL, as committed."""
        await self._readable()
        return await self.queries.ask(sql, self._world.now(), live_of(self))

    async def search(self, what: Search) -> tuple[Findings, dict[str, dict[str, Any]]]:
        """Look for text, as committed; where it was found."""
        await self._readable()
        findings = await self.queries.search(what)
        return findings, views.summaries(self.machine, [match.id for match in findings.matches])


def stored_answer(state: Invocation) -> Answer:
    """The answer from a stored completion."""
    assert state.head.result is not None
    assert state.head.completed_at is not None
    expires_at = state.head.completed_at + state.spec.completion_retention_ms
    return Answer(state.id, state.head.result, expires_at, state.spec.target)
