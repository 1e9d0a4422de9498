"""Agents whose conversations a Restate server keeps: one that uses tools, sessions with it, and a page about
them."""

import os
from collections.abc import Iterable
from typing import Any

from agentdur import App, Context, ObjectContext, Service, VirtualObject
from agentdur.agent import Agent, run_agent
from agentdur.conversations import Asked, read
from agentdur.llm import completion
from agentdur.sdk.endpoint import Endpoint
from agentdur.sessions import chat
from agentdur.tools import tool

MODEL = os.environ.get("AGENT_MODEL", "openai/scripted")
PAGE = "It rains in Bergen. " * 25


@tool
async def look(page: int) -> str:
    """Read a page."""
    return f"{page}: {PAGE}"


reader = Agent(name="reader", model=MODEL, instructions="Read, then answer.", tools=[look], turns_max=30)
desk, talks = Service("Desk"), chat(reader, name="Talks")
memo = VirtualObject("Memo", enable_lazy_state=True)


@desk.handler()
async def answer(ctx: Context, question: str) -> str:
    """An agent of several turns."""
    return str((await run_agent(ctx, reader, question)).output)


@desk.handler()
async def told(ctx: Context, key: str) -> Any:
    """What was said there, for those who may know."""
    return await ctx.object_call(read, key, Asked())


@memo.handler()
async def add(ctx: ObjectContext, text: str) -> str:
    """A session by hand, whose state is fetched when asked for."""
    log = await ctx.get("log") or []
    log.append({"role": "user", "content": text})
    answer = await completion(ctx, MODEL, log)
    ctx.set("log", [*log, answer.message])
    return answer.text


class Before(App):
    """As it was served when an endpoint sent no messages."""

    def endpoint(self, *, identity_keys: Iterable[str] = ()) -> Endpoint:
        return Endpoint(self._all(), identity_keys=identity_keys)


app = (Before if os.environ.get("BEFORE") else App)([desk, talks, memo])
