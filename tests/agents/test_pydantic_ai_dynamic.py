"""Agents of Pydantic AI whose tools and history are decided while they run: crashed at every commit they come
to the same end, and nothing that was answered is asked again.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)

from pydantic_ai import Agent, FunctionToolset, RunContext
from pydantic_ai.capabilities import PrepareTools, ProcessHistory
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, DynamicToolset

from agentdur import Context
from agentdur.integrations.pydantic_ai import Durable
from agentdur.testing.scripted_llm import ScriptedLLM
from tests.agents.pydantic_ai_world import (
    IN_MEMORY,
    Handler,
    Play,
    World,
    asked,
    called,
    crashed_everywhere,
    finished,
    journal,
    model_server,
)
from tests.support.stage import Stage

__all__ = ["model_server"]
ASKED = [
    {"tool_calls": [called("weather", "bergen", city="bergen")]},
    {"tool_calls": [called("weather", "oslo", city="oslo")]},
]
RESOLVES_ONCE = tuple(int(part) for part in version("pydantic-ai-slim").split(".")[:2]) >= (2, 68)
"""Older releases ask a toolset of a durable run for each step, whatever it says."""
SHORT, SUMMED = {"last_user": "in short"}, {"last_user": "Summary"}
DONE = {"bergen", "oslo"}


def agent_of(world: World, *more: Any, **given: Any) -> Agent[None, str]:
    """An agent with one tool, whose capabilities say what else there is."""
    durable: Any = Durable()
    agent: Agent[None, str] = Agent(world.model, name="dynamic", capabilities=[*more, durable], **given)
    return agent


def weather_of(world: World) -> Any:
    def weather(ctx: RunContext, city: str) -> str:
        """The weather of a city."""
        world.did(ctx.tool_call_id)
        return f"rain in {city}"

    return weather


def asking(agent: Agent[None, str], **given: Any) -> Handler:
    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question, **given)).output

    return ask


def windowed(world: World) -> Handler:
    """Only the last call and its result are told, after a question that was shortened."""

    def window(messages: list[ModelMessage]) -> list[ModelMessage]:
        if len(messages) <= 3:
            return messages
        return [ModelRequest(parts=[UserPromptPart("in short")]), *messages[-2:]]

    agent = agent_of(world, ProcessHistory(window))
    agent.tool(weather_of(world))
    return asking(agent)


def summarised(world: World) -> Handler:
    """What came before is summed up by another agent, whose answers are steps as well."""
    durable: Any = Durable()
    summarizer = Agent(world.model, name="summarizer", instructions="You sum up.", capabilities=[durable])

    async def compact(messages: list[ModelMessage]) -> list[ModelMessage]:
        if len(messages) <= 3:
            return messages
        said = (await summarizer.run(f"{len(messages)} messages")).output
        return [ModelRequest(parts=[UserPromptPart(f"Summary: {said}")]), *messages[-2:]]

    agent = agent_of(world, ProcessHistory(compact))
    agent.tool(weather_of(world))
    return asking(agent)


async def only_when_new(ctx: RunContext, tool: ToolDefinition) -> ToolDefinition | None:
    """Not offered once it was called twice."""
    calls = sum(isinstance(message, ModelResponse) for message in ctx.messages)
    return tool if calls < 2 else None


def prepared(world: World) -> Handler:
    """The tool prepares itself, and a function prepares all tools."""

    async def renamed(ctx: RunContext, tools: list[ToolDefinition]) -> list[ToolDefinition]:
        assert all(tool.name == "weather" for tool in tools)
        return tools

    agent = agent_of(world, PrepareTools(renamed))
    agent.tool(weather_of(world), prepare=only_when_new)
    return asking(agent)


def toolset_of(world: World, name: str | None) -> FunctionToolset[None]:
    made: FunctionToolset[None] = FunctionToolset(id=name)
    made.add_function(weather_of(world))
    return made


def chosen(world: World, per_run_step: bool) -> DynamicToolset[None]:
    """Made anew for each step, or once for the run; the last step has none."""

    def choose(ctx: RunContext[None]) -> AbstractToolset[None] | None:
        return toolset_of(world, None) if ctx.run_step < 3 else None

    return DynamicToolset(choose, per_run_step=per_run_step, id="chosen")


def dynamic(per_run_step: bool) -> Any:
    def handler(world: World) -> Handler:
        return asking(agent_of(world, toolsets=[chosen(world, per_run_step)]))

    return handler


def at_run_time(world: World) -> Handler:
    """Toolsets that come with the run, one of them chosen by a function."""
    return asking(agent_of(world), toolsets=[chosen(world, True)])


def filtered(world: World) -> Handler:
    """A toolset that shows what the run's context lets it, under another name."""
    tools = toolset_of(world, "tools").filtered(lambda ctx, tool: len(ctx.messages) < 5)
    return asking(agent_of(world, toolsets=[tools]))


END = {"text": "It rains."}
PLAYS = {
    "windowed": Play([*ASKED, {"when": SHORT, "at": 1, **END}], windowed, '"It rains."', DONE),
    "summarised": Play(
        [*ASKED, {"when": {"system": "You sum up."}, "text": "wet"}, {"when": SUMMED, "at": 1, **END}],
        summarised, '"It rains."', DONE,
    ),
    "prepared": Play([*ASKED, END], prepared, '"It rains."', DONE),
    "dynamic": Play([*ASKED, END], dynamic(True), '"It rains."', DONE),
    "once": Play([*ASKED, END], dynamic(False), '"It rains."', DONE),
    "at_run_time": Play([*ASKED, END], at_run_time, '"It rains."', DONE),
    "filtered": Play([*ASKED, END], filtered, '"It rains."', DONE),
}  # fmt: skip


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", PLAYS)
async def test_crashed_at_every_commit_it_comes_to_the_same_end(
    stage: Stage, model_server: ScriptedLLM, *, name: str, after: bool
):
    assert await crashed_everywhere(stage, model_server, PLAYS[name], after=after) >= 6


@IN_MEMORY
@pytest.mark.parametrize("name", PLAYS)
async def test_what_the_model_is_offered_and_told_is_what_was_decided(
    stage: Stage, model_server: ScriptedLLM, *, name: str
):
    """In the last request: the tools that are left, and the history as it was processed."""
    model_server.replace(PLAYS[name].script)
    await stage.start(PLAYS[name].service(World()))
    assert await asked(stage) == PLAYS[name].answer
    assert finished(journal(stage))[1] == DONE  # each call of a tool is a step
    last = model_server.bodies()[-1]
    offered = {tool["function"]["name"] for tool in last.get("tools") or ()}
    gone = name in ("prepared", "dynamic", "at_run_time", "filtered") or (
        name == "once" and not RESOLVES_ONCE
    )
    assert offered == (set() if gone else {"weather"})
    said = [message["content"] for message in last["messages"] if message["role"] == "user"]
    if name == "windowed":
        assert said == ["in short"]
    if name == "summarised":
        assert said == ["Summary: wet"]
