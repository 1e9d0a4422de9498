"""State of objects and workflows, as their handlers see it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from agentdur import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from agentdur.core.errors import EntryTooLarge
from agentdur.core.ids import InvocationId
from agentdur.core.target import ObjectAddress
from agentdur.runtime.owner import Knobs
from agentdur.sdk.serde import BytesSerde
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, until, until_it_is
from tests.support.stories import every_crash


class Item(BaseModel):
    name: str
    count: int


async def test_a_handler_reads_what_it_wrote(stage: Stage):
    obj = VirtualObject("Cart")

    @obj.handler()
    async def work(ctx: ObjectContext) -> list[Any]:
        out: list[Any] = [await ctx.get("n"), await ctx.state_keys()]
        ctx.set("n", 1)
        out.append(await ctx.get("n"))
        ctx.set("n", 2)
        ctx.set("m", None)
        out += [await ctx.get("n"), await ctx.get("m"), await ctx.state_keys()]
        ctx.clear("n")
        out += [await ctx.get("n"), await ctx.state_keys()]
        ctx.clear_all()
        out += [await ctx.state_keys(), await ctx.get("m")]
        ctx.set("left", "over")
        return out

    @obj.handler(kind="shared")
    async def keys(ctx: ObjectSharedContext) -> list[str]:
        return await ctx.state_keys()

    await stage.start(obj)
    assert await stage.client.object_call(work, "k") == [
        None, [], 1, 2, None, ["m", "n"], None, ["m"], [], None,
    ]  # fmt: skip
    assert await stage.client.object_call(keys, "k") == ["left"]
    assert await stage.client.object_call(keys, "other") == []


async def test_missing_is_not_empty(stage: Stage):
    obj = VirtualObject("Cart")

    @obj.handler()
    async def work(ctx: ObjectContext) -> list[Any]:
        ctx.set("empty", b"", serde=BytesSerde())
        return [
            await ctx.get("empty", serde=BytesSerde()) == b"", await ctx.get("missing", serde=BytesSerde()),
            await ctx.state_keys(),
        ]  # fmt: skip

    await stage.start(obj)
    assert await stage.client.object_call(work, "k") == [True, None, ["empty"]]


async def test_values_come_back_as_their_type_and_survive_a_restart(stage: Stage):
    obj = VirtualObject("Cart")

    @obj.handler()
    async def put(ctx: ObjectContext, item: Item) -> None:
        ctx.set("item", item)

    @obj.handler(kind="shared")
    async def show(ctx: ObjectSharedContext) -> Item | None:
        return await ctx.get("item", type_hint=Item)

    await stage.start(obj)
    await stage.client.object_call(put, "k", Item(name="tea", count=2))
    await stage.restart()
    assert await stage.client.object_call(show, "k") == Item(name="tea", count=2)


async def test_replay_reads_what_was_read(stage: Stage):
    """State may have moved on; an attempt sees again what the first one saw."""
    wf = Workflow("Flow")
    seen: list[Any] = []

    @wf.main()
    async def run(ctx: WorkflowContext) -> list[Any]:
        before = await ctx.get("n")
        names = await ctx.state_keys()
        ctx.set("n", (before or 0) + 1)
        after = await ctx.get("n")
        seen.append([before, names, after])
        await ctx.run("commit", lambda: None)
        if len(seen) < 4:
            raise ValueError("again")
        return [before, names, after]

    await stage.start(wf)
    assert await stage.client.workflow_call(run, "k") == [None, [], 1]
    assert seen == [[None, [], 1]] * 4


@IN_MEMORY_AT_ONCE
@pytest.mark.slow
async def test_state_changes_are_made_once_whatever_crashes(stage: Stage):
    obj = VirtualObject("Counter")

    @obj.handler()
    async def add(ctx: ObjectContext) -> list[int]:
        out = []
        for _ in range(3):
            value = (await ctx.get("n", type_hint=int) or 0) + 1
            ctx.set("n", value)
            out.append(value)
            await ctx.run("pause", lambda: None)
        return out

    async def ask(on: Stage) -> list[list[int]]:
        return [await on.client.object_call(add, "k", idempotency_key=key) for key in ("one", "two")]

    def check(answer: Any, crashed: bool) -> None:
        assert answer == [[1, 2, 3], [4, 5, 6]]

    stride = 1 if stage.kind == "memory" else 3
    assert await every_crash(stage, (obj,), ask, check, stride=stride) >= 4


async def test_changes_are_seen_by_others_at_once_and_stay_when_the_handler_fails(stage: Stage):
    obj = VirtualObject("Cart")
    go = asyncio.Event()

    @obj.handler()
    async def put(ctx: ObjectContext, value: int) -> None:
        ctx.set("n", value)
        await ctx.run("wait", go.wait)
        raise TerminalError("no")

    @obj.handler(kind="shared")
    async def show(ctx: ObjectSharedContext) -> Any:
        return await ctx.get("n")

    await stage.start(obj)
    sent = await stage.client.object_send(put, "k", 5)
    await until_it_is(lambda: stage.client.object_call(show, "k"), 5)
    go.set()
    with pytest.raises(TerminalError, match="no"):
        await stage.client.attach(sent.invocation_id)
    assert await stage.client.object_call(show, "k") == 5


async def test_a_value_over_the_limit_is_refused_with_its_name(stage: Stage):
    obj = VirtualObject("Cart")

    @obj.handler()
    async def put(ctx: ObjectContext) -> str:
        try:
            ctx.set("big", "x" * 2000)
        except EntryTooLarge as error:
            return str(error)
        return "stored"

    await stage.start(obj, knobs=Knobs(entry_size=1000))
    told = await stage.client.object_call(put, "k")
    assert "state 'big' has 2002 bytes, the limit is 1000 (entry-size-limit)" in told


# -- who may do what


def test_only_contexts_that_may_have_the_operations():
    for context in (Context, ObjectSharedContext, WorkflowSharedContext):
        assert not hasattr(context, "set")
        assert not hasattr(context, "clear_all")
    for context in (Context, ObjectContext, ObjectSharedContext):
        assert not hasattr(context, "promise")
    assert not hasattr(Context, "get")


@pytest.mark.parametrize("what", ["write from shared", "write from service", "promise from object"])
async def test_the_engine_refuses_what_slips_through(stage: Stage, what: str):
    """A handler that borrows another context's method: RT0017, transient, nothing is stored."""
    svc, obj = Service("Plain"), VirtualObject("Cart")

    @obj.handler(kind="shared")
    async def shared(ctx: Any) -> None:
        if what == "write from shared":
            ObjectContext.set(ctx, "n", 1)
        else:
            await WorkflowContext.promise(ctx, "p").value()

    @svc.handler()
    async def plain(ctx: Any) -> str:
        ObjectContext.set(ctx, "n", 1)
        return "ok"

    await stage.start(svc, obj)
    if what == "write from service":
        sent = await stage.client.service_send(plain)
    else:
        sent = await stage.client.object_send(shared, "k")
    shown = await stage.until_status(sent.invocation_id, "backing-off", "completed")
    assert shown["status"] == "backing-off"
    assert shown["last_failure"]["metadata"]["restate_code"] == "RT0017"
    assert len(shown["journal"]) == 1


