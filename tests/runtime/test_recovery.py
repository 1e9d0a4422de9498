"""A new engine over an old store: everything that was acknowledged goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from agentdur import App, Context, ObjectContext, Service, TerminalError, VirtualObject
from agentdur.core.errors import BadDefinition, NotRunning, UnknownHandler, UnknownInvocation, ValueTooLarge
from agentdur.core.ids import InvocationId, random_seed
from agentdur.core.journal import Success
from agentdur.core.ports import Filter, Request
from agentdur.core.target import HandlerKind, ServiceKind, Target
from agentdur.runtime import slots
from agentdur.runtime.owner import Engine, Knobs
from agentdur.stores import MemoryStore
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, check_journal, until
from tests.support.stories import crash_after_crash, every_crash

LATE = timedelta(seconds=60)


class Order(BaseModel):
    item: str
    count: int


async def test_work_in_every_status_goes_on_after_a_crash(stage: Stage):
    svc, obj, ledger = Service("Work"), VirtualObject("Key"), Ledger()
    go = asyncio.Event()

    @svc.handler()
    async def running(ctx: Context) -> str:
        await ctx.run("first", ledger.write, "first")
        await ctx.run("wait", go.wait)
        return "running"

    @svc.handler(inactivity_timeout=timedelta(0))
    async def suspended(ctx: Context) -> str:
        await ctx.signal("go")
        return "suspended"

    @svc.handler()
    async def backing_off(ctx: Context) -> str:
        if not go.is_set():
            raise ValueError("not yet")
        return "backing off"

    @svc.handler()
    async def scheduled(ctx: Context) -> str:
        return "scheduled"

    @obj.handler()
    async def keyed(ctx: ObjectContext, name: str) -> str:
        await ctx.run("wait", go.wait)
        return name

    await stage.start(svc, obj)
    client = stage.client
    sent = [
        await client.service_send(running),
        await client.service_send(suspended),
        await client.service_send(backing_off),
        await client.service_send(scheduled, send_delay=timedelta(milliseconds=60)),
        await client.object_send(keyed, "k", "holder"),
        await client.object_send(keyed, "k", "pending"),
    ]
    await until(lambda: ledger.lines)
    for _ in range(3):
        await stage.restart()
    await stage.engine.signal(InvocationId(sent[1].invocation_id), "go", Success(b"null"))
    go.set()
    answers = [await stage.client.attach(one.invocation_id) for one in sent]
    assert answers == ["running", "suspended", "backing off", "scheduled", "holder", "pending"]
    assert ledger.lines == ["first"]
    for one in sent:
        check_journal(stage.journal(one.invocation_id))


async def test_an_acknowledged_send_is_never_lost(stage: Stage):
    svc, ledger = Service("Work"), Ledger()

    @svc.handler()
    async def work(ctx: Context, n: int) -> int:
        await ctx.sleep(timedelta(milliseconds=1))
        return n

    await stage.start(svc)
    sent = await asyncio.gather(*[stage.client.service_send(work, n) for n in range(50)])
    await stage.restart()
    more = await asyncio.gather(*[stage.client.service_send(work, n) for n in range(50, 60)])
    await stage.restart()
    answers = [await stage.client.attach(one.invocation_id) for one in (*sent, *more)]
    assert answers == list(range(60))
    assert ledger.lines == []


@IN_MEMORY_AT_ONCE
async def test_a_whole_story_with_a_crash_at_every_commit(stage: Stage):
    """Steps, state, calls, sends, sleeps, promises of time and chance in one handler."""
    svc, obj, ledger = Service("Work"), VirtualObject("Counter"), Ledger()

    @obj.handler()
    async def add(ctx: ObjectContext, amount: int) -> int:
        value = (await ctx.get("n", type_hint=int) or 0) + amount
        ctx.set("n", value)
        await ctx.run("log", ledger.write, f"add {amount}")
        return value

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        drawn = ctx.random().random()
        one = await ctx.run("one", ledger.write, "one")
        total = await ctx.object_call(add, "k", 5)
        ctx.object_send(add, "k", 1)
        await ctx.sleep(timedelta(milliseconds=1))
        both = await asyncio.gather(ctx.object_call(add, "k", 10), ctx.run("two", ledger.write, "two"))
        again = await ctx.run("again", lambda: drawn)
        return [one, total, both, again == drawn]

    async def ask(on: Stage) -> list[Any]:
        found = await on.client.service_call(work, idempotency_key="one")
        [shown] = await on.engine.list(Filter(service="Work"))
        check_journal(on.journal(shown["id"]))
        return [*found, await on.client.object_call(add, "k", 0, idempotency_key="look")]

    def check(answer: Any, crashed: bool) -> None:
        assert answer == ["one", 5, [16, "two"], True, 16]
        assert set(ledger.counts) == {"one", "two", "add 0", "add 1", "add 5", "add 10"}
        assert all(count <= 1 + crashed for count in ledger.counts.values())
        ledger.lines.clear()

    stride = 1 if stage.kind == "memory" else 4
    assert await every_crash(stage, (svc, obj), ask, check, stride=stride) >= 6


@IN_MEMORY_AT_ONCE
@pytest.mark.parametrize("commits", [3, 4, 5])
async def test_a_story_ends_although_every_engine_soon_dies(stage: Stage, commits: int):
    svc, obj = Service("Work"), VirtualObject("Counter")

    @obj.handler()
    async def add(ctx: ObjectContext, amount: int) -> int:
        value = (await ctx.get("n", type_hint=int) or 0) + amount
        ctx.set("n", value)
        return value

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        async def branch(name: str) -> int:
            await ctx.run(name, lambda: name)
            return await ctx.object_call(add, name, 1)

        out: list[Any] = [await asyncio.gather(*[branch(name) for name in "abc"])]
        for _ in range(4):
            out.append(await ctx.object_call(add, "a", 1))
            await ctx.sleep(timedelta(milliseconds=1))
        return out

    async def ask(on: Stage) -> Any:
        found = await on.client.service_call(work, idempotency_key="one")
        [shown] = await on.engine.list(Filter(service="Work"))
        check_journal(on.journal(shown["id"]))
        return found

    answer, crashes = await crash_after_crash(stage, (svc, obj), ask, commits)
    assert answer == [[1, 1, 1], 2, 3, 4, 5]
    assert crashes >= 2


async def test_state_that_left_memory_is_read_again(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slots, "CACHED_KEYS_MAX", 2)
    obj = VirtualObject("Counter")

    @obj.handler()
    async def add(ctx: ObjectContext) -> int:
        value = (await ctx.get("n", type_hint=int) or 0) + 1
        ctx.set("n", value)
        await ctx.run("step", lambda: None)
        ctx.set("m", value)
        return value + (await ctx.get("m", type_hint=int) or 0)

    await stage.start(obj)
    for turn in range(1, 4):
        keys = [str(n) for n in range(8)]
        found = await asyncio.gather(*[stage.client.object_call(add, key) for key in keys])
        assert found == [turn * 2] * 8
    assert len(stage.engine.machine.slots.values) <= 2


async def test_a_handler_that_is_no_longer_served_waits_for_its_return(stage: Stage):
    svc, other = Service("Work"), Service("Other")
    go = asyncio.Event()

    @svc.handler()
    async def work(ctx: Context) -> str:
        await ctx.run("wait", go.wait)
        return "ok"

    @other.handler()
    async def hello(ctx: Context) -> None:
        return None

    await stage.start(svc, other)
    sent = await stage.client.service_send(work)
    await stage.restart(other)
    shown = await stage.until_status(sent.invocation_id, "backing-off", "paused")
    assert "Work/work is no longer served here" in shown["last_failure"]["message"]
    go.set()
    await stage.restart(svc)
    if await stage.status(sent.invocation_id) == "paused":
        await stage.engine.operate("resume", InvocationId(sent.invocation_id))
    assert await stage.client.attach(sent.invocation_id) == "ok"


# -- what goes in and what comes out


async def test_bad_input_is_a_terminal_400_that_names_the_field(stage: Stage):
    svc = Service("Work")

    @svc.handler()
    async def order(ctx: Context, order: Order) -> int:
        return order.count

    await stage.start(svc)
    assert await stage.client.generic_call("Work", "order", b'{"item":"tea","count":2}') == b"2"
    for body, named in ((b'{"item":"tea","count":"many"}', "count"), (b"{", "JSON"), (b"", "")):
        with pytest.raises(TerminalError) as caught:
            await stage.client.generic_call("Work", "order", body)
        assert caught.value.status_code == 400
        assert named in caught.value.message
        assert caught.value.metadata == {"agentdur_code": "AD0020"}


@pytest.mark.parametrize("managed", [False, True])
async def test_an_output_that_is_no_data_is_a_terminal_failure(stage: Stage, managed: bool):
    @asynccontextmanager
    async def nothing() -> AsyncIterator[None]:
        yield

    svc = Service("Work", invocation_context_managers=[nothing] if managed else [])

    @svc.handler()
    async def work(ctx: Context, text: str) -> Any:
        return object()

    await stage.start(svc)
    with pytest.raises(TerminalError) as caught:
        await stage.client.service_call(work, "x")
    assert caught.value.metadata == {"agentdur_code": "AD0032"}


async def test_context_managers_are_entered_around_each_attempt_outermost_first(stage: Stage):
    ledger = Ledger()

    def manager(name: str) -> Any:
        @asynccontextmanager
        async def entered() -> AsyncIterator[None]:
            ledger.write(f"{name} in")
            try:
                yield
            finally:
                ledger.write(f"{name} out")

        return entered

    svc = Service("Work", invocation_context_managers=[manager("outer")])

    @svc.handler(invocation_context_managers=[manager("inner")])
    async def work(ctx: Context) -> str:
        if ledger.count("work") == 0:
            ledger.write("work")
            raise ValueError("again")
        return ledger.write("work")

    await stage.start(svc)
    assert await stage.client.service_call(work) == "work"
    assert ledger.lines == ["outer in", "inner in", "work", "inner out", "outer out"] * 2


async def test_a_handler_knows_what_it_was_called_with(stage: Stage):
    svc = Service("Work")
    finished: list[Any] = []

    @svc.handler()
    async def work(ctx: Context, text: str) -> list[Any]:
        request = ctx.request()
        finished.append(request.attempt_finished_event)
        assert not request.attempt_finished_event.is_set()
        return [request.id, request.body.decode(), request.headers, request.idempotency_key, request.scope]

    await stage.start(svc)
    answer = await stage.client.service_call(work, "hi", idempotency_key="k", headers={"X-A": "b"})
    assert answer[1:] == ['"hi"', {"x-a": "b"}, "k", None]
    assert answer[0].startswith("inv_1")
    await asyncio.wait_for(finished[0].wait(), 1)
    assert finished[0].is_set()


# -- what is refused


async def test_requests_that_cannot_be_are_refused_and_change_nothing(stage: Stage):
    svc = Service("Work")

    @svc.handler()
    async def work(ctx: Context, text: str) -> str:
        return text

    await stage.start(svc, knobs=Knobs(entry_size=100))
    unknown = Target("Work", "nobody", None, ServiceKind.SERVICE, HandlerKind.PLAIN)
    with pytest.raises(UnknownHandler):
        stage.engine.call(Request(target=unknown))
    with pytest.raises(UnknownHandler):
        stage.engine.send(Request(target=unknown))
    with pytest.raises(ValueTooLarge, match="102 bytes, the limit is 100"):
        await stage.client.service_call(work, "x" * 100)
    nobody = InvocationId("inv_1klSBfLnjVre6j9CbWrSsAeVFXEsDv5y0C")
    for ask in (stage.engine.attach, stage.engine.output, stage.engine.restart_as_new):
        with pytest.raises(UnknownInvocation):
            await ask(nobody)
    assert await stage.engine.describe(nobody) is None
    assert stage.store.count() == {}


async def test_an_app_runs_once_and_its_services_have_names_of_their_own():
    one, two = Service("Same"), Service("Same")

    @one.handler()
    async def hello(ctx: Context) -> str:
        return "hello"

    @two.handler()
    async def other(ctx: Context) -> str:
        return "other"

    with pytest.raises(BadDefinition, match="two services are named Same"):
        App([one, two])
    app = App([one], store=MemoryStore())
    async with app.running() as engine:
        assert await engine.client().service_call(hello) == "hello"
        with pytest.raises(NotRunning):
            async with app.running():
                pass
    async with app.running("memory://") as engine:
        assert await engine.client().service_call(hello) == "hello"


async def test_two_engines_on_one_loop_leave_each_other_alone():
    """Whichever stops first, tasks of the other's handlers stay branches."""
    svc = Service("Work")

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        async def one() -> str:
            return str(ctx.uuid())

        return await asyncio.gather(one(), one())  # in branches of their own: not two draws of one generator

    async def branched(engine: Engine) -> bool:
        one, two = await engine.client().service_call(work)
        root = random.Random(random_seed(InvocationId((await engine.list(Filter()))[0]["id"])))
        return str(UUID(int=root.getrandbits(128), version=4)) not in (one, two)

    first, second = App([svc]), App([svc])
    async with second.running("memory://") as right:
        async with first.running("memory://") as left:
            assert await branched(left)
        assert await branched(right)
    opened, kept = first.running("memory://"), second.running("memory://")
    await opened.__aenter__()
    right = await kept.__aenter__()
    await opened.__aexit__(None, None, None)
    assert await branched(right)
    await kept.__aexit__(None, None, None)
    assert asyncio.get_running_loop().get_task_factory() is None
