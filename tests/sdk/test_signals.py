"""Awakeables, named signals, and time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, RetryableError, Service, TerminalError
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.core.journal import Failure, Signal, Sleep, Success
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, until

LATE = timedelta(seconds=60)


# -- awakeables


async def test_an_awakeable_is_resolved_or_rejected_from_outside_and_from_handlers(stage: Stage):
    svc = Service("Signals")
    ids: dict[str, str] = {}

    @svc.handler()
    async def ask(ctx: Context, name: str) -> Any:
        token, answer = ctx.awakeable()
        await ctx.run("tell", ids.__setitem__, name, token)
        return await answer

    @svc.handler()
    async def resolve(ctx: Context, token: str) -> None:
        ctx.resolve_awakeable(token, {"from": "handler"})

    @svc.handler()
    async def reject(ctx: Context, token: str) -> None:
        ctx.reject_awakeable(token, "not today", 418)

    await stage.start(svc)
    sent = {name: await stage.client.service_send(ask, name) for name in ("a", "b", "c", "d")}
    await until(lambda: len(ids) == 4)
    assert ids["a"] == awakeable_id(InvocationId(sent["a"].invocation_id), 17)
    await stage.client.resolve_awakeable(ids["a"], [1, 2])
    await stage.client.reject_awakeable(ids["b"], "no")
    await stage.client.service_call(resolve, ids["c"])
    await stage.client.service_call(reject, ids["d"])
    assert await stage.client.attach(sent["a"].invocation_id) == [1, 2]
    assert await stage.client.attach(sent["c"].invocation_id) == {"from": "handler"}
    for name, message, code in (("b", "no", 500), ("d", "not today", 418)):
        with pytest.raises(TerminalError, match=message) as caught:
            await stage.client.attach(sent[name].invocation_id)
        assert caught.value.status_code == code


async def test_an_awakeable_is_completed_once_also_before_it_is_awaited(stage: Stage):
    svc = Service("Signals")
    go, ids, attempts = asyncio.Event(), [], []

    @svc.handler()
    async def ask(ctx: Context) -> list[Any]:
        ids[:], answers = zip(*[ctx.awakeable(type_hint=str) for _ in range(2)], strict=True)
        await ctx.run("wait", go.wait)
        out = [await answers[0], await answers[1], await answers[0]]
        attempts.append(out)
        if len(attempts) < 3:
            raise ValueError("again")
        return out

    await stage.start(svc)
    sent = await stage.client.service_send(ask)
    await until(lambda: ids)
    await stage.client.resolve_awakeable(ids[1], "two")
    await stage.client.resolve_awakeable(ids[0], "one")
    await stage.client.reject_awakeable(ids[0], "too late")
    await stage.client.resolve_awakeable(ids[0], "too late")
    go.set()
    assert await stage.client.attach(sent.invocation_id) == ["one", "two", "one"]
    assert attempts == [["one", "two", "one"]] * 3
    await stage.client.resolve_awakeable(ids[0], "nobody hears it")


async def test_an_awakeable_wakes_what_is_suspended(stage: Stage):
    svc = Service("Signals")
    ids: list[str] = []

    @svc.handler(inactivity_timeout=timedelta(0))
    async def ask(ctx: Context) -> list[str]:
        out = []
        for _ in range(3):
            token, answer = ctx.awakeable(type_hint=str)
            await ctx.run("tell", ids.append, token)
            out.append(await answer)
        return out

    await stage.start(svc)
    sent = await stage.client.service_send(ask)
    for turn in range(3):
        await until(lambda wanted=turn + 1: len(ids) == wanted)
        shown = await stage.until_status(sent.invocation_id, "suspended")
        assert shown["waiting_for"] == [f"awakeable {17 + turn}"]
        await stage.client.resolve_awakeable(ids[turn], f"n{turn}")
    assert await stage.client.attach(sent.invocation_id) == ["n0", "n1", "n2"]


# -- named signals


async def test_named_signals_are_taken_in_the_order_they_came(stage: Stage):
    svc = Service("Signals")
    ready = asyncio.Event()
    attempts: list[Any] = []

    @svc.handler()
    async def listen(ctx: Context) -> list[Any]:
        out: list[Any] = []
        await ctx.run("ready", ready.set)
        for _ in range(3):
            try:
                out.append(await ctx.signal("go", type_hint=str))
            except TerminalError as error:
                out.append([error.message, error.status_code])
        out.append(await ctx.signal("other"))
        attempts.append(out)
        if len(attempts) < 3:
            raise ValueError("again")
        return out

    @svc.handler()
    async def speak(ctx: Context, to: str) -> None:
        ctx.resolve_signal(to, "go", "one")
        ctx.resolve_signal(to, "other", [4])
        ctx.reject_signal(to, "go", "two", 418)
        ctx.resolve_signal(to, "go", "three")
        ctx.reject_signal(to, "go", "four, nobody asks for it")

    await stage.start(svc)
    sent = await stage.client.service_send(listen)
    await ready.wait()
    await stage.client.service_call(speak, sent.invocation_id)
    assert await stage.client.attach(sent.invocation_id) == ["one", ["two", 418], "three", [4]]
    assert attempts == [["one", ["two", 418], "three", [4]]] * 3


async def test_a_signal_is_lost_on_what_is_unknown_scheduled_or_over(stage: Stage):
    svc = Service("Signals")

    @svc.handler()
    async def listen(ctx: Context) -> Any:
        return await ctx.race(ctx.signal("go"), ctx.sleep(timedelta(milliseconds=5)))

    await stage.start(svc)
    sent = await stage.client.service_send(listen, send_delay=timedelta(milliseconds=20))
    await stage.engine.signal(InvocationId(sent.invocation_id), "go", Success(b"1"))
    assert await stage.client.attach(sent.invocation_id) is None
    await stage.engine.signal(InvocationId(sent.invocation_id), "go", Success(b"1"))
    await stage.engine.operate("purge", InvocationId(sent.invocation_id))
    await stage.engine.signal(InvocationId(sent.invocation_id), "go", Failure(500, "x"))
    assert stage.journal(sent.invocation_id) == []


async def test_a_signal_that_was_stored_survives_a_restart(stage: Stage):
    svc = Service("Signals")
    release = False

    @svc.handler()
    async def listen(ctx: Context) -> list[Any]:
        if not release:
            raise RetryableError("not yet", retry_after=LATE)
        return [await ctx.signal("go"), await ctx.signal("go")]

    await stage.start(svc)
    sent = await stage.client.service_send(listen)
    await stage.until_status(sent.invocation_id, "backing-off")
    for value in (b"1", b"2"):
        await stage.engine.signal(InvocationId(sent.invocation_id), "go", Success(value))
    release = True
    await stage.restart()
    assert await stage.client.attach(sent.invocation_id) == [1, 2]
    assert sum(isinstance(entry, Signal) for _, entry in stage.journal(sent.invocation_id)) == 2


# -- time


async def test_a_restart_does_not_lengthen_a_sleep(stage: Stage):
    svc = Service("Time")

    @svc.handler()
    async def nap(ctx: Context) -> list[float]:
        begun = await ctx.time()
        await ctx.sleep(timedelta(milliseconds=120), name="nap")
        return [begun, await ctx.time()]

    await stage.start(svc)
    sent = await stage.client.service_send(nap)
    for _ in range(3):
        await asyncio.sleep(0.02)
        await stage.restart()
    begun, ended = await stage.client.attach(sent.invocation_id)
    assert ended - begun >= 0.119
    (nap_,) = [entry for _, entry in stage.journal(sent.invocation_id) if isinstance(entry, Sleep)]
    assert nap_.name == "nap"
    assert nap_.wake_at / 1000 < begun + 0.12 + 1  # decided once, by the first attempt


async def test_a_timer_that_was_due_while_nobody_was_there_fires_at_once(stage: Stage):
    svc = Service("Time")

    @svc.handler()
    async def nap(ctx: Context) -> str:
        await ctx.sleep(timedelta(milliseconds=10))
        return "awake"

    await stage.start(svc)
    sent = await stage.client.service_send(nap)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 2)
    later = await stage.client.service_send(nap, send_delay=timedelta(milliseconds=15))
    await stage.crash()
    await asyncio.sleep(0.03)
    await stage.start(svc)
    assert await stage.client.attach(sent.invocation_id) == "awake"
    assert await stage.client.attach(later.invocation_id) == "awake"


async def test_sleeps_of_nothing_and_of_the_past_end_at_once(stage: Stage):
    svc = Service("Time")

    @svc.handler()
    async def nap(ctx: Context) -> str:
        await ctx.sleep(timedelta(0))
        await ctx.sleep(timedelta(seconds=-5))
        return "awake"

    await stage.start(svc)
    assert await stage.client.service_call(nap) == "awake"


async def test_time_is_read_once(stage: Stage):
    svc, ledger = Service("Time"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> list[float]:
        out = [await ctx.time(), await ctx.time()]
        await ctx.sleep(timedelta(milliseconds=2))
        ledger.write(str(out))
        if len(ledger.lines) < 3:
            raise ValueError("again")
        return out

    await stage.start(svc)
    one, two = await stage.client.service_call(work)
    assert abs(one - time.time()) < 30
    assert two >= one
    assert len(set(ledger.lines)) == 1


@IN_MEMORY_AT_ONCE
@pytest.mark.slow
async def test_a_thousand_sleepers_wake(stage: Stage):
    svc, ledger = Service("Time"), Ledger()

    @svc.handler()
    async def nap(ctx: Context, n: int) -> None:
        await ctx.sleep(timedelta(milliseconds=20 + n % 7))
        ledger.write(str(n))

    await stage.start(svc)
    await asyncio.gather(*[stage.client.service_send(nap, n) for n in range(1000)])
    await stage.restart()
    await until(lambda: len(set(ledger.lines)) == 1000)
