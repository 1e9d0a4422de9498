"""A program of one invocation over SQLite; its weather tool hangs when HANG is set, so that it can be
killed."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.tools.agent_tool import AgentTool
from google.genai import types

from agentdur import App, ObjectContext, VirtualObject
from agentdur.integrations.google_adk import DurableRunner

WORLD = Path(os.environ["WORLD"])
MODEL = LiteLlm(model="openai/scripted")


def weather(city: str) -> str:
    """The weather of a city."""
    with (WORLD / "weather.txt").open("a") as ledger:
        ledger.write(f"{city}\n")
    if os.environ.get("HANG"):
        (WORLD / "hanging").touch()
        time.sleep(600)
    return f"rain in {city}"


meteo = LlmAgent(name="meteo", model=MODEL, instruction="You know weather.", tools=[weather])
gourmet = LlmAgent(name="gourmet", model=MODEL, instruction="You know food.")
planner = LlmAgent(
    name="planner", model=MODEL, instruction="You plan.", tools=[AgentTool(meteo), AgentTool(gourmet)]
)
runner = DurableRunner(app_name="trips", agent=planner)
trips = VirtualObject("Trips")


@trips.handler()
async def plan(ctx: ObjectContext, question: str) -> str:
    """One turn."""
    message = types.Content(role="user", parts=[types.Part(text=question)])
    said = ""
    async for event in runner.run_async(user_id="u", session_id="s", new_message=message):
        if event.is_final_response() and event.content and event.content.parts:
            said = event.content.parts[0].text or ""
    return said


async def main() -> None:
    """Ask; asked again by the next process, it is the same invocation."""
    app = App(services=[trips])
    async with app.running(f"sqlite:///{WORLD}/agents.db") as engine:
        print(await engine.client().object_call(plan, "ada", "Bergen", idempotency_key="once"))


if __name__ == "__main__":
    asyncio.run(main())
