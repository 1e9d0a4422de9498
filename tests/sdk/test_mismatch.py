"""Code that no longer does what was journaled: paused, explained, resumed when the code is right again."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Success
from tests.support.stage import Ledger, Stage, until

LATE = timedelta(seconds=60)
Code = Callable[[Any], Awaitable[Any]]


async def original(ctx: Any) -> str:
    await ctx.run("search", lambda: "found")
    ctx.set("n", 1)
    await ctx.sleep(timedelta(milliseconds=1), name="nap")
    _, answer = ctx.awakeable(type_hint=str)
    return str(await answer)


async def other_name(ctx: Any) -> str:
    await ctx.run("look up", lambda: "found")
    return "?"


async def other_kind(ctx: Any) -> str:
    await ctx.sleep(LATE)
    return "?"


async def other_value(ctx: Any) -> str:
    await ctx.run("search", lambda: "found")
    ctx.set("n", 2)
    return "?"


async def other_call(ctx: Any) -> str:
    await ctx.run("search", lambda: "found")
    ctx.generic_send("Object", "work", b"", key="other")
    return "?"


async def too_little(ctx: Any) -> str:
    await ctx.run("search", lambda: "found")
    return "short"


async def waits_too_early(ctx: Any) -> str:
    await ctx.run("search", lambda: "found")
    _, answer = ctx.awakeable()
    await answer
    return "?"


async def swallowing(ctx: Any) -> str:
    """As a framework might."""
    try:
        await ctx.run("look up", lambda: "found")
    except Exception:
        return "swallowed"
    return "?"


@pytest.mark.parametrize(
    ("changed", "expected", "made"),
    [
        (other_name, "Run 'search'", "Run 'look up'"),
        (other_kind, "Run 'search'", "Sleep"),
        (other_value, "SetState 'n'", "SetState 'n' with another value"),
        (other_call, "SetState 'n'", "OneWayCall Object/other/work"),
        (too_little, "SetState 'n'", "nothing more: it returned"),
        (waits_too_early, "SetState 'n'", "an await that nothing recorded completes"),
        (swallowing, "Run 'search'", "Run 'look up'"),
    ],
)
async def test_it_is_paused_and_says_what_was_expected_what_came_and_where(
    stage: Stage, changed: Code, expected: str, made: str
):
    obj = VirtualObject("Object")
    code: list[Code] = [original]

    @obj.handler()
    async def work(ctx: ObjectContext) -> str:
        return str(await code[0](ctx))

    await stage.start(obj)
    sent = await stage.client.object_send(work, "k")
    await until(lambda: len(stage.journal(sent.invocation_id)) == 6)
    code[0] = changed
    await stage.restart()
    shown = await stage.until_status(sent.invocation_id, "paused")
    failure = shown["last_failure"]
    assert failure["code"] == 570
    assert failure["metadata"]["agentdur_code"] == "AD0031"
    assert expected in failure["message"]
    assert made in failure["message"]
    assert Path(__file__).name in failure["message"]
    if changed not in (too_little, other_value):
        lines, start = inspect.getsourcelines(changed)
        named = int(failure["message"].split(f"{Path(__file__).name}:")[1].split()[0])
        assert start <= named < start + len(lines)
    code[0] = original
    await stage.engine.operate("resume", InvocationId(sent.invocation_id))
    await stage.until_status(sent.invocation_id, "running")
    await stage.engine.signal(InvocationId(sent.invocation_id), 17, Success(b'"yes"'))
    assert await stage.client.attach(sent.invocation_id) == "yes"


async def test_other_arguments_of_a_call_are_a_mismatch_other_times_are_not(stage: Stage):
    svc = Service("Calls")
    said: dict[str, Any] = {"arg": b"1", "delay": timedelta(seconds=60), "nap": timedelta(milliseconds=1)}

    @svc.handler()
    async def work(ctx: Context) -> str:
        ctx.generic_send("Calls", "other", said["arg"], send_delay=said["delay"])
        await ctx.sleep(said["nap"])
        _, answer = ctx.awakeable(type_hint=str)
        return await answer

    @svc.handler()
    async def other(ctx: Context, number: int) -> None:
        return None

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 5)
    said |= {"delay": timedelta(seconds=1), "nap": timedelta(seconds=9)}
    await stage.restart()
    await asyncio.sleep(0.01)
    assert await stage.status(sent.invocation_id) == "running"
    said["arg"] = b"2"
    await stage.restart()
    shown = await stage.until_status(sent.invocation_id, "paused")
    assert "with another parameter" in shown["last_failure"]["message"]


async def test_a_mismatch_in_a_branch_lets_running_steps_finish(stage: Stage):
    svc, ledger = Service("Branches"), Ledger()
    name = ["one"]
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go.wait()
        return ledger.write("slow")

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        async def first() -> Any:
            return await ctx.run("slow", slow)

        async def second() -> Any:
            await begun.wait()
            await ctx.run(name[0], lambda: 1)
            return await ctx.run("two", ledger.write, "two")

        return await asyncio.gather(first(), second())

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.count("two"))
    await until(lambda: len(stage.journal(sent.invocation_id)) == 6)
    name[0] = "other"
    begun.clear()
    await stage.restart()
    await begun.wait()
    await asyncio.sleep(0.01)
    assert await stage.status(sent.invocation_id) == "running"
    go.set()
    await stage.until_status(sent.invocation_id, "paused")
    name[0] = "one"
    await stage.engine.operate("resume", InvocationId(sent.invocation_id))
    assert await stage.client.attach(sent.invocation_id) == ["slow", "two"]
    assert ledger.count("slow") == 1
    assert ledger.count("two") == 1
