"""The same of agentdur's own agents, sessions and model calls: what was recorded, and stays as it is.

Rules of this file: those of `desks`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from agentdur import Context, Service, step
from agentdur.agent import Agent, agent_tool, run_agent
from agentdur.llm import Budget, budget, completion
from agentdur.sessions import Chat, chat
from agentdur.tools import tool
from tests.released.desks import DID, LED, SKY, WRITTEN, family

MODEL, BUSY = "openai/scripted", "openai/busy"


@tool(name="weather")
async def forecast(city: str) -> str:
    """The weather of a city."""
    DID[f"weather {city}"] += 1
    return f"{SKY[0]} in {city}"


@tool(name="book", approval=True, idempotent=False)
async def booking(city: str) -> str:
    """Book a trip."""
    DID[f"book {city}"] += 1
    return f"booked {city} in the {SKY[0]}"


def session() -> Chat:
    """A chat session: its turns are streamed."""
    return chat(Agent(name="helper", model=MODEL, instructions=LED, tools=[forecast, booking]), name="Desk")


def own_family() -> Service:
    """An agent as a tool."""
    writer = Agent(name="writer", model=MODEL, instructions=WRITTEN, description="Writes.")
    boss = Agent(name="boss", model=MODEL, instructions=LED, tools=[agent_tool(writer)])

    async def ask(question: str) -> str:
        return (await run_agent(None, boss, question)).text

    return family(ask)


class Verdict(BaseModel):
    """What a judge says."""

    good: bool


@step
async def look(city: str) -> str:
    """A step without a model."""
    DID[f"look {city}"] += 1
    return f"{SKY[0]} in {city}"


def model_calls() -> Service:
    """A streamed answer, one in a form that is asked for twice, one of a fallback, and the last one; beside a
    budget of this handler and one that is shared."""
    service = Service("Calls")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> dict[str, Any]:
        said = [{"role": "user", "content": question}]
        shared = Budget(tokens=10_000, name="all", shared=True)
        async with budget(ctx, Budget(tokens=1_000)) as own, budget(ctx, shared) as all_of_it:
            first = await completion(ctx, MODEL, [*said, _user("stream")], stream=True)
            form = await completion(
                ctx, MODEL, [*said, _user("judge")], response_format=Verdict, role="judge"
            )
            other = await completion(ctx, BUSY, [*said, _user("fall back")], fallbacks=[MODEL], role="other")
            seen = await look("Oslo")
            last = await completion(ctx, MODEL, [*said, _user(seen), _user("last")])
            spent = await all_of_it.total(ctx)
        return {
            "said": [first.text, form.parsed(Verdict).good, other.text, last.text],
            "calls": own.spent.calls, "tokens": own.spent.tokens, "shared": spent.tokens,
        }  # fmt: skip

    return service


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
