"""Human approval: a person decides, in two days or two minutes, and the agent costs nothing until then.

agentdur dev examples/agents/human_approval.py
curl localhost:8080/Claims/pay/send --json '{"name": "Ada", "euros": 1200}'
"""

import os
from datetime import timedelta

from pydantic import BaseModel

from agentdur import App, Context, Service
from agentdur.agent import Agent
from agentdur.patterns import human_review

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")
PATIENCE = timedelta(seconds=float(os.environ.get("APPROVAL_SECONDS", "172800")))

clerk = Agent(name="clerk", model=MODEL, instructions="Write a short letter about this payment.")
service = Service("Claims")


class Claim(BaseModel):
    name: str
    euros: int


@service.handler()
async def pay(ctx: Context, claim: Claim) -> str:
    """Small sums are paid at once, others when somebody says so; silence means no."""
    if claim.euros > 100:
        said = await ctx.approval(f"Pay {claim.euros} € to {claim.name}?", payload=claim, timeout=PATIENCE)
        if not said:
            return "too late" if said.timed_out else f"refused: {said.reason}"
    done: str = await ctx.run("pay", lambda: f"paid {claim.euros} € to {claim.name}")
    return done


@service.handler()
async def letter(ctx: Context, claim: Claim) -> str:
    """A letter that somebody reads before it is sent; without an answer, nothing is sent."""
    text: str = await human_review(ctx, claim, clerk, "Send this letter?", rounds_max=3)
    await ctx.run("send", lambda: None)
    return text


app = App(services=[service])
