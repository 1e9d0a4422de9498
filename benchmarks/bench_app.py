"""The harness's workloads as agentdur handlers, and their in-process calls for the door."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from benchlib import door, payload

import agentdur
from agentdur import App, Context, ObjectContext, ObjectSharedContext, Service, VirtualObject
from agentdur.core.ids import awakeable_id
from agentdur.core.target import Target
from agentdur.sdk.client import EngineClient

FIRST_AWAKEABLE = 17
"""The signal index of a handler's first awakeable."""


async def small(i: int) -> dict:
    return payload.step(i)


async def llm(turn: int) -> dict:
    return payload.llm(turn)


async def tool(call: dict) -> dict:
    return payload.tool(call)


class _Marks:
    """Where W6 and W7 leave their marks: the harness's file, once it is known."""

    file: Any = None

    def hit(self, *what: Any) -> None:
        self.file.hit(*what)


_marks = _Marks()
bench, counter = Service("Bench"), VirtualObject("Counter")


@bench.handler()
async def noop(ctx: Context, body: dict) -> dict:
    return body


@bench.handler()
async def steps3(ctx: Context, body: dict) -> dict:
    for i in range(3):
        await ctx.run_typed("small", small, i=i)
    return {"done": 3}


@bench.handler()
async def agent(ctx: Context, body: dict) -> dict:
    n = 0
    for turn in range(payload.TURNS):
        m = await ctx.run_typed("llm", llm, turn=turn)
        for call in m["tool_calls"]:
            n += len((await ctx.run_typed("tool", tool, call=call))["id"])
    return {"turns": payload.TURNS, "n": n}


@bench.handler()
async def grow(ctx: Context, body: dict) -> dict:
    marks, t0 = [], time.perf_counter()
    for i in range(body["n"]):
        await ctx.run_typed("small", small, i=i)
        if (i + 1) % 10 == 0:
            marks.append(time.perf_counter() - t0)
    return {"marks": door.growth_marks(marks)}


@bench.handler()
async def child(ctx: Context, i: int) -> dict:
    return {"i": i}


@bench.handler()
async def fanout(ctx: Context, body: dict) -> dict:
    futures = [ctx.service_call(child, arg=i) for i in range(body["n"])]
    await agentdur.gather(*futures)
    return {"sum": sum([(await f)["i"] for f in futures])}


@bench.handler()
async def wait(ctx: Context, body: dict) -> str:
    name, future = ctx.awakeable()
    _marks.hit("wait", name)
    v = await future
    _marks.hit("woke", body["id"], 1 if v else 0)
    return "ok"


async def work(wid: int, i: int) -> dict:
    _marks.hit("step", wid, i)
    await asyncio.sleep(payload.FLOW_WORK)
    return payload.step(i)


@bench.handler()
async def flow(ctx: Context, body: dict) -> str:
    for i in range(payload.FLOW_STEPS):
        await ctx.run_typed("work", work, wid=body["id"], i=i)
    _marks.hit("done", body["id"])
    return "ok"


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> dict:
    c = (await ctx.get("n", type_hint=int) or 0) + n
    ctx.set("n", c)
    return {"count": c}


@counter.handler(kind="shared")
async def count(ctx: ObjectSharedContext) -> dict:
    return {"count": await ctx.get("n", type_hint=int) or 0}


def make(effects: Any) -> App:
    """The services of all workloads; `effects` takes the marks of W6 and W7."""
    _marks.file = effects
    return App([bench, counter])


class Ops:
    """The door's operations, as calls inside the process."""

    def __init__(self, app: App, store: str) -> None:
        self.app, self.store = app, store
        self.stack = AsyncExitStack()
        mine = {service.name for service in (bench, counter)}
        self.h = {name: h.fn for (service, name), h in app.handlers().items() if service in mine}

    async def startup(self) -> None:
        self.engine = await self.stack.enter_async_context(self.app.running(self.store))
        self.client = EngineClient(self.engine)

    async def shutdown(self) -> None:
        await self.stack.aclose()

    def table(self) -> dict:
        """op -> async function (key, body)."""
        h = self.h

        def service(name: str):
            fn = h[name]

            async def op(key: str, body: Any) -> Any:
                return await self.client.service_call(fn, body)

            return op

        async def add(key: str, body: Any) -> Any:
            return await self.client.object_call(h["add"], key, body["n"])

        async def count(key: str, body: Any) -> Any:
            return await self.client.object_call(h["count"], key, None)

        async def wait(key: str, body: Any) -> Any:
            await self.client.service_send(h["wait"], {"id": key}, idempotency_key=key)
            return {"started": key}

        async def resolve(key: str, body: Any) -> Any:
            waiting = self.engine.lookup(Target("Bench", "wait"), key)
            await self.client.resolve_awakeable(awakeable_id(waiting, FIRST_AWAKEABLE), {"go": 1})
            return {"sent": key}

        async def flow(key: str, body: Any) -> Any:
            await self.client.service_send(h["flow"], {"id": int(key)})
            return {"started": key}

        plain = {name: service(name) for name in ("noop", "steps3", "agent", "grow", "fanout")}
        return plain | {"add": add, "count": count, "wait": wait, "resolve": resolve, "flow": flow}
