"""The agent of `agentdur demo`: five steps, each of which takes a moment, as model calls do.

`start` makes its one invocation, or goes on with it: the idempotency key is the same in every process.
A line is printed whenever a step's action really begins.
"""

from __future__ import annotations

import asyncio
import sys

from agentdur.sdk.client import EngineClient
from agentdur.sdk.context import Context
from agentdur.sdk.service import Service
from agentdur.server import App

STEP_S = 0.5
BEGINS = "begins: "
ENDS = "report: "
STEPS = ("plan", "read the first source", "read the second source", "write", "review")

research = Service("Research")


async def work(name: str, *given: str) -> str:
    """Stands in for a model call."""
    sys.stdout.write(f"{BEGINS}{name}\n")
    sys.stdout.flush()
    await asyncio.sleep(STEP_S)
    return f"{name} ({len(given)} inputs)"


@research.handler()
async def run(ctx: Context, topic: str) -> str:
    """Plan, read two sources, write, review."""
    plan, first, second, write, review = STEPS
    the_plan = await ctx.run(plan, work, plan, topic)
    one = await ctx.run(first, work, first, the_plan)
    other = await ctx.run(second, work, second, the_plan)
    text = await ctx.run(write, work, write, one, other)
    return str(await ctx.run(review, work, review, text))


app = App([research])


async def main(store: str) -> None:
    """Call it, and print what it answers."""
    async with app.running(store) as engine:
        report = await EngineClient(engine).service_call(run, "durable agents", idempotency_key="demo")
    sys.stdout.write(f"{ENDS}{report}\n")


def start(store: str) -> None:
    """The whole life of the demo's process."""
    asyncio.run(main(store))
