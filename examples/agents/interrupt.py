"""Interrupt and regenerate: a new message cancels the answer that is being made, and all messages are
answered together.

    agentdur dev examples/agents/interrupt.py
    curl localhost:8080/Talk/ada/say --json '"Tell me about Oslo"'
    curl localhost:8080/Talk/ada/say --json '"in one sentence!"'
    curl localhost:8080/Talk/ada/answer
"""

import os
from typing import Any

from pydantic import BaseModel

from agentdur import App, Context, ObjectContext, ObjectSharedContext, Service, VirtualObject
from agentdur.agent import Agent, run_agent
from agentdur.patterns import supersede

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")
guide = Agent(name="guide", model=MODEL, instructions="You know cities.")

talk = VirtualObject("Talk")
answering = Service("Answering")


class Job(BaseModel):
    key: str
    messages: list[dict[str, Any]]


class Answer(BaseModel):
    by: str
    messages: list[dict[str, Any]]


@answering.handler()
async def work(ctx: Context, job: Job) -> None:
    """Cancelled in the middle, it simply has said nothing."""
    run = await run_agent(ctx, guide, job.messages)
    ctx.object_send(keep, job.key, Answer(by=ctx.request().id, messages=run.messages))


@talk.handler()
async def say(ctx: ObjectContext, text: str) -> int:
    """The number of messages that are being answered now."""
    messages = [*(await ctx.get("messages", type_hint=list) or []), {"role": "user", "content": text}]
    ctx.set("messages", messages)
    await supersede(ctx, await ctx.get("running", type_hint=str))
    started = ctx.service_send(work, Job(key=ctx.key(), messages=messages))
    ctx.set("running", await started.invocation_id())
    return len(messages)


@talk.handler()
async def keep(ctx: ObjectContext, answer: Answer) -> None:
    """An answer that was finished just before it was cancelled comes too late."""
    if answer.by == await ctx.get("running", type_hint=str):
        ctx.set("messages", [*(await ctx.get("messages", type_hint=list) or []), *answer.messages])
        ctx.clear("running")


@talk.handler(kind="shared")
async def answer(ctx: ObjectSharedContext) -> object:
    """The last message, once it is the agent's."""
    messages = await ctx.get("messages", type_hint=list) or []
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else None


app = App(services=[talk, answering])
