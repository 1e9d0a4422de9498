"""Routing: a small model chooses who answers.

agentdur dev examples/agents/route.py
curl localhost:8080/HelpDesk/ask --json '"I was charged twice"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent
from agentdur.patterns import Doer, route

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")

router = Agent(name="router", model=MODEL, instructions="Sort the request.")
billing = Agent(name="billing", model=MODEL, instructions="You know bills.", description="charges, refunds")
technical = Agent(name="technical", model=MODEL, instructions="You know computers.", description="faults")

service = Service("HelpDesk")


async def person(ctx: Context, request: str) -> str:
    """Somebody will look at it."""
    ticket = await ctx.run("open ticket", lambda: f"T-{len(request)}")
    return f"A colleague will call you. Your ticket is {ticket}."


@service.handler()
async def ask(ctx: Context, request: str) -> str:
    routes: dict[str, Doer] = {"billing": billing, "technical": technical, "person": person}
    answer: str = await route(ctx, request, router, routes)
    return answer


app = App(services=[service])