# -- one at a time


async def test_exclusive_handlers_of_a_key_run_one_after_another_in_order(stage: Stage):
    obj, ledger = VirtualObject("Cart"), Ledger()

    @obj.handler()
    async def work(ctx: ObjectContext, name: str) -> str:
        ledger.write(f"{name} begins")
        await ctx.sleep(timedelta(milliseconds=2))
        ledger.write(f"{name} ends")
        return name

    await stage.start(obj)
    names = [f"n{n}" for n in range(6)]
    assert await asyncio.gather(*[stage.client.object_call(work, "k", name) for name in names]) == names
    assert ledger.lines == [f"{name} {what}" for name in names for what in ("begins", "ends")]


async def test_keys_and_shared_handlers_do_not_wait(stage: Stage):
    obj = VirtualObject("Cart")
    go = asyncio.Event()

    @obj.handler()
    async def hold(ctx: ObjectContext) -> str:
        await ctx.run("wait", go.wait)
        return ctx.key()

    @obj.handler(kind="shared")
    async def look(ctx: ObjectSharedContext) -> str:
        return ctx.key()

    @obj.handler()
    async def other(ctx: ObjectContext) -> str:
        return ctx.key()

    await stage.start(obj)
    held = await stage.client.object_send(hold, "a")
    queued = await stage.client.object_send(other, "a")
    assert await stage.client.object_call(look, "a") == "a"
    assert await stage.client.object_call(other, "b") == "b"
    assert await stage.status(queued.invocation_id) == "pending"
    go.set()
    assert await stage.client.attach(queued.invocation_id) == "a"
    assert await stage.client.attach(held.invocation_id) == "a"


