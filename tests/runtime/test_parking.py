"""Parking: what waits leaves memory, by time or because others need the place; nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, Service, TerminalError, VirtualObject
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Success
from agentdur.runtime.owner import Knobs
from tests.support.stage import Ledger, Stage, check_journal, until

AT_ONCE = timedelta(0)
LATE = timedelta(seconds=60)
SOON = timedelta(milliseconds=5)


async def test_what_an_attempt_in_memory_waits_for_is_shown(stage: Stage):
    svc = Service("Here")

    @svc.handler()
    async def work(ctx: Context) -> str:
        _, answer = ctx.awakeable(type_hint=str)
        return await answer

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    async with asyncio.timeout(10):
        while (await stage.until_status(sent.invocation_id, "running"))["waiting_for"] != ["awakeable 17"]:
            await asyncio.sleep(0.005)
    await stage.engine.signal(InvocationId(sent.invocation_id), 17, Success(b'"hi"'))
    assert await stage.client.attach(sent.invocation_id) == "hi"


async def test_what_waits_is_parked_after_the_inactivity_timeout(stage: Stage):
    svc, ledger = Service("Park"), Ledger()

    @svc.handler(inactivity_timeout=timedelta(milliseconds=20))
    async def work(ctx: Context) -> str:
        ledger.write("attempt")
        await ctx.run("step", lambda: None)
        _, answer = ctx.awakeable(type_hint=str)
        return await answer

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    shown = await stage.until_status(sent.invocation_id, "suspended")
    assert shown["waiting_for"] == ["awakeable 17"]
    assert shown["waiting_since"] == shown["journal"][-1]["at"] < shown["modified_at"], (
        "not since it is parked"
    )
    assert not stage.engine.driver.live
    assert not stage.engine.machine.slots.invocations
    await stage.restart()
    assert await stage.status(sent.invocation_id) == "suspended"
    await stage.engine.signal(InvocationId(sent.invocation_id), 17, Success(b'"hi"'))
    assert await stage.client.attach(sent.invocation_id) == "hi"
    assert ledger.count("attempt") == 2
    check_journal(stage.journal(sent.invocation_id))


async def test_the_time_counts_from_the_last_thing_that_happened(stage: Stage):
    svc = Service("Park")

    @svc.handler(inactivity_timeout=timedelta(milliseconds=100))
    async def work(ctx: Context) -> int:
        for _ in range(6):
            await ctx.sleep(timedelta(milliseconds=30))
        return stage.engine.machine.slots.invocations[ctx.request().id].state.head.attempt

    await stage.start(svc)
    assert await stage.client.service_call(work) == 1


@pytest.mark.parametrize("limit", [1, 2])
async def test_more_may_wait_than_have_a_place(stage: Stage, limit: int):
    svc, obj = Service("Park"), VirtualObject("Counter")

    @svc.handler()
    async def work(ctx: Context, n: int) -> int:
        token, answer = ctx.awakeable(type_hint=int)
        await ctx.run("tell", tokens.append, token)
        await ctx.sleep(SOON)
        return n + await answer + await ctx.object_call(add, str(n % 3), 1) * 0

    @obj.handler()
    async def add(ctx: ObjectContext, amount: int) -> int:
        value = (await ctx.get("n", type_hint=int) or 0) + amount
        ctx.set("n", value)
        await ctx.sleep(timedelta(milliseconds=1))
        return value

    tokens: list[str] = []
    await stage.start(svc, obj, knobs=Knobs(live_attempts=limit))
    sent = [await stage.client.service_send(work, n) for n in range(12)]
    await until(lambda: len(set(tokens)) == 12)
    assert len(stage.engine.driver.live) <= limit
    for token in set(tokens):
        await stage.client.resolve_awakeable(token, 100)
    answers = await asyncio.gather(*[stage.client.attach(one.invocation_id) for one in sent])
    assert answers == [n + 100 for n in range(12)]
    assert [await stage.client.object_call(add, str(n), 0) for n in range(3)] == [4, 4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 3])
async def test_parents_that_wait_for_children_leave_them_their_place(stage: Stage, limit: int):
    """Ten levels deep, with fewer places than levels."""
    svc = Service("Park")

    @svc.handler()
    async def level(ctx: Context, depth: int) -> int:
        if depth == 0:
            return await ctx.run("bottom", lambda: 1)
        both = await asyncio.gather(ctx.service_call(level, depth - 1), ctx.run("one", lambda: 1))
        return sum(both)

    await stage.start(svc, knobs=Knobs(live_attempts=limit))
    found = await asyncio.gather(*[stage.client.service_call(level, 10) for _ in range(3)])
    assert found == [11] * 3


async def test_what_runs_is_not_parked_for_others(stage: Stage):
    svc, ledger = Service("Park"), Ledger()
    go = asyncio.Event()

    @svc.handler()
    async def busy(ctx: Context) -> str:
        ledger.write("busy")
        await ctx.run("wait", go.wait)
        return "busy"

    @svc.handler()
    async def quick(ctx: Context) -> str:
        return ledger.write("quick")

    await stage.start(svc, knobs=Knobs(live_attempts=1))
    first = await stage.client.service_send(busy)
    second = await stage.client.service_send(quick)
    await asyncio.sleep(0.01)
    assert await stage.status(second.invocation_id) == "ready"
    assert ledger.lines == ["busy"]
    go.set()
    assert await stage.client.attach(first.invocation_id) == "busy"
    assert await stage.client.attach(second.invocation_id) == "quick"


@pytest.mark.parametrize("how", ["sleeps", "is in a thread", "waits for a socket"])
async def test_what_does_something_of_its_own_is_not_parked(stage: Stage, how: str):
    """A task waits for the journal, the handler itself for the world: cutting it off would lose what it is
    about to say, and nothing would wake it."""
    svc, ledger = Service("Park"), Ledger()

    @svc.handler(inactivity_timeout=AT_ONCE, abort_timeout=LATE)
    async def work(ctx: Context) -> str:
        ledger.write("attempt")
        token, answer = ctx.awakeable(type_hint=str)

        async def wait() -> str:
            return await answer

        task = asyncio.create_task(wait())
        if how == "sleeps":
            await asyncio.sleep(0.06)
        elif how == "is in a thread":
            await asyncio.to_thread(pause)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.read()
            writer.close()
        ctx.resolve_awakeable(token, "told")
        return await task

    def pause() -> None:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.06), loop).result()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.06)
        writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await stage.start(svc)
        assert await asyncio.wait_for(stage.client.service_call(work), 5) == "told"
    finally:
        server.close()


@pytest.mark.parametrize(
    "how", ["gather", "group", "wait", "wait_for", "event", "queue", "task", "generator"]
)
async def test_a_handler_that_waits_for_its_own_tasks_is_parked_with_them(stage: Stage, how: str):
    svc = Service("Park")

    @svc.handler(inactivity_timeout=AT_ONCE)
    async def work(ctx: Context) -> list[str]:
        done, queue = asyncio.Event(), asyncio.Queue[str]()
        found: list[str] = []

        async def ask() -> None:
            _, answer = ctx.awakeable(type_hint=str)
            found.append(await answer)
            queue.put_nowait("")
            done.set()

        match how:
            case "gather":
                await asyncio.gather(ask(), ask())
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(ask())
                    group.create_task(ask())
            case "wait":
                await asyncio.wait([asyncio.create_task(ask()), asyncio.create_task(ask())])
            case "wait_for":
                await asyncio.wait_for(asyncio.gather(ask(), ask()), 60)
            case "generator":

                async def ended() -> AsyncIterator[None]:
                    await asyncio.wait([asyncio.create_task(ask()), asyncio.create_task(ask())])
                    yield

                async with aclosing(ended()) as ends:
                    async for _ in ends:
                        found.sort()
            case "task":
                tasks = [asyncio.create_task(ask()), asyncio.create_task(ask())]
                for task in tasks:
                    await task
            case _:
                tasks = [asyncio.create_task(ask()), asyncio.create_task(ask())]
                while len(found) < 2:
                    done.clear()
                    await (done.wait() if how == "event" else queue.get())
        return sorted(found)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    shown = await stage.until_status(sent.invocation_id, "suspended")
    for number, name in enumerate(shown["waiting_for"]):
        index = int(name.removeprefix("awakeable "))
        await stage.engine.signal(InvocationId(sent.invocation_id), index, Success(f'"{number}"'.encode()))
    assert await stage.client.attach(sent.invocation_id) == ["0", "1"]


async def test_what_does_not_suspend_is_aborted_and_retried(stage: Stage):
    svc, ledger = Service("Park"), Ledger()

    @svc.handler(inactivity_timeout=timedelta(milliseconds=10), abort_timeout=timedelta(milliseconds=20))
    async def work(ctx: Context) -> str:
        ledger.write("attempt")
        if ledger.count("attempt") == 1:
            await asyncio.sleep(60)
        return "ok"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    seen: list[Any] = []
    while not seen:
        shown = await stage.engine.describe(InvocationId(sent.invocation_id))
        seen += [shown["last_failure"]] if shown and "last_failure" in shown else []
        await asyncio.sleep(0.001)
    assert seen[0]["metadata"] == {"restate_code": "RT0001", "agentdur_code": "AD0039"}
    assert "'abort timeout' (20ms)" in seen[0]["message"]
    assert await stage.client.attach(sent.invocation_id) == "ok"
    assert ledger.count("attempt") == 2


async def test_a_step_longer_than_both_timeouts_is_aborted_and_stopped(stage: Stage):
    svc, ledger = Service("Park"), Ledger()

    @svc.handler(inactivity_timeout=timedelta(milliseconds=10), abort_timeout=timedelta(milliseconds=20))
    async def work(ctx: Context) -> str:
        return await ctx.run("long", long)

    async def long() -> str:
        ledger.write("begins")
        if ledger.count("begins") == 1:
            try:
                await asyncio.sleep(60)
            finally:
                ledger.write("stopped")
        return "ok"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "ok"
    assert ledger.lines == ["begins", "stopped", "begins"]


async def test_parked_work_is_woken_by_each_kind_of_news(stage: Stage):
    svc = Service("Park")

    @svc.handler(inactivity_timeout=AT_ONCE)
    async def child(ctx: Context) -> str:
        await ctx.sleep(timedelta(milliseconds=40))
        return "child"

    @svc.handler(inactivity_timeout=AT_ONCE)
    async def work(ctx: Context) -> list[Any]:
        return [
            await ctx.service_call(child),
            await ctx.sleep(timedelta(milliseconds=40)),
            await ctx.signal("go", type_hint=str),
            await ctx.select(a=ctx.signal("never"), b=ctx.sleep(timedelta(milliseconds=40))),
        ]

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    while (await stage.until_status(sent.invocation_id, "suspended"))["waiting_for"] != ["signal go"]:
        await asyncio.sleep(0.002)
    await stage.engine.signal(InvocationId(sent.invocation_id), "go", Success(b'"went"'))
    assert await stage.client.attach(sent.invocation_id) == ["child", None, "went", ["b", None]]
    check_journal(stage.journal(sent.invocation_id))


async def test_a_parked_cancel_is_heard(stage: Stage):
    svc = Service("Park")

    @svc.handler(inactivity_timeout=AT_ONCE)
    async def work(ctx: Context) -> None:
        await ctx.signal("never")

    await stage.start(svc, knobs=Knobs(live_attempts=1))
    sent = [await stage.client.service_send(work) for _ in range(5)]
    for one in sent:
        await stage.until_status(one.invocation_id, "suspended")
        await stage.engine.operate("cancel", InvocationId(one.invocation_id))
    for one in sent:
        with pytest.raises(TerminalError, match="cancelled"):
            await stage.client.attach(one.invocation_id)
