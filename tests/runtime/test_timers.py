"""Timers: in the order of their time, late rather than never, and no more of them in memory than may be."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from agentdur import Context, Service
from agentdur.core.ids import InvocationId
from agentdur.runtime import timers
from tests.support.stage import Ledger, Stage, until


def sleeping(ledger: Ledger) -> tuple[Service, object]:
    svc = Service("Timers", inactivity_timeout=timedelta(0))

    @svc.handler()
    async def nap(ctx: Context, ms: int) -> None:
        await ctx.sleep(timedelta(milliseconds=ms))
        ledger.write(str(ms))

    return svc, nap


async def test_scheduled_work_starts_in_the_order_of_its_time(stage: Stage):
    svc, ledger = Service("Timers"), Ledger()

    @svc.handler()
    async def note(ctx: Context, ms: int) -> None:
        ledger.write(str(ms))

    await stage.start(svc)
    delays = (60, 20, 40, 0, 50, 30)
    await asyncio.gather(
        *[stage.client.service_send(note, ms, send_delay=timedelta(milliseconds=ms)) for ms in delays]
    )
    await until(lambda: len(ledger.lines) == 6)
    assert ledger.lines == ["0", "20", "30", "40", "50", "60"]


async def test_an_execution_time_that_has_passed_is_now(stage: Stage):
    svc, ledger = Service("Timers"), Ledger()

    @svc.handler()
    async def note(ctx: Context) -> str:
        return ledger.write("ran")

    await stage.start(svc)
    sent = await stage.client.service_send(note, send_delay=timedelta(0))
    assert await stage.client.attach(sent.invocation_id) == "ran"


@pytest.mark.parametrize("restart", [False, True])
async def test_more_timers_than_memory_holds_all_fire(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, restart: bool
):
    """Memory has the three earliest; the store has them all."""
    monkeypatch.setattr(timers, "IN_MEMORY_MAX", 3)
    monkeypatch.setattr(timers, "PER_TURN_MAX", 2)
    ledger = Ledger()
    svc, nap = sleeping(ledger)
    await stage.start(svc)
    sent = [await stage.client.service_send(nap, 40 + 3 * n) for n in range(12)]
    for one in sent:
        await until(lambda one=one: len(stage.journal(one.invocation_id)) >= 2)
    if restart:
        await stage.restart()
    late = await stage.client.service_send(nap, 100)
    early = await stage.client.service_send(nap, 1)
    for one in (*sent, late, early):
        await asyncio.wait_for(stage.client.attach(one.invocation_id), 5)
    assert {int(line) for line in ledger.lines} == {*(40 + 3 * n for n in range(12)), 100, 1}
    assert stage.store.timers(100) == []


async def test_a_timer_of_what_is_gone_does_no_harm(stage: Stage):
    ledger = Ledger()
    svc, nap = sleeping(ledger)
    await stage.start(svc)
    sent = await stage.client.service_send(nap, 30)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 2)
    invocation = InvocationId(sent.invocation_id)
    await stage.engine.operate("kill", invocation)
    await stage.engine.operate("purge", invocation)
    await asyncio.sleep(0.05)
    assert ledger.lines == []
    assert stage.store.timers(10) == []
    assert await stage.status(invocation) == "unknown"


async def test_an_idle_engine_does_nothing(stage: Stage):
    """One timer far away: no commit, no attempt, and next to no turn of the loop."""
    ledger = Ledger()
    svc, nap = sleeping(ledger)
    await stage.start(svc)
    sent = await stage.client.service_send(nap, 3_600_000)
    await stage.until_status(sent.invocation_id, "suspended")
    await asyncio.sleep(0.03)
    before, cpu = stage.engine.machine.writer.number, time.process_time()
    await asyncio.sleep(0.15)
    assert stage.engine.machine.writer.number == before
    assert not stage.engine.machine.slots.invocations
    assert time.process_time() - cpu < 0.1