async def test_the_lock_is_held_while_backing_off_and_paused_and_through_a_restart(stage: Stage):
    obj, ledger = VirtualObject("Cart"), Ledger()
    broken = True

    @obj.handler()
    async def work(ctx: ObjectContext, name: str) -> str:
        ledger.write(name)
        if broken and name == "head":
            raise ValueError("broken")
        return name

    await stage.start(obj)
    head = await stage.client.object_send(work, "k", "head")
    tail = await stage.client.object_send(work, "k", "tail")
    await until(lambda: ledger.count("head") >= 3)
    assert await stage.status(tail.invocation_id) == "pending"
    await stage.engine.operate("pause", InvocationId(head.invocation_id))
    assert await stage.status(tail.invocation_id) == "pending"
    await stage.restart()
    assert await stage.status(head.invocation_id) == "paused"
    assert await stage.status(tail.invocation_id) == "pending"
    broken = False
    await stage.engine.operate("resume", InvocationId(head.invocation_id))
    assert await stage.client.attach(tail.invocation_id) == "tail"
    assert ledger.lines[-2:] == ["head", "tail"]


async def test_what_ends_in_the_inbox_lets_the_next_one_in(stage: Stage):
    obj, ledger = VirtualObject("Cart"), Ledger()
    go = asyncio.Event()

    @obj.handler()
    async def work(ctx: ObjectContext, name: str) -> str:
        ledger.write(name)
        await ctx.run("wait", go.wait)
        return name

    await stage.start(obj)
    sent = [await stage.client.object_send(work, "k", name) for name in ("a", "b", "c", "d")]
    ids = [InvocationId(one.invocation_id) for one in sent]
    assert await stage.engine.operate("cancel", ids[1])
    assert await stage.engine.operate("kill", ids[2])
    assert await stage.status(ids[1]) == "unknown"
    await stage.engine.operate("kill", ids[0])
    go.set()
    assert await stage.client.attach(ids[3]) == "d"
    assert ledger.lines == ["a", "d"]


async def test_an_operators_edit_waits_for_the_handler_that_runs(stage: Stage):
    obj = VirtualObject("Cart")
    go = asyncio.Event()

    @obj.handler()
    async def work(ctx: ObjectContext) -> Any:
        ctx.set("n", 1)
        await ctx.run("wait", go.wait)
        return await ctx.get("n")

    @obj.handler()
    async def show(ctx: ObjectContext) -> list[Any]:
        return [await ctx.state_keys(), await ctx.get("n")]

    await stage.start(obj)
    key = ObjectAddress("Cart", "k")
    held = await stage.client.object_send(work, "k")
    await stage.engine.edit_state(key, {"n": b"7", "m": b"8"}, None)
    after = await stage.client.object_send(show, "k")
    await stage.restart()
    go.set()
    assert await stage.client.attach(held.invocation_id) == 1
    assert await stage.client.attach(after.invocation_id) == [["m", "n"], 7]
    await stage.engine.edit_state(key, {"n": b"9"}, "not this version")
    assert await stage.client.object_call(show, "k") == [["m", "n"], 7]
    version = stage.engine.machine.names.version_of({"m": b"8", "n": b"7"})
    await stage.engine.edit_state(key, {"n": b"9"}, version)
    assert await stage.client.object_call(show, "k") == [["n"], 9]
