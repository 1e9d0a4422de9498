"""Services that use what a context can do, for an endpoint that a real server drives."""

import asyncio
import os
from datetime import timedelta

from agentdur import (
    App,
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
from agentdur.core.journal import ChatMessage
from agentdur.sdk.note import keep_messages

svc, obj, wf = Service("EpSvc"), VirtualObject("EpObj"), Workflow("EpWf")
lazy = VirtualObject("EpLazy", enable_lazy_state=True)
LEDGER = os.environ.get("EP_LEDGER", os.devnull)
SECONDS = float(os.environ.get("EP_SECONDS", "0.02"))


async def work(x: object, seconds: float = SECONDS) -> object:
    note(f"begin {x}")
    await asyncio.sleep(seconds)
    note(f"end {x}")
    return x


def note(line: str) -> None:
    with open(LEDGER, "a") as ledger:
        ledger.write(line + "\n")


def counted(ledger: str) -> int:
    with open(ledger, "a+") as file:
        file.write("x")
        return file.tell()


async def hear(texts: list[str]) -> str:
    """A model that is told a conversation."""
    linked = [
        ChatMessage(f"{n}", f"{n - 1}" if n > 1 else "", f'"{text}"'.encode())
        for n, text in enumerate(texts, 1)
    ]
    keep_messages(tuple(linked))
    return f"answer {len(texts)}"


@svc.handler()
async def converse(ctx: Context, turns: int) -> str:
    said = ["question"]
    for _ in range(turns):
        said.append(await ctx.run("model", hear, list(said)))
    return str(ctx.invocation_id)


@svc.handler()
async def greet(ctx: Context, name: str) -> str:
    first = await ctx.run("one", work, name)
    return str(await ctx.run("two", work, f"{first}!"))


@svc.handler()
async def counted_steps(ctx: Context, order: dict[str, int]) -> list[int]:
    """Some steps, named by the run; then one for the counter."""
    run, done = order["run"], []
    for step in range(order["steps"]):
        await ctx.run(f"step {step}", work, f"{run}.{step}")
        done.append(step)
    await ctx.object_call(add, "counted", 1)
    return done


@svc.handler()
async def branches(ctx: Context, order: dict[str, float]) -> list[int]:
    count, seconds = int(order["count"]), order["seconds"]

    async def part(i: int) -> int:
        once = await ctx.run(f"p{i}", work, i, seconds)
        await ctx.sleep(timedelta(milliseconds=10 * (count - i)))
        return int(await ctx.run(f"q{i}", work, once * 10, seconds))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part(i)) for i in range(count)]
    return [task.result() for task in tasks]


@svc.handler()
async def caller(ctx: Context, name: str) -> list[object]:
    greeting = await ctx.service_call(greet, name, idempotency_key=f"greet {name}")
    again = ctx.service_call(greet, "somebody else", idempotency_key=f"greet {name}")
    count = await ctx.object_call(add, "called", 5)
    sent = ctx.object_send(add, "called", 2, send_delay=timedelta(milliseconds=20))
    attached = await ctx.attach_invocation(await sent.invocation_id(), type_hint=int)
    return [greeting, await again, count, attached]


@svc.handler()
async def waiter(ctx: Context) -> str:
    name, answer = ctx.awakeable(type_hint=str)
    ctx.object_send(remember, "awakeable", name)
    return await answer


@svc.handler()
async def fails(ctx: Context) -> str:
    await ctx.run("ok", work, 1)
    raise TerminalError("no way", 418)


@svc.handler()
async def flaky(ctx: Context, ledger: str) -> int:
    async def third_time_lucky() -> int:
        tries = counted(ledger)
        if tries < 3:
            raise ValueError("not yet")
        return tries

    options = RunOptions[int](initial_retry_interval=timedelta(milliseconds=20), max_attempts=5)
    return await ctx.run_typed("flaky", third_time_lucky, options)


@svc.handler()
async def racer(ctx: Context) -> str:
    async def after(name: str, seconds: float) -> str:
        await ctx.sleep(timedelta(seconds=seconds))
        return name

    return str(await ctx.race(after("hare", 0.02), after("tortoise", 60)))


@svc.handler()
async def same_again(ctx: Context) -> list[object]:
    before = [ctx.random().random(), str(ctx.uuid()), await ctx.time()]
    await ctx.sleep(timedelta(milliseconds=5))
    return before


@svc.handler()
async def saga(ctx: Context) -> None:
    async with ctx.saga() as saga:
        await ctx.run("book", work, "book")
        saga.add("unbook", work, "unbook")
        await ctx.sleep(timedelta(seconds=60))


@svc.handler()
async def signalled(ctx: Context) -> str:
    return await ctx.signal("go", type_hint=str)


@svc.handler()
async def signals(ctx: Context, invocation: str) -> None:
    ctx.resolve_signal(invocation, "go", "gone")


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
    ctx.clear_all()
    return await ctx.state_keys()


@lazy.handler()
async def ask(ctx: ObjectContext, n: int) -> list[object]:
    value = (await ctx.get("n", type_hint=int) or 0) + n
    ctx.set("n", value)
    return [value, await ctx.get("n"), await ctx.get("none"), await ctx.state_keys()]


@wf.main()
async def run(ctx: WorkflowContext, start: str) -> str:
    return start + await ctx.promise("end", type_hint=str).value()


@wf.handler()
async def finish(ctx: WorkflowSharedContext, end: str) -> None:
    await ctx.promise("end", type_hint=str).resolve(end)


@svc.handler()
async def asks(ctx: Context, deadline_ms: int | None) -> str:
    """Two at the same time; the second one only until the deadline."""
    timeout = None if deadline_ms is None else timedelta(milliseconds=deadline_ms)
    first, second = await asyncio.gather(
        ctx.approval("first?", {"n": 1}), ctx.approval("second?", timeout=timeout, default=True)
    )
    return f"{first.approved} {first.by} {first.payload['n']}, {second.approved} {second.timed_out}"


app = App([svc, obj, wf, lazy])
