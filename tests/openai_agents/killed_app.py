"""A program of one invocation over SQLite; its weather tool hangs when HANG is set, so that it can be
killed."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from agents import Agent, Runner, function_tool

from agentdur import App, Context, Service
from agentdur.integrations.openai_agents import install

install()
WORLD = Path(os.environ["WORLD"])


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    with (WORLD / "weather.txt").open("a") as ledger:
        ledger.write(f"{city}\n")
    if os.environ.get("HANG"):
        (WORLD / "hanging").touch()
        time.sleep(600)
    return f"rain in {city}"


meteo = Agent(name="Meteo", instructions="You know weather.", tools=[weather])
gourmet = Agent(name="Gourmet", instructions="You know food.")
manager = Agent(
    name="Manager",
    instructions="You plan.",
    tools=[
        meteo.as_tool(tool_name="ask_meteo", tool_description="Weather."),
        gourmet.as_tool(tool_name="ask_gourmet", tool_description="Food."),
    ],
)
service = Service("Agents")


@service.handler()
async def plan(ctx: Context, question: str) -> str:
    """One run."""
    return str((await Runner.run(manager, question)).final_output)


async def main() -> None:
    """Ask; asked again by the next process, it is the same invocation."""
    app = App(services=[service])
    async with app.running(f"sqlite:///{WORLD}/agents.db") as engine:
        print(await engine.client().service_call(plan, "Bergen", idempotency_key="once"))


if __name__ == "__main__":
    asyncio.run(main())
