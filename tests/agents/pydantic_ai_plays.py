"""The plays that are crashed at every boundary: one for each way to run an agent."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, NativeOutput, PromptedOutput, RunContext
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import FunctionToolResultEvent

from agentdur import Context
from agentdur.integrations.pydantic_ai import Durable, durable
from tests.agents.pydantic_ai_world import Handler, Play, World, approving, called

TWO_TOOLS = [
    {"tool_calls": [called("weather", "bergen", city="bergen"), called("people", "oslo", city="oslo")]},
    {"tool_calls": [called("weather", "tromso", city="tromso")]},
    {"text": "It rains in Bergen."},
]
DONE = {"bergen", "oslo", "tromso"}


NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""One for all: each client would read all certificates of the world again."""


class Deps:
    """What no journal could hold."""

    def __init__(self, world: World) -> None:
        self.world, self.lock = world, asyncio.Lock()


def weather_agent(world: World, capability: Durable[Any], **more: Any) -> Agent[Deps, Any]:
    """A sync tool that is a closure, and an async one with dependencies."""
    agent = Agent(world.model, name="weather", deps_type=Deps, capabilities=[capability], **more)

    @agent.tool_plain
    def weather(city: str) -> str:
        world.did(city)
        return f"rain in {city}"

    @agent.tool
    async def people(ctx: RunContext[Deps], city: str) -> int:
        async with ctx.deps.lock:
            ctx.deps.world.did(ctx.tool_call_id)
        return len(city)

    return agent


def plain(world: World) -> Handler:
    agent = weather_agent(world, Durable())

    async def ask(ctx: Context, question: str) -> str:
        return str((await agent.run(question, deps=Deps(world))).output)

    return ask


def streamed(world: World) -> Handler:
    agent = weather_agent(world, Durable())

    async def ask(ctx: Context, question: str) -> str:
        async with agent.run_stream(question, deps=Deps(world)) as result:
            return "".join([delta async for delta in result.stream_text(delta=True)])

    return ask


def with_events(world: World) -> Handler:
    """An event handler that writes down each result of a tool, in the form of the seam."""

    async def seen(ctx: Any, events: Any) -> None:
        async for event in events:
            if isinstance(event, FunctionToolResultEvent):
                world.did(f"event {event.part.tool_call_id}")

    agent = weather_agent(world, Durable(event_stream_handler=seen))

    async def ask(ctx: Context, question: str) -> str:
        return str((await agent.run(question, deps=Deps(world))).output)

    return ask


def node_by_node(world: World) -> Handler:
    agent = weather_agent(world, Durable())

    async def ask(ctx: Context, question: str) -> str:
        async with agent.iter(question, deps=Deps(world)) as run:
            nodes = [type(node).__name__ async for node in run]
            assert run.result is not None
            assert nodes.count("ModelRequestNode") == 3
            return str(run.result.output)

    return ask


def made_durable(world: World) -> Handler:
    """An agent that knows nothing of it."""
    agent = Agent(world.model, name="weather")

    @agent.tool_plain
    def weather(city: str) -> str:
        world.did(city)
        return f"rain in {city}"

    @agent.tool_plain
    async def people(city: str) -> int:
        world.did(city)
        return len(city)

    safe = durable(agent)

    async def ask(ctx: Context, question: str) -> str:
        return str((await safe.run(question)).output)

    return ask


def bosses(world: World) -> Handler:
    """Two sub-agents at once, each in a tool of its own; their usage counts in the boss's run."""
    writer = Agent(world.model, name="writer", instructions="You write.", capabilities=[Durable()])

    @writer.tool
    def look(ctx: RunContext, topic: str) -> str:
        world.did(ctx.tool_call_id)
        return topic.upper()

    boss = Agent(world.model, name="boss", instructions="You lead.", capabilities=[Durable()])

    @boss.tool(metadata={"agentdur": False})
    async def delegate(ctx: RunContext, topic: str) -> str:
        return str((await writer.run(f"about {topic}", usage=ctx.usage)).output)

    async def ask(ctx: Context, question: str) -> str:
        result = await boss.run(question)
        used = result.usage() if callable(result.usage) else result.usage
        assert used.requests == 6
        return str(result.output)

    return ask


def _writer(topic: str) -> list[dict[str, Any]]:
    when = {"system": "You write.", "last_user": topic}
    return [
        {"when": when, "tool_calls": [called("look", f"look-{topic}", topic=topic)]},
        {"when": when, "text": f"all about {topic}"},
    ]


DELEGATED = [
    {
        "when": {"system": "You lead."},
        "tool_calls": [called("delegate", "d1", topic="rain"), called("delegate", "d2", topic="snow")],
    },
    {"when": {"system": "You lead."}, "text": "rain and snow"},
    *_writer("rain"),
    *_writer("snow"),
]


