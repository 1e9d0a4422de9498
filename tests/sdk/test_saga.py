"""Sagas: what was done is undone in reverse when the whole cannot succeed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.core.ids import InvocationId
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, until
from tests.support.stories import every_crash


def booking(ledger: Ledger) -> tuple[Service, Any]:
    """Three bookings; the last one fails as it is told."""
    svc = Service("Booking")

    @svc.handler()
    async def book(ctx: Context, how: str) -> str:
        async with ctx.saga() as saga:
            for what in ("flight", "hotel"):
                saga.add(f"cancel {what}", ledger.write, f"cancel {what}")
                await ctx.run(f"book {what}", ledger.write, f"book {what}")
            saga.add("cancel car", ledger.write, "cancel car")
            match how:
                case "terminal":
                    raise TerminalError("no car", 410)
                case "exhausted":
                    await ctx.run("book car", broken, max_attempts=1)
                case "group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(refused())
                case "transient":
                    if ledger.count("hiccup") < 2:
                        ledger.write("hiccup")
                        raise ValueError("hiccup")
                case "cancel":
                    await ctx.sleep(timedelta(seconds=60))
        return "booked"

    async def refused() -> None:
        raise TerminalError("no car", 410)

    def broken() -> None:
        raise ValueError("no car")

    return svc, book


BOOKED = ["book flight", "book hotel"]
UNDONE = ["cancel car", "cancel hotel", "cancel flight"]


@pytest.mark.parametrize("how", ["terminal", "exhausted", "group"])
async def test_a_terminal_failure_undoes_in_reverse_and_is_raised(stage: Stage, how: str):
    ledger = Ledger()
    svc, book = booking(ledger)
    await stage.start(svc)
    with pytest.raises(TerminalError, match="no car"):
        await stage.client.service_call(book, how)
    assert ledger.lines == BOOKED + UNDONE


async def test_success_and_transient_failures_undo_nothing(stage: Stage):
    ledger = Ledger()
    svc, book = booking(ledger)
    await stage.start(svc)
    assert await stage.client.service_call(book, "fine") == "booked"
    assert await stage.client.service_call(book, "transient") == "booked"
    assert ledger.lines == BOOKED + BOOKED + ["hiccup"] * 2


async def test_a_cancel_undoes(stage: Stage):
    ledger = Ledger()
    svc, book = booking(ledger)
    await stage.start(svc)
    sent = await stage.client.service_send(book, "cancel")
    await until(lambda: len(stage.journal(sent.invocation_id)) == 6)
    await stage.engine.operate("cancel", InvocationId(sent.invocation_id))
    with pytest.raises(TerminalError, match="cancelled"):
        await stage.client.attach(sent.invocation_id)
    assert ledger.lines == BOOKED + UNDONE


async def test_a_kill_undoes_nothing(stage: Stage):
    ledger = Ledger()
    svc, book = booking(ledger)
    await stage.start(svc)
    sent = await stage.client.service_send(book, "cancel")
    await until(lambda: len(stage.journal(sent.invocation_id)) == 6)
    await stage.engine.operate("kill", InvocationId(sent.invocation_id))
    with pytest.raises(TerminalError, match="killed"):
        await stage.client.attach(sent.invocation_id)
    await asyncio.sleep(0.01)
    assert ledger.lines == BOOKED


@IN_MEMORY_AT_ONCE
async def test_compensation_goes_on_after_a_crash_in_the_middle_of_it(stage: Stage):
    ledger = Ledger()
    svc, book = booking(ledger)

    async def ask(on: Stage) -> Any:
        with pytest.raises(TerminalError, match="no car"):
            await on.client.service_call(book, "terminal", idempotency_key="one")
        return list(ledger.lines)

    def check(lines: Any, crashed: bool) -> None:
        first_seen = list(dict.fromkeys(lines))
        assert first_seen == BOOKED + UNDONE
        assert len(lines) <= len(first_seen) + crashed
        ledger.lines.clear()

    assert await every_crash(stage, (svc,), ask, check) >= 10


async def test_compensation_by_hand(stage: Stage):
    svc, ledger = Service("Booking"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        saga = ctx.saga()
        saga.add("one", ledger.write, "one")
        saga.add("two", ledger.write, line="two")
        await saga.compensate()
        await saga.compensate()
        return "done"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "done"
    assert ledger.lines == ["two", "one"]
