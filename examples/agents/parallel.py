"""Parallel: three reviewers read the same text at the same time, each with steps and retries of its own.

agentdur dev examples/agents/parallel.py
curl localhost:8080/Review/review --json '"def add(a, b): return a - b"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent
from agentdur.patterns import parallel

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")

reviewers = [
    Agent(name="correctness", model=MODEL, instructions="Find bugs."),
    Agent(name="security", model=MODEL, instructions="Find security holes."),
    Agent(name="style", model=MODEL, instructions="Find what is hard to read."),
]

service = Service("Review")


@service.handler()
async def review(ctx: Context, code: str) -> dict[str, str]:
    answers = await parallel(ctx, code, *reviewers)
    return {reviewer.name: answer for reviewer, answer in zip(reviewers, answers, strict=True)}


app = App(services=[service])
