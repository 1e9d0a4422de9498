"""A store that fails for a while: who asks is told, and all that was acknowledged goes on when it works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.core.errors import StoreError, StoreFailed, StoreFull
from agentdur.core.ids import InvocationId
from agentdur.runtime.owner import Knobs
from tests.support.failing import Broken, FailingStore
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, check_journal, until

SOON = timedelta(milliseconds=20)
QUICK_SWEEP = Knobs(cleanup_seconds=0.02)


@pytest.fixture
async def failing(stage: Stage) -> AsyncIterator[FailingStore]:
    """The stage's store, that can be told to fail."""
    yield FailingStore(stage.store)


def working(ledger: Ledger) -> tuple[Service, Any]:
    svc = Service("Work")

    @svc.handler()
    async def work(ctx: Context, name: str) -> list[str]:
        out = [await ctx.run(f"{name}{n}", ledger.write, f"{name}{n}") for n in range(3)]
        await ctx.sleep(timedelta(milliseconds=1))
        return out

    return svc, work


async def alive(stage: Stage) -> None:
    await until(lambda: stage.engine.machine.error is None, "the revival")


@pytest.mark.slow
async def test_callers_get_the_stores_error_and_what_was_acknowledged_goes_on(
    stage: Stage, failing: FailingStore
):
    ledger = Ledger()
    svc, work = working(ledger)
    await stage.start(svc, store=failing)  # type: ignore[arg-type]  # all of it is delegated
    kept = await stage.client.service_send(work, "kept", idempotency_key="kept", send_delay=SOON)
    failing.fail("commit", StoreFull("disk"), times=3)
    asked = [
        asyncio.create_task(stage.client.service_call(work, "call", idempotency_key="call")),
        asyncio.create_task(stage.client.service_send(work, "send", idempotency_key="send")),
        asyncio.create_task(stage.client.attach(kept.invocation_id)),
    ]
    for refused in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(refused, StoreFull)
        assert refused.code == "AD0051"
    with pytest.raises(StoreFull):
        await stage.client.service_send(work, "more")
    with pytest.raises(StoreFull):
        await stage.client.attach(kept.invocation_id)
    assert await insist(stage, lambda: stage.client.attach(kept.invocation_id)) == [
        f"kept{n}" for n in range(3)
    ]
    assert await insist(stage, lambda: stage.client.service_call(work, "call", idempotency_key="call")) == [
        f"call{n}" for n in range(3)
    ]
    check_journal(stage.journal(kept.invocation_id))


async def insist(stage: Stage, ask: Callable[[], Awaitable[Any]]) -> Any:
    """As a client does: ask again while the store fails."""
    while True:
        try:
            return await asyncio.wait_for(ask(), 5)
        except StoreError:
            await alive(stage)


@IN_MEMORY_AT_ONCE
@pytest.mark.parametrize("commit", range(1, 9))
@pytest.mark.slow
async def test_whichever_commit_fails_the_end_is_the_same(stage: Stage, failing: FailingStore, commit: int):
    ledger = Ledger()
    svc, _ = working(ledger)
    obj = VirtualObject("Counter")

    @obj.handler()
    async def add(ctx: ObjectContext) -> int:
        value = (await ctx.get("n", type_hint=int) or 0) + 1
        ctx.set("n", value)
        await ctx.run("log", ledger.write, "log")
        return value

    @svc.handler()
    async def both(ctx: Context) -> list[int]:
        return [await ctx.object_call(add, "k"), await ctx.object_call(add, "k")]

    await stage.start(svc, obj, store=failing)
    failing.fail("commit", StoreFull("disk"), after=commit - 1)
    for _ in range(2):
        assert await insist(stage, lambda: stage.client.service_call(both, idempotency_key="one")) == [1, 2]
    assert 2 <= ledger.count("log") <= 3


async def test_an_answer_that_waits_for_a_commit_that_fails_is_the_error(stage: Stage, failing: FailingStore):
    svc = Service("Work")
    gate = threading.Event()

    @svc.handler()
    async def work(ctx: Context) -> str:
        return "done"

    await stage.start(svc, store=failing)
    failing.gate = gate
    asked = asyncio.create_task(stage.client.service_call(work))
    await until(failing.at_gate.is_set)
    await asyncio.sleep(0.005)  # by now the answer waits
    failing.fail("commit", StoreFull("disk"))
    failing.gate = None
    gate.set()
    with pytest.raises(StoreFull):
        await asyncio.wait_for(asked, 5)
    await alive(stage)


async def test_steps_that_wait_for_a_commit_that_fails_do_not_run(stage: Stage, failing: FailingStore):
    ledger = Ledger()
    svc, work = working(ledger)
    gate = threading.Event()
    await stage.start(svc, store=failing)
    failing.gate = gate
    asked = asyncio.create_task(stage.client.service_call(work, "x", idempotency_key="x"))
    await until(failing.at_gate.is_set)
    failing.fail("commit", StoreFull("disk"))
    failing.gate = None
    gate.set()
    with pytest.raises(StoreFull):
        await asked
    assert ledger.lines == []
    await alive(stage)
    assert await stage.client.service_call(work, "x", idempotency_key="x") == ["x0", "x1", "x2"]


