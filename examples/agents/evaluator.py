"""Evaluator and optimizer: a judge sends the draft back until it is good, three times at most.

agentdur dev examples/agents/evaluator.py
curl localhost:8080/Poems/write --json '"the sea at night"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent
from agentdur.patterns import refine

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")

poet = Agent(name="poet", model=MODEL, instructions="Write a poem of four lines; mind the feedback.")
judge = Agent(name="judge", model=MODEL, instructions="Is the poem good? Say what to change.")

service = Service("Poems")


@service.handler()
async def write(ctx: Context, topic: str) -> dict[str, object]:
    result = await refine(ctx, topic, poet, judge, rounds_max=3)
    return {"poem": result.value, "good": result.good, "rounds": result.rounds}


app = App(services=[service])
