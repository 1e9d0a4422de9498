"""Stopping in good order: steps finish, what waits is parked, callers are told, a new engine goes on."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from agentdur import Context, Service
from agentdur.core.errors import NotRunning
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.runtime.owner import Knobs
from tests.support.stage import Ledger, Stage, until


async def test_a_running_step_finishes_and_is_not_run_again(stage: Stage):
    svc, ledger = Service("Drain"), Ledger()

    async def slow() -> str:
        ledger.write("begins")
        await asyncio.sleep(0.03)
        return ledger.write("ends")

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        one = await ctx.run("slow", slow)
        _, answer = ctx.awakeable(type_hint=str)
        return [one, await answer]

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.lines)
    await stage.stop()
    assert ledger.lines == ["begins", "ends"]
    stage.reopen()
    await stage.start(svc)
    assert await stage.status(sent.invocation_id) == "suspended"
    await stage.client.resolve_awakeable(_awakeable(sent.invocation_id), "yes")
    assert await stage.client.attach(sent.invocation_id) == ["ends", "yes"]
    assert ledger.lines == ["begins", "ends"]


def _awakeable(invocation: str) -> str:
    return awakeable_id(InvocationId(invocation), 17)


async def test_a_step_that_does_not_end_is_left_to_the_next_engine(stage: Stage):
    svc, ledger = Service("Drain"), Ledger()
    patient = True

    async def long() -> str:
        ledger.write("begins")
        if patient:
            await asyncio.sleep(60)
        return "done"

    @svc.handler()
    async def work(ctx: Context) -> str:
        return await ctx.run("long", long)

    await stage.start(svc, knobs=Knobs(shutdown_seconds=0.03))
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.lines)
    begun = time.monotonic()
    await stage.stop()
    assert time.monotonic() - begun < 2
    patient = False
    stage.reopen()
    await stage.start(svc)
    assert await stage.client.attach(sent.invocation_id) == "done"
    assert ledger.lines == ["begins", "begins"]


async def test_nothing_is_accepted_any_more_and_callers_that_wait_are_told(stage: Stage):
    svc = Service("Drain")
    go = asyncio.Event()

    @svc.handler()
    async def work(ctx: Context) -> str:
        await ctx.run("wait", go.wait)
        await ctx.sleep(timedelta(seconds=60))
        return "never"

    await stage.start(svc)
    waiting = asyncio.create_task(stage.client.service_call(work, idempotency_key="k"))
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(stage.stop())
    await asyncio.sleep(0.005)
    with pytest.raises(NotRunning):
        await stage.client.service_send(work)
    with pytest.raises(NotRunning):
        await stage.client.service_call(work)
    go.set()
    await stopping
    with pytest.raises(NotRunning, match="goes on when it starts"):
        await waiting


async def test_children_and_retries_that_come_up_meanwhile_are_left_to_the_next_engine(stage: Stage):
    svc, ledger = Service("Drain"), Ledger()
    go = asyncio.Event()

    @svc.handler()
    async def child(ctx: Context) -> str:
        return ledger.write("child")

    @svc.handler()
    async def parent(ctx: Context) -> str:
        await ctx.run("wait", go.wait)
        return await ctx.service_call(child)

    @svc.handler()
    async def fails(ctx: Context) -> str:
        await ctx.run("wait", go.wait)
        ledger.write("attempt")
        if ledger.count("attempt") < 2:
            raise ValueError("once")
        return "ok"

    await stage.start(svc)
    sent = [await stage.client.service_send(parent), await stage.client.service_send(fails)]
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(stage.stop())
    await asyncio.sleep(0.005)
    go.set()
    await stopping
    await asyncio.sleep(0.02)
    assert ledger.lines == ["attempt"]
    stage.reopen()
    await stage.start(svc)
    assert [await stage.client.attach(one.invocation_id) for one in sent] == ["child", "ok"]
    assert ledger.counts == {"attempt": 2, "child": 1}


async def test_an_idle_engine_stops_at_once_and_starts_again(stage: Stage):
    svc = Service("Drain")

    @svc.handler()
    async def work(ctx: Context, n: int) -> int:
        return n

    for turn in range(3):
        await stage.start(svc)
        assert await stage.client.service_call(work, turn) == turn
        begun = time.monotonic()
        await stage.stop()
        assert time.monotonic() - begun < 1
        stage.reopen()
