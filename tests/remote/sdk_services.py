"""Services written with the Restate SDK for Python, which use what a context can do. Served by hypercorn."""

import asyncio
import os
from datetime import timedelta

import restate
from restate import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)

svc, obj, wf = Service("RsSvc"), VirtualObject("RsObj"), Workflow("RsWf")
lazy = VirtualObject("RsLazy", enable_lazy_state=True)
LEDGER = os.environ.get("RS_LEDGER", os.devnull)
SECONDS = float(os.environ.get("RS_SECONDS", "0.01"))


def note(line: str) -> None:
    with open(LEDGER, "a") as ledger:
        ledger.write(line + "\n")


async def work(x: object) -> object:
    note(f"begin {x}")
    await asyncio.sleep(SECONDS)
    note(f"end {x}")
    return x


@svc.handler()
async def greet(ctx: Context, name: str) -> str:
    first = await ctx.run_typed("one", work, x=name)
    return str(await ctx.run_typed("two", work, x=f"{first}!"))


@svc.handler()
async def steps(ctx: Context, count: int) -> int:
    for i in range(count):
        await ctx.run_typed(f"step {i}", work, x=i)
    return count


@svc.handler()
async def parallel(ctx: Context, count: int) -> list[object]:
    futures = [ctx.run_typed(f"p{i}", work, x=i) for i in range(count)]
    await restate.gather(*futures)
    return [await future for future in futures]


@svc.handler()
async def caller(ctx: Context, name: str) -> list[object]:
    greeting = await ctx.service_call(greet, name, idempotency_key=f"greet {name}")
    again = await ctx.service_call(greet, "somebody else", idempotency_key=f"greet {name}")
    count = await ctx.object_call(add, "called", 5)
    sent = ctx.object_send(add, "called", 2, send_delay=timedelta(milliseconds=20))
    attached = await ctx.attach_invocation(await sent.invocation_id(), type_hint=int)
    native = await ctx.generic_call("Native", "hello", b'"sdk"')
    return [greeting, again, count, attached, native.decode()]


@svc.handler()
async def waiter(ctx: Context) -> str:
    name, answer = ctx.awakeable(type_hint=str)
    await ctx.object_call(remember, "awakeable", name)
    return await answer


@svc.handler()
async def signalled(ctx: Context) -> str:
    ctx.object_send(remember, "signalled", ctx.request().id)
    return await ctx.signal("go", type_hint=str)


@svc.handler()
async def signals(ctx: Context, invocation: str) -> None:
    ctx.resolve_signal(invocation, "go", "gone")


@svc.handler()
async def fails(ctx: Context) -> str:
    await ctx.run_typed("ok", work, x=1)
    raise TerminalError("no way", 418)


@svc.handler()
async def hopeless(ctx: Context) -> str:
    async def fail() -> None:
        raise ValueError("again")

    options = RunOptions[None](initial_retry_interval=timedelta(milliseconds=10), max_attempts=3)
    try:
        await ctx.run_typed("hopeless", fail, options)
    except TerminalError as error:
        return f"gave up: {error.message}"
    return "?"


@svc.handler()
async def same_again(ctx: Context) -> list[object]:
    before = [ctx.random().random(), str(ctx.uuid()), await ctx.time()]
    await ctx.sleep(timedelta(milliseconds=5))
    return before


@svc.handler()
async def undone(ctx: Context) -> str:
    try:
        await ctx.sleep(timedelta(seconds=60))
    except TerminalError:
        await ctx.run_typed("undo", work, x="undo")
        raise
    return "slept"


@svc.handler()
async def either(ctx: Context) -> str:
    _, answer = ctx.awakeable(type_hint=str)
    match await restate.select(answer=answer, late=ctx.sleep(timedelta(milliseconds=30))):
        case ["answer", value]:
            return str(value)
        case _:
            return "too late"


@svc.handler()
async def changing(ctx: Context) -> str:
    await ctx.sleep(timedelta(seconds=3), name=os.environ.get("RS_SLEEP", "first"))
    await ctx.run_typed("last", work, x="last")
    return "done"


@obj.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    value = (await ctx.get("n", type_hint=int) or 0) + n
    ctx.set("n", value)
    return value


@obj.handler()
async def remember(ctx: ObjectContext, name: str) -> None:
    ctx.set("name", name)


@obj.handler(kind="shared")
async def recall(ctx: ObjectSharedContext) -> dict[str, object]:
    return {name: await ctx.get(name) for name in await ctx.state_keys()}


@obj.handler()
async def wipe(ctx: ObjectContext) -> list[str]:
    ctx.set("other", 1)
    ctx.clear("other")
    ctx.clear_all()
    return list(await ctx.state_keys())


@lazy.handler()
async def ask(ctx: ObjectContext, n: int) -> list[object]:
    value = (await ctx.get("n", type_hint=int) or 0) + n
    ctx.set("n", value)
    return [value, await ctx.get("n"), await ctx.get("none"), list(await ctx.state_keys())]


@wf.main()
async def run(ctx: WorkflowContext, start: str) -> str:
    return start + await ctx.promise("end", type_hint=str).value()


@wf.handler()
async def finish(ctx: WorkflowSharedContext, end: str) -> str:
    promise = ctx.promise("end", type_hint=str)
    if await promise.peek() is not None:
        return "was finished"
    await promise.resolve(end)
    return "finishes"


app = restate.app([svc, obj, wf, lazy], identity_keys=os.environ.get("RS_IDENTITY", "").split() or None)
