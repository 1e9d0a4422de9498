"""A small town of agents: runs that have finished, failed, wait for a person, try again, and talk.

`python -m tests.ui.world` serves it until it is stopped, for looking at it by hand.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
from pydantic import BaseModel

from agentdur import App, Context, ObjectContext, Service, TerminalError, VirtualObject
from agentdur.admin.app import create_admin
from agentdur.admin.settings import AdminSettings
from agentdur.agent import Agent, RemoteAgent, agent_tool, run_agent, serve_agent
from agentdur.config import Settings
from agentdur.ingress.openapi import openapi
from agentdur.llm import Budget, budget
from agentdur.runtime.owner import Engine
from agentdur.sdk.client import EngineClient
from agentdur.server.frontends import operators_guests
from agentdur.sessions import chat
from agentdur.testing.scripted_llm import ScriptedLLM
from agentdur.tools import tool
from agentdur.ui.app import PREFIX, serve_ui
from tests.support.serving import served
from tests.ui.script import SCRIPT

MODEL = "openai/gpt-4o-mini"
SETTINGS = Settings(default_retry_policy_initial_interval=timedelta(seconds=30))
NASTY = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
"""What a page must show as text."""


class Claim(BaseModel):
    """A payment somebody has to agree to."""

    name: str
    euros: int = 100


@tool
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: 14 °C, showers."


@tool(approval=True)
async def book(hotel: str, nights: int) -> str:
    """Book a hotel. A person has to agree."""
    return f"{nights} nights at {hotel}."


food = Agent(name="food", model=MODEL, instructions="You know restaurants.", description="where to eat")
guide = RemoteAgent(name="food", service="FoodGuide", description="where to eat")
planner = Agent(
    name="planner", model=MODEL, instructions="Plan the trip; ask the others first.",
    tools=[weather, agent_tool(guide), book],
)  # fmt: skip
support = chat(
    Agent(name="support", model=MODEL, instructions="Help our customers.", tools=[weather, book]),
    name="support",
)

lawyer = Agent(name="lawyer", model=MODEL, instructions="You know the law.", description="what is lawful")


@tool
async def lookup(bill: int) -> str:
    """A bill by its number."""
    return f"bill {bill}: 40 €"


billing = Agent(
    name="billing", model=MODEL, instructions="You settle bills.", tools=[agent_tool(lawyer), lookup]
)
front = Agent(name="front", model=MODEL, instructions="You are the front desk.", handoffs=[billing])

travel, claims, ledger = Service("Travel"), Service("Claims"), VirtualObject("Ledger")


@travel.handler()
async def plan(ctx: Context, wish: str) -> str:
    """Plans a trip, with the help of others."""
    run = await run_agent(ctx, planner, wish, stream=True)
    return run.text


@travel.handler()
async def complain(ctx: Context, what: str) -> str:
    """The front desk hands over to who can settle it."""
    return (await run_agent(ctx, front, what)).text


@claims.handler()
async def pay(ctx: Context, claim: Claim) -> str:
    """Small sums are paid at once, others when somebody says so."""
    said = await ctx.approval(
        f"Pay {claim.euros} € to {claim.name}?", payload=claim, timeout=timedelta(days=2)
    )
    return await ctx.run("pay", lambda: f"paid {claim.euros} € to {claim.name}") if said else "refused"


@travel.handler()
async def frugal(ctx: Context, wish: str) -> str:
    """Asks under an account of the house, and a budget of its own."""
    house, mine = Budget(tokens=20_000, cost=0.5, name="travel desk"), Budget(calls=4, name="one wish")
    async with budget(ctx, house, key="travel"), budget(ctx, mine):
        return (await run_agent(ctx, front, wish)).text


@claims.handler()
async def audit(ctx: Context, year: int) -> str:
    """Fails for good."""
    await ctx.run("read the books", lambda: NASTY)
    raise TerminalError(f"the books of {year} are burnt {NASTY}", 422)


def offline() -> str:
    raise ConnectionError("bank.example:443 refused the connection")


@claims.handler()
async def transfer(ctx: Context, claim: Claim) -> str:
    """Tries until the bank answers."""
    await ctx.run("check the account", lambda: {"balance": 12_000, "owner": claim.name})
    await ctx.sleep(timedelta(milliseconds=50), name="cool down")
    return str(await ctx.run("ask the bank", offline))


@claims.handler()
async def many(ctx: Context, steps: int) -> int:
    """A long journal."""
    for n in range(steps):
        await ctx.run(f"step {n}", lambda n=n: {"n": n})  # type: ignore[misc]  # bound now
    return steps


@claims.handler()
async def tick(ctx: Context, steps: int) -> int:
    """Goes on step by step, each when it is told to."""
    for n in range(steps):
        await ctx.run(f"tick {n}", lambda n=n: n)  # type: ignore[misc]  # bound now
        await ctx.signal(f"go {n}")
    return steps


@ledger.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Adds to the balance."""
    balance = (await ctx.get("balance", type_hint=int) or 0) + amount
    ctx.set("balance", balance)
    ctx.set("last", {"amount": amount, "by": "clerk"})
    return balance


