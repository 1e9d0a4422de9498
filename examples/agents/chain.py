"""Chaining: each agent works on what the one before it made. A crash costs at most the call that was under
way.

    agentdur dev examples/agents/chain.py
    curl localhost:8080/Chain/write --json '"sourdough"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent
from agentdur.patterns import chain

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")

outliner = Agent(name="outliner", model=MODEL, instructions="Outline an article on the topic.")
writer = Agent(name="writer", model=MODEL, instructions="Write the article of this outline.")
editor = Agent(name="editor", model=MODEL, instructions="Shorten the article to one paragraph.")

service = Service("Chain")


async def checked(ctx: Context, outline: str) -> str:
    """A link of the chain may be any function; here it refuses what is no use to the next one."""
    return outline if len(outline) < 2_000 else outline[:2_000]


@service.handler()
async def write(ctx: Context, topic: str) -> str:
    result: str = await chain(ctx, topic, outliner, checked, writer, editor)
    return result


app = App(services=[service])