async def test_who_stops_waiting_for_a_commit_stops_alone(stage: Stage, failing: FailingStore):
    """Killing one invocation that waits for the disk does not disturb the others that wait for it too."""
    ledger = Ledger()
    svc, work = working(ledger)
    gate = threading.Event()
    await stage.start(svc, store=failing)
    failing.gate = gate
    sending = [
        asyncio.create_task(stage.client.service_send(work, name, idempotency_key=name)) for name in "abc"
    ]
    await until(failing.at_gate.is_set)
    await asyncio.sleep(0.005)
    target = stage.engine.catalog.target("Work", "work")
    assert target is not None
    killed = stage.engine.lookup(target, "a")
    killing = asyncio.create_task(stage.engine.operate("kill", killed))
    await asyncio.sleep(0.005)
    failing.gate = None
    gate.set()
    sent = [await one for one in sending]
    await killing
    assert await stage.client.attach(sent[1].invocation_id) == ["b0", "b1", "b2"]
    assert await stage.client.attach(sent[2].invocation_id) == ["c0", "c1", "c2"]
    assert ledger.count("a0") == 0
    assert stage.engine.machine.error is None


@pytest.mark.parametrize("method", ["invocation", "journal", "object", "values", "prepare"])
async def test_a_read_that_fails_is_a_failure_of_the_store_too(
    stage: Stage, failing: FailingStore, method: str
):
    """Half of what belongs together was said: memory is forgotten, and the store has the truth."""
    svc, obj, ledger = Service("Work"), VirtualObject("Key"), Ledger()

    @obj.handler()
    async def keyed(ctx: ObjectContext) -> int:
        value = (await ctx.get("n", type_hint=int) or 0) + 1
        ctx.set("n", value)
        return value

    @svc.handler()
    async def work(ctx: Context) -> int:
        await ctx.run("one", ledger.write, "one")
        if ledger.count("fell") < 1:
            ledger.write("fell")
            raise ValueError("again")
        return await ctx.object_call(keyed, "k")

    await stage.start(svc, obj, store=failing)
    failing.fail(method, Broken("test"))
    assert await insist(stage, lambda: stage.client.service_call(work, idempotency_key="one")) == 1
    assert failing.errors[method] == []
    assert await stage.client.service_call(work, idempotency_key="one") == 1
    assert await stage.client.object_call(keyed, "k") == 2


@pytest.mark.parametrize("method", ["open", "next_seq", "running", "timers", "journal"])
@pytest.mark.slow
async def test_a_revival_that_fails_is_tried_again(stage: Stage, failing: FailingStore, method: str):
    ledger = Ledger()
    svc, work = working(ledger)
    go = asyncio.Event()

    @svc.handler()
    async def waits(ctx: Context) -> str:
        await ctx.run("wait", go.wait)
        return "ok"

    await stage.start(svc, store=failing)
    sent = await stage.client.service_send(waits)
    threads = threading.active_count()
    failing.fail("commit", StoreFull("disk"))
    with pytest.raises(StoreFull):
        await stage.client.service_send(work, "x")
    failing.fail(method, Broken("test"))
    await until(lambda: failing.errors[method] == [] and stage.engine.machine.error is None)
    go.set()
    assert await stage.client.attach(sent.invocation_id) == "ok"
    assert threading.active_count() <= threads  # the writers that failed are gone


async def test_an_unknown_error_of_a_store_is_a_store_error(stage: Stage, failing: FailingStore):
    ledger = Ledger()
    svc, work = working(ledger)
    await stage.start(svc, store=failing)
    failing.fail("commit", ZeroDivisionError("oops"))
    with pytest.raises(StoreFailed, match="ZeroDivisionError: oops"):
        await stage.client.service_call(work, "x")
    await alive(stage)


async def test_an_engine_with_a_failed_store_can_be_stopped(stage: Stage, failing: FailingStore):
    ledger = Ledger()
    svc, work = working(ledger)
    await stage.start(svc, store=failing)
    failing.fail("commit", StoreFull("disk"), times=100)
    with pytest.raises(StoreFull):
        await stage.client.service_call(work, "x")
    await asyncio.wait_for(stage.stop(), 5)
    stage.reopen()
    await stage.start(svc)
    assert await stage.client.service_call(work, "x") == ["x0", "x1", "x2"]


async def test_a_store_that_cannot_be_read_at_the_start_starts_nothing(stage: Stage, failing: FailingStore):
    ledger = Ledger()
    svc, _ = working(ledger)
    failing.fail("running", Broken("test"))
    with pytest.raises(Broken):
        await stage.start(svc, store=failing)
    assert asyncio.get_running_loop().get_task_factory() is None
    stage.engine.machine.writer.committer.stop()
    stage.store.close()
    stage.reopen()
    await stage.start(svc)


async def test_a_sweep_survives_a_store_that_cannot_be_read(stage: Stage, failing: FailingStore):
    svc = Service("Work", journal_retention=timedelta(milliseconds=1))

    @svc.handler()
    async def work(ctx: Context) -> None:
        return None

    await stage.start(svc, store=failing, knobs=QUICK_SWEEP)
    failing.fail("expired", Broken("test"), times=2)
    sent = await stage.client.service_send(work)
    await until(lambda: stage.store.invocation(InvocationId(sent.invocation_id)) is None)
    assert failing.errors["expired"] == []