class Report(BaseModel):
    """What structured output asks for."""

    city: str
    degrees: int


def structured(mode: Any) -> Any:
    """The three modes; the first try does not fit and is told so."""

    def handler(world: World) -> Handler:
        agent = Agent(world.model, name="reporter", output_type=mode(Report), capabilities=[Durable()])

        @agent.tool
        def measure(ctx: RunContext) -> int:
            world.did(ctx.tool_call_id)
            return 7

        async def ask(ctx: Context, question: str) -> str:
            report = (await agent.run(question)).output
            return f"{report.city} {report.degrees}"

        return ask

    return handler


MEASURED = {"tool_calls": [called("measure", "m1")]}
MISFIT, FIT = '{"city": "bergen", "degrees": "cold"}', '{"city": "bergen", "degrees": 7}'
AS_TOOL = [
    MEASURED,
    {"tool_calls": [{"name": "final_result", "id": "f1", "arguments": MISFIT}]},
    {"tool_calls": [{"name": "final_result", "id": "f2", "arguments": FIT}]},
]
AS_TEXT = [MEASURED, {"text": MISFIT}, {"text": FIT}]


def ends_for_approval(world: World) -> Handler:
    """The run ends with the requests, and another one goes on with the results."""
    agent = Agent(
        world.model, name="payer", output_type=[str, DeferredToolRequests], capabilities=[Durable()]
    )

    @agent.tool(requires_approval=True)
    async def pay(ctx: RunContext, amount: int) -> str:
        world.did(ctx.tool_call_id)
        return f"paid {amount}"

    async def ask(ctx: Context, question: str) -> str:
        result = await agent.run(question)
        requests = result.output
        assert isinstance(requests, DeferredToolRequests)
        results = requests.build_results(approvals={requests.approvals[0].tool_call_id: True})
        history = result.all_messages()
        return str((await agent.run(message_history=history, deferred_tool_results=results)).output)

    return ask


def waits_for_approval(world: World) -> Handler:
    """Two payments that a person approves, while another tool does its work."""
    agent = weather_agent(world, Durable())

    @agent.tool(requires_approval=True)
    async def pay(ctx: RunContext[Deps], amount: int) -> str:
        world.did(ctx.tool_call_id)
        return f"paid {amount}"

    async def ask(ctx: Context, question: str) -> str:
        return str((await agent.run(question, deps=Deps(world))).output)

    return ask


PAYING_TWICE = [
    {
        "tool_calls": [
            called("pay", "p1", amount=3),
            called("weather", "bergen", city="bergen"),
            called("pay", "p2", amount=4),
        ]
    },
    {"text": "paid"},
]


def over_mcp(world: World) -> Handler:
    """A server of tools, over streamable HTTP."""
    assert world.served is not None
    world.served.did = world.did
    toolset = MCPToolset(world.served.url, id="tools", verify=NO_CERTIFICATES)
    agent = Agent(world.model, name="caller", toolsets=[toolset], capabilities=[Durable()])

    async def ask(ctx: Context, question: str) -> str:
        return str((await agent.run(question)).output)

    return ask


CALLING = [
    {"tool_calls": [called("add", "add-1-2", a=1, b=2), called("add", "add-3-4", a=3, b=4)]},
    {"text": "3 and 7"},
]

PAYING = [{"tool_calls": [called("pay", "p1", amount=3)]}, {"text": "paid"}]

PLAYS: dict[str, Play] = {
    "plain": Play(TWO_TOOLS, plain, '"It rains in Bergen."', DONE),
    "streamed": Play(TWO_TOOLS, streamed, '"It rains in Bergen."', DONE),
    "iter": Play(TWO_TOOLS, node_by_node, '"It rains in Bergen."', DONE),
    "events": Play(TWO_TOOLS, with_events, '"It rains in Bergen."', DONE | {f"event {d}" for d in DONE}),
    "made durable": Play(TWO_TOOLS, made_durable, '"It rains in Bergen."', DONE),
    "sub-agents": Play(DELEGATED, bosses, '"rain and snow"', {"look-rain", "look-snow"}),
    "tool output": Play(AS_TOOL, structured(lambda kind: kind), '"bergen 7"', {"m1"}),
    "native output": Play(AS_TEXT, structured(NativeOutput), '"bergen 7"', {"m1"}),
    "prompted output": Play(AS_TEXT, structured(PromptedOutput), '"bergen 7"', {"m1"}),
    "approval": Play(PAYING_TWICE, waits_for_approval, '"paid"', {"p1", "p2", "bergen"}, approving),
    "mcp": Play(CALLING, over_mcp, '"3 and 7"', {"add-1-2", "add-3-4"}),
    "ended for approval": Play(PAYING, ends_for_approval, '"paid"', {"p1"}),
}
