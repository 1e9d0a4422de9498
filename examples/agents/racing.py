"""Racing: two models are asked, the faster answer counts, the other call hangs up and costs no more.

agentdur dev examples/agents/racing.py
curl localhost:8080/Quick/ask --json '"What is the capital of Norway?"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent
from agentdur.patterns import race

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")
OTHER = os.environ.get("AGENT_MODEL_2", MODEL)

hare = Agent(name="hare", model=MODEL, instructions="Answer at once.")
tortoise = Agent(name="tortoise", model=OTHER, instructions="Think it over.")

service = Service("Quick")


@service.handler()
async def ask(ctx: Context, question: str) -> dict[str, str]:
    won = await race(ctx, question, hare, tortoise)
    return {"by": won.name, "answer": won.value}


app = App(services=[service])
