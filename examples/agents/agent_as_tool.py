"""Agents as tools: one agent asks two others, at the same time, and answers with what they said.

agentdur dev examples/agents/agent_as_tool.py
curl localhost:8080/Travel/plan --json '"A weekend in Bergen"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent, RemoteAgent, agent_tool, run_agent, serve_agent

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")

weather = Agent(name="weather", model=MODEL, instructions="You know the weather.", description="the weather")
food = Agent(name="food", model=MODEL, instructions="You know restaurants.")
# One of them runs in this invocation; the other is an invocation of its own, wherever its service runs.
guide = RemoteAgent(name="food", service="FoodGuide", description="where to eat")

planner = Agent(
    name="planner", model=MODEL, instructions="Plan the trip; ask the others first.",
    tools=[agent_tool(weather), agent_tool(guide)],
)  # fmt: skip

service = Service("Travel")


@service.handler()
async def plan(ctx: Context, wish: str) -> dict[str, object]:
    run = await run_agent(ctx, planner, wish)
    return {"plan": run.text, "tokens": run.usage.total_tokens}


app = App(services=[service, serve_agent(food, "FoodGuide")])
