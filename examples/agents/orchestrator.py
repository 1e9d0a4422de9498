"""Orchestrator and workers: one agent plans, a worker does each part, all at once, one agent puts them
together.

    agentdur dev examples/agents/orchestrator.py
    curl localhost:8080/Study/study --json '"electric ferries in Norway"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent
from agentdur.patterns import orchestrate

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")

planner = Agent(name="planner", model=MODEL, instructions="Divide the question into two to five parts.")
worker = Agent(name="worker", model=MODEL, instructions="Answer this part of a study in two sentences.")
editor = Agent(name="editor", model=MODEL, instructions="Write one text of these results.")

service = Service("Study")


@service.handler()
async def study(ctx: Context, question: str) -> str:
    text: str = await orchestrate(ctx, question, planner, worker, editor)
    return text


app = App(services=[service])
