"""Retention: what is kept after the end, and for how long (semantics §11)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, Service, VirtualObject, Workflow, WorkflowContext
from agentdur.core.errors import JournalGone, UnknownInvocation
from agentdur.core.ids import InvocationId
from agentdur.runtime import retention
from agentdur.runtime.owner import Knobs
from tests.support.stage import Stage, until

NONE = timedelta(0)
DAY = timedelta(days=1)
QUICK_SWEEP = Knobs(cleanup_seconds=0.02)


async def gone(stage: Stage, what: Callable[[], Any]) -> None:
    await until(lambda: not what(), "the sweep")


async def test_without_retention_nothing_is_left(stage: Stage):
    svc = Service("Keep", journal_retention=NONE)

    @svc.handler()
    async def work(ctx: Context) -> str:
        await ctx.run("step", lambda: None)
        return "done"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "done"
    sent = await stage.client.service_send(work)
    await gone(stage, stage.store.count)
    assert stage.journal(sent.invocation_id) == []
    assert stage.store.timers(10) == []
    with pytest.raises(UnknownInvocation):
        await stage.client.attach(sent.invocation_id)


async def test_an_idempotent_result_outlives_its_journal(stage: Stage):
    svc = Service("Keep", journal_retention=NONE, idempotency_retention=DAY)

    @svc.handler()
    async def work(ctx: Context) -> str:
        return "done"

    await stage.start(svc)
    sent = await stage.client.service_send(work, idempotency_key="k")
    assert await stage.client.attach(sent.invocation_id) == "done"
    assert await stage.client.service_call(work, idempotency_key="k") == "done"
    assert stage.journal(sent.invocation_id) == []
    with pytest.raises(JournalGone):
        await stage.engine.restart_as_new(InvocationId(sent.invocation_id))


async def test_what_is_past_its_time_is_swept(stage: Stage):
    soon = timedelta(milliseconds=30)
    svc = Service("Keep", journal_retention=soon)
    wf = Workflow("Flow")

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run("step", lambda: None)

    @svc.handler(idempotency_retention=DAY)
    async def kept(ctx: Context) -> str:
        return "kept"

    @wf.main(workflow_retention=soon)
    async def run(ctx: WorkflowContext) -> None:
        ctx.set("n", 1)
        await ctx.promise("p").resolve("x")

    await stage.start(svc, wf, knobs=QUICK_SWEEP)
    plain = await stage.client.service_send(work)
    idempotent = await stage.client.service_send(kept, idempotency_key="k")
    await stage.client.workflow_call(run, "k")
    await gone(stage, lambda: stage.journal(plain.invocation_id))
    await gone(stage, lambda: stage.journal(idempotent.invocation_id))
    await gone(stage, lambda: stage.store.count().get("completed", 0) > 1)
    assert await stage.client.attach(idempotent.invocation_id) == "kept"
    assert await stage.status(plain.invocation_id) == "unknown"
    await stage.client.workflow_call(run, "k")  # its key is free, and its promise is open again


async def test_expired_is_not_gone_until_it_is_swept(stage: Stage):
    svc = Service("Keep", idempotency_retention=NONE + timedelta(milliseconds=1))

    @svc.handler()
    async def work(ctx: Context, n: int) -> int:
        return n

    await stage.start(svc)
    assert await stage.client.service_call(work, 1, idempotency_key="k") == 1
    sent = await stage.client.service_send(work, 2, idempotency_key="k")
    await until(lambda: stage.store.expired(stage.engine.machine.world.now(), 10)[0])
    assert not sent.fresh
    assert await stage.client.service_call(work, 2, idempotency_key="k") == 1


async def test_what_runs_never_expires_and_state_stays(stage: Stage):
    obj = VirtualObject("Keep", journal_retention=timedelta(milliseconds=1))

    @obj.handler()
    async def work(ctx: ObjectContext) -> int:
        value = (await ctx.get("n", type_hint=int) or 0) + 1
        ctx.set("n", value)
        await ctx.sleep(timedelta(milliseconds=60))
        return value

    await stage.start(obj, knobs=QUICK_SWEEP)
    assert await stage.client.object_call(work, "k") == 1
    await gone(stage, stage.store.count)
    assert await stage.client.object_call(work, "k") == 2


async def test_a_crowd_is_swept_in_turns(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "PER_TURN_MAX", 3)
    svc = Service("Keep", journal_retention=timedelta(milliseconds=1))

    @svc.handler()
    async def work(ctx: Context) -> None:
        return None

    @svc.handler(idempotency_retention=DAY)
    async def kept(ctx: Context) -> None:
        return None

    await stage.start(svc)
    for n in range(10):
        await stage.client.service_call(work)
        await stage.client.service_call(kept, idempotency_key=str(n))
    await stage.stop()
    stage.reopen()
    await stage.start(svc, knobs=QUICK_SWEEP)
    await gone(stage, lambda: stage.store.count().get("completed", 0) > 10)
    await gone(stage, lambda: stage.store.expired(stage.engine.machine.world.now(), 10)[1])


async def test_a_sweep_that_meets_what_was_purged_by_hand_goes_on(stage: Stage):
    svc = Service("Keep", journal_retention=timedelta(milliseconds=1))

    @svc.handler()
    async def work(ctx: Context) -> None:
        return None

    await stage.start(svc)
    sent = [await stage.client.service_send(work) for _ in range(3)]
    for one in sent:
        await stage.client.attach(one.invocation_id)
    await until(lambda: len(stage.store.expired(stage.engine.machine.world.now(), 10)[0]) == 3)
    purge = stage.engine.operate("purge", InvocationId(sent[1].invocation_id))
    purging = asyncio.ensure_future(purge)
    await asyncio.sleep(0)
    assert stage.engine.sweeper.sweep_some() is False  # it still sees all three in the store
    await purging
    await gone(stage, stage.store.count)


async def test_nothing_is_swept_while_the_engine_stops(stage: Stage):
    svc = Service("Keep")

    @svc.handler()
    async def work(ctx: Context) -> None:
        return None

    await stage.start(svc)
    stage.engine.machine.stopping = True
    assert stage.engine.sweeper.sweep_some() is False
    stage.engine.machine.stopping = False
