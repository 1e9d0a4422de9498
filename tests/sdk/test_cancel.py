"""Cancellation: cooperative, once, and the same on every replay."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, RetryableError, Service, TerminalError, VirtualObject
from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Filter
from tests.support.cancelling import cancel, ended_cancelled, waiting
from tests.support.stage import Ledger, Stage, check_journal, until

LATE = timedelta(seconds=60)


async def test_what_waits_is_told_at_once(stage: Stage):
    svc = Service("Cancel")

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.sleep(LATE)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await waiting(stage, sent, 2)
    assert await cancel(stage, sent) is False  # under way
    await ended_cancelled(stage, sent)
    check_journal(stage.journal(sent.invocation_id))


async def test_a_running_step_is_stopped_and_its_socket_closed(stage: Stage):
    svc = Service("Cancel")
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        closed.set()
        writer.close()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await reader.read()
        finally:
            writer.close()

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run("ask", ask)

    came = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    try:
        await stage.start(svc)
        sent = await stage.client.service_send(work)
        await came.wait()
        await cancel(stage, sent)
        await asyncio.wait_for(closed.wait(), 5)
        await ended_cancelled(stage, sent)
    finally:
        server.close()


async def test_a_step_in_a_thread_is_left_behind(stage: Stage):
    svc, ledger = Service("Cancel"), Ledger()
    go = asyncio.Event()

    def block() -> None:
        ledger.write("blocks")
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run("block", block)

    loop = asyncio.get_running_loop()
    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.lines)
    await cancel(stage, sent)
    await ended_cancelled(stage, sent)
    go.set()


@pytest.mark.parametrize("reaction", ["swallows", "refuses", "breaks"])
async def test_whatever_a_step_makes_of_its_interruption_comes_too_late(stage: Stage, reaction: str):
    """What the handler sees is the cancellation, now and on every replay."""
    svc, ledger = Service("Cancel"), Ledger()

    async def stubborn() -> str:
        ledger.write("step")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            match reaction:
                case "swallows":
                    return "never mind"
                case "refuses":
                    raise TerminalError("mine") from None
                case _:
                    raise ValueError("broken") from None
        return "slept"

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            await ctx.run("stubborn", stubborn)
        except TerminalError as error:
            ledger.write(error.message)
            await ctx.run("undo", lambda: None)
            async with asyncio.timeout(10):  # its task is not under cancellation any more
                await ctx.sleep(timedelta(milliseconds=1))
            if ledger.count("cancelled") < 3:
                raise ValueError("again") from error
            return "undone"
        return "done"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.count("step"))
    await cancel(stage, sent)
    assert await stage.client.attach(sent.invocation_id) == "undone"
    assert ledger.counts == {"step": 1, "cancelled": 3}


async def test_compensation_runs_and_a_second_cancel_interrupts_it(stage: Stage):
    svc, ledger = Service("Cancel"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            await ctx.sleep(LATE)
        except TerminalError:
            await ctx.run("undo one", ledger.write, "undo one")
            try:
                await ctx.sleep(LATE)
            except TerminalError:
                await ctx.run("undo two", ledger.write, "undo two")
                if ledger.count("again") < 2:
                    ledger.write("again")
                    raise ValueError("again") from None
                return "both undone"
        return "never"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await waiting(stage, sent, 2)
    await cancel(stage, sent)
    await waiting(stage, sent, 8)  # "undo one" and the sleep after it are committed
    await stage.restart()
    await cancel(stage, sent)
    assert await stage.client.attach(sent.invocation_id) == "both undone"
    assert ledger.counts == {"undo one": 1, "undo two": 1, "again": 2}
    check_journal(stage.journal(sent.invocation_id))


async def test_calls_are_cancelled_with_their_caller_and_sends_are_not(stage: Stage):
    svc, ledger = Service("Cancel"), Ledger()

    @svc.handler()
    async def child(ctx: Context, name: str) -> str:
        ledger.write(f"{name} begins")
        try:
            await ctx.sleep(timedelta(milliseconds=150) if name == "sent" else LATE)
        except TerminalError:
            ledger.write(f"{name} cancelled")
            raise
        ledger.write(f"{name} ends")
        return name

    @svc.handler()
    async def work(ctx: Context) -> None:
        ctx.service_send(child, "sent")
        done = ctx.service_call(quick)
        await done
        await asyncio.gather(ctx.service_call(child, "one"), ctx.service_call(child, "two"))

    @svc.handler()
    async def quick(ctx: Context) -> None:
        return None

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: len(ledger.lines) == 3)
    await cancel(stage, sent)
    await ended_cancelled(stage, sent)
    await until(lambda: ledger.count("one cancelled") and ledger.count("two cancelled"))
    await until(lambda: ledger.count("sent ends"))
    told = [e for _, e in stage.journal(sent.invocation_id) if isinstance(e, j.SendSignal)]
    assert len(told) == 2


async def test_a_cancelled_child_fails_its_parents_call(stage: Stage):
    svc = Service("Cancel")

    @svc.handler()
    async def child(ctx: Context) -> None:
        await ctx.sleep(LATE)

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            await ctx.service_call(child)
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return "never"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    children: list[Any] = []
    while not children:
        children = await stage.engine.list(Filter(handler="child"))
    await stage.engine.operate("cancel", InvocationId(children[0]["id"]))
    assert await stage.client.attach(sent.invocation_id) == "409 cancelled"


async def test_a_cancel_while_plain_code_runs_is_met_at_the_next_wait_or_step(stage: Stage):
    svc, ledger = Service("Cancel"), Ledger()
    here, go = asyncio.Event(), asyncio.Event()

    @svc.handler()
    async def work(ctx: Context, then: str) -> str:
        here.set()
        await go.wait()
        if then == "step":
            await ctx.run("step", ledger.write, "ran")
        elif then == "sleep":
            await ctx.sleep(LATE)
        elif then == "stored":
            await ctx.time()
            await ctx.time()
            await ctx.sleep(LATE)
        return "done"

    await stage.start(svc)
    for then in ("step", "sleep", "stored", "nothing"):
        here.clear()
        go.clear()
        sent = await stage.client.service_send(work, then)
        await here.wait()
        await cancel(stage, sent)
        go.set()
        if then == "nothing":
            assert await stage.client.attach(sent.invocation_id) == "done"
        else:
            await ended_cancelled(stage, sent)
    assert ledger.lines == []


@pytest.mark.parametrize("kind", ["suspended", "paused", "backing-off"])
async def test_what_rests_hears_it(stage: Stage, kind: str):
    """Suspended and paused ones wake up for it; a back-off is not shortened, the next attempt sees it."""
    svc, ledger = Service("Cancel"), Ledger()

    @svc.handler(inactivity_timeout=timedelta(0) if kind == "suspended" else LATE)
    async def work(ctx: Context) -> None:
        ledger.write("attempt")
        if kind == "backing-off" and len(ledger.lines) == 1:
            raise RetryableError("later", retry_after=timedelta(milliseconds=50))
        await ctx.sleep(LATE)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    if kind == "paused":
        await waiting(stage, sent, 2)
        await stage.engine.operate("pause", InvocationId(sent.invocation_id))
    await stage.until_status(sent.invocation_id, kind)
    if kind != "backing-off":
        await stage.restart()  # at a new start a back-off is over
        assert await stage.status(sent.invocation_id) == kind
    await cancel(stage, sent)
    assert kind != "backing-off" or ledger.lines == ["attempt"]
    await ended_cancelled(stage, sent)
    assert ledger.lines == ["attempt"] * 2


async def test_what_has_not_begun_leaves_no_trace(stage: Stage):
    svc, obj = Service("Cancel"), VirtualObject("Key")

    @svc.handler()
    async def work(ctx: Context) -> None:
        return None

    @obj.handler()
    async def hold(ctx: ObjectContext) -> None:
        await ctx.sleep(LATE)

    await stage.start(svc, obj)
    scheduled = await stage.client.service_send(work, send_delay=LATE)
    await stage.client.object_send(hold, "k")
    pending = await stage.client.object_send(hold, "k")
    waiting = [asyncio.create_task(stage.client.attach(one.invocation_id)) for one in (scheduled, pending)]
    await asyncio.sleep(0.005)
    for one in (scheduled, pending):
        assert await cancel(stage, one) is True
        assert await stage.status(one.invocation_id) == "unknown"
    for failed in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(failed, TerminalError)
        assert (failed.status_code, failed.message) == (409, "canceled")
