"""Notify when ready: a report takes long; whoever asks later is told when it is there, as often as they ask.

agentdur dev examples/agents/notify_when_ready.py
curl localhost:8080/Report/r1/run/send --json '"electric ferries"'
curl localhost:8080/Report/r1/mail --json '"ada@example.org"'
"""

import os

from agentdur import App, Workflow, WorkflowContext, WorkflowSharedContext
from agentdur.agent import Agent, run_agent

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")
SENT: list[tuple[str, str]] = []
"""The mails that left."""

writer = Agent(name="writer", model=MODEL, instructions="Write a report.")
report = Workflow("Report")


@report.main()
async def run(ctx: WorkflowContext, topic: str) -> str:
    text = (await run_agent(ctx, writer, topic)).text
    await ctx.promise("report", type_hint=str).resolve(text)
    return text


@report.handler()
async def mail(ctx: WorkflowSharedContext, address: str) -> str:
    """Waits, for days if need be, and mails once."""
    text = await ctx.promise("report", type_hint=str)
    await ctx.run("mail", send, address, text)
    return "sent"


def send(address: str, text: str) -> None:
    SENT.append((address, text))


app = App(services=[report])
