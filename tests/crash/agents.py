"""The app that is killed. Every effect it has on the world is a line in a ledger file.

A ledger line: begin or end, invocation, step, number of the process. Written with one `write` to a file that
is opened for appending, so that a kill leaves whole lines.
"""

import asyncio
import os
from datetime import timedelta
from typing import Any

from agentdur import App, Context, ObjectContext, Service, VirtualObject

LEDGER = int(os.environ.get("LEDGER_FD", "-1"))
STEPS = 4
BRANCHES = 3

work = Service("Work")
counter = VirtualObject("Counter")


class Process:
    """Which process this is; the nursery says so before it begins."""

    number = 0


def line(kind: str, invocation: str, step: str) -> None:
    os.write(LEDGER, f"{kind} {invocation} {step} {Process.number}\n".encode())


async def effect(invocation: str, step: str, answer: Any = None) -> Any:
    line("begin", invocation, step)
    await asyncio.sleep(0.005)
    line("end", invocation, step)
    return answer


def plain_effect(invocation: str, step: str) -> str:
    line("begin", invocation, step)
    line("end", invocation, step)
    return step


@work.handler()
async def chain(ctx: Context, key: str) -> list[str]:
    """Steps one after another, with timers between them, and an increment at the end."""
    me = str(ctx.invocation_id)
    done = []
    for number in range(STEPS):
        done.append(await ctx.run(f"s{number}", plain_effect, me, f"s{number}"))
        if number % 2:
            await ctx.sleep(timedelta(milliseconds=20))
    ctx.object_send(add, key)
    return done


@work.handler()
async def fan(ctx: Context, key: str) -> list[int]:
    """Branches side by side, each with steps and a call."""
    me = str(ctx.invocation_id)

    async def branch(number: int) -> int:
        await ctx.run(f"b{number}.0", effect, me, f"b{number}.0")
        await ctx.object_call(add, key)
        return await ctx.run(f"b{number}.1", effect, me, f"b{number}.1", number)

    return list(await asyncio.gather(*(branch(number) for number in range(BRANCHES))))


@work.handler()
async def ask(ctx: Context, question: str) -> str:
    """Asks a person: the id is in the ledger, the answer comes from outside."""
    name, answer = ctx.awakeable(type_hint=str)
    await ctx.run("ask", effect, name, "ask")
    return f"{question} {await answer}"


@counter.handler()
async def add(ctx: ObjectContext) -> int:
    """Reads, does something, writes: an increment is lost when two of them overlap."""
    count = await ctx.get("count", type_hint=int) or 0
    await ctx.run("add", effect, str(ctx.invocation_id), "add")
    ctx.set("count", count + 1)
    return count + 1


@counter.handler(kind="shared")
async def read(ctx: Any) -> int:
    """The count."""
    return await ctx.get("count", type_hint=int) or 0


app = App([work, counter])