@ledger.handler()
async def close(ctx: ObjectContext) -> None:
    """Holds the key until somebody answers."""
    _, answer = ctx.awakeable()
    await answer


APP = [travel, claims, ledger, support, serve_agent(food, "FoodGuide")]


class Town:
    """The served town: its address, and the runs that were seeded."""

    def __init__(self, url: str, app: App, engine: Engine) -> None:
        self.url, self.app, self.engine = url, app, engine
        self.client = EngineClient(engine)
        self.http = httpx.AsyncClient(base_url=url, timeout=20, trust_env=False)
        self.runs: dict[str, str] = {}

    async def status(self, run: str) -> str:
        """As the admin API says it."""
        nothing = {"after": 1_000_000, "limit": 1}  # of the journal, which may be long
        given = await self.http.get(f"/invocations/{self.runs.get(run, run)}/rows", params=nothing)
        return str(given.json()["run"]["status"])

    async def until(self, run: str, *statuses: str) -> None:
        """Wait until it has one of these."""
        async with asyncio.timeout(20):
            while await self.status(run) not in statuses:  # asks over HTTP
                await asyncio.sleep(0.02)

    async def start(self, name: str, service: str, handler: str, input: Any, key: str | None = None) -> str:
        """A run, by a name of ours."""
        body = {"service": service, "handler": handler, "input": input, "key": key}
        given = await self.http.post("/invocations", json=body)
        assert given.status_code == 202, given.text
        self.runs[name] = given.json()["id"]
        return self.runs[name]

    async def approve_all(self) -> None:
        """Decide what is asked now."""
        for asked in (await self.http.get("/approvals")).json()["approvals"]:
            said = {"digest": asked["digest"], "by": "ada", "reason": "fine"}
            await self.http.post(f"/approvals/{asked['id']}/approve", json=said)

    async def seed(self) -> None:
        """Runs of every kind."""
        await self.start("trip", "Travel", "plan", "A weekend in Bergen for two")
        async with asyncio.timeout(20):
            while not (await self.http.get("/approvals")).json()["approvals"]:
                await asyncio.sleep(0.05)
        await self.approve_all()
        await self.until("trip", "completed")
        await self.start("failed", "Claims", "audit", 1999)
        await self.start("retrying", "Claims", "transfer", {"name": "Bob", "euros": 70})
        await self.start("waiting", "Claims", "pay", {"name": "Ada <b>Lovelace</b>", "euros": 1200})
        await self.start("complaint", "Travel", "complain", "I paid twice")
        await self.start("trip2", "Travel", "plan", "A week in Oslo")
        for n in range(3):
            await self.start(f"add{n}", "Ledger", "add", 10 * n, key="acme")
        await self.start("closing", "Ledger", "close", None, key="acme")
        await self.start("queued", "Ledger", "add", 5, key="acme")
        for text in ("What is the weather in Oslo?", "Thanks! And what is 2 + 2?"):
            said = await self.http.post("/sessions/support/ada/messages", json={"content": text})
            assert said.status_code == 200, said.text
        await self.until("failed", "completed")
        await self.until("complaint", "completed")
        await self.until("retrying", "backing-off")


@asynccontextmanager
async def town(port: int = 0) -> AsyncIterator[Town]:
    """The town, served on a port of its own over a store in memory."""
    async with AsyncExitStack() as stack:
        llm = await stack.enter_async_context(ScriptedLLM(SCRIPT))
        for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
            os.environ[name] = llm.base_url
        os.environ["OPENAI_API_KEY"], os.environ["NO_PROXY"] = "any", "127.0.0.1"
        app = App(APP)
        engine = await stack.enter_async_context(app.running("memory://", settings=SETTINGS))
        about = AdminSettings(version="1.0-test")
        admin = create_admin(
            engine, about, openapi=openapi, deployments=engine.deployments,
            guests=operators_guests(app, engine), mounts={PREFIX: serve_ui},
        )  # fmt: skip
        made = Town(await stack.enter_async_context(served(admin, port)), app, engine)
        stack.push_async_callback(made.http.aclose)
        yield made


async def _main(port: int) -> None:
    async with town(port) as made:
        await made.seed()
        sys.stdout.write(f"{made.url}/ui/ {made.runs}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
