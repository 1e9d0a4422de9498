"""Plain runs: `Runner.run` in a handler, as in the SDK's own documents."""

from __future__ import annotations

import asyncio

import pytest
from agents import Agent, function_tool

from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.openai_agents.world import (
    ask,
    asked,
    calls,
    crash_everywhere,
    only_invocation,
    service_of,
    steps,
    weather,
)
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
TRAVELLER = Agent(name="Traveller", instructions="Plan.", tools=[weather])
TWO_CITIES = [
    calls(("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})),
    calls(("weather", {"city": "Bonn"})),
    Turn(text="Go to Rome."),
]


@IN_MEMORY
async def test_model_calls_and_tool_calls_are_steps_with_names_of_their_own(stage: Stage, llm: ScriptedLLM):
    llm.replace(TWO_CITIES)
    await stage.start(service_of(TRAVELLER))
    assert await ask(stage) == "Go to Rome."
    assert asked(llm) == 3
    names = steps(stage, await only_invocation(stage))
    assert [name for _, name in names] == [
        "llm:Traveller", "tool:Traveller/weather", "tool:Traveller/weather", "llm:Traveller",
        "tool:Traveller/weather", "llm:Traveller",
    ]  # fmt: skip
    branches = [branch for branch, _ in names]
    assert branches[0] == "run:Traveller/model"
    assert all(branch.startswith("run:Traveller/tool:call_") for branch in branches[1:3])


@pytest.mark.slow
async def test_crashed_at_every_commit_a_run_answers_the_same(stage: Stage, llm: ScriptedLLM):
    llm.replace(TWO_CITIES)
    points = await crash_everywhere(
        stage, llm, service_of(TRAVELLER), answer="Go to Rome.", turns=3, at_once=2
    )
    assert points >= 12


@IN_MEMORY
async def test_tools_run_at_the_same_time(stage: Stage, llm: ScriptedLLM):
    """Each of two tools waits for the other to have begun."""
    both = asyncio.Barrier(2)

    @function_tool
    async def meet(name: str) -> str:
        await asyncio.wait_for(both.wait(), 10)
        return name

    llm.replace([calls(("meet", {"name": "a"}), ("meet", {"name": "b"})), Turn(text="met")])
    await stage.start(service_of(Agent(name="Host", tools=[meet])))
    assert await ask(stage) == "met"
    outputs = [
        item["output"] for item in llm.bodies()[1]["input"] if item.get("type") == "function_call_output"
    ]
    assert outputs == ["a", "b"]
