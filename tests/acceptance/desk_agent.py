"""What the acceptance tests serve: handlers that go right, and handlers that go wrong in all ways we know."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from agentdur import (
    App,
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)

LONE = "\ud800"


class Order(BaseModel):
    """What a caller orders."""

    item: str
    pieces: int


desk = Service("Desk")


@desk.handler()
async def order(ctx: Context, order: Order) -> str:
    return f"{order.pieces} x {order.item}"


@desk.handler()
async def say(ctx: Context, text: str) -> str:
    return text


@desk.handler()
async def nothing(ctx: Context) -> str:
    return "nothing"


@desk.handler()
async def large_result(ctx: Context, size: int) -> str:
    return "x" * size


@desk.handler()
async def large_step(ctx: Context, size: int) -> str:
    return await ctx.run("read", lambda: "x" * size)


@desk.handler()
async def large_call(ctx: Context, size: int) -> str:
    return await ctx.service_call(say, "x" * size)


@desk.handler()
async def odd_result(ctx: Context) -> object:
    return object()


@desk.handler()
async def odd_step(ctx: Context) -> object:
    return await ctx.run("fetch", object)


@desk.handler()
async def long_journal(ctx: Context, steps: int) -> int:
    for step in range(steps):
        await ctx.run("count", lambda step=step: step)
    return steps


@desk.handler()
async def bad_step_name(ctx: Context, name: Any) -> str:
    return await ctx.run(LONE if name == "lone" else name, lambda: "done")


@desk.handler()
async def bad_key(ctx: Context, key: Any) -> Any:
    return await ctx.object_call(read, key=LONE if key == "lone" else key)


@desk.handler()
async def bad_words(ctx: Context, how: str) -> str:
    if how == "terminal":
        raise TerminalError(f"no {LONE}\0", 418, {"why": LONE})
    raise ValueError(f"no {LONE}\nno")


@desk.handler()
async def fails(ctx: Context) -> str:
    raise ValueError("no such luck")


@desk.handler()
async def slow(ctx: Context, seconds: float) -> str:
    async def work() -> str:
        await asyncio.sleep(seconds)
        return "rested"

    return await ctx.run("rest", work)


@desk.handler()
async def wait(ctx: Context) -> str:
    name, answer = ctx.awakeable(type_hint=str)
    await ctx.run("ask", lambda: name)
    return await answer


box = VirtualObject("Box")


@box.handler()
async def put(ctx: ObjectContext, value: Any) -> None:
    ctx.set("value", value)


@box.handler()
async def put_large(ctx: ObjectContext, size: int) -> None:
    ctx.set("value", "x" * size)


@box.handler(kind="shared")
async def read(ctx: ObjectSharedContext) -> Any:
    return [ctx.key(), await ctx.get("value")]


trip = Workflow("Trip")


@trip.main()
async def run(ctx: WorkflowContext) -> str:
    return await ctx.promise("go").value()


app = App([desk, box, trip])
