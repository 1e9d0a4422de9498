"""An agent of Google ADK, durable by one line."""

from __future__ import annotations

import pytest

from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.google_adk.world import (
    LEDGER,
    agent,
    ask,
    book,
    calls,
    crash_everywhere,
    only_invocation,
    service_of,
    steps,
    weather,
)
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
TRIP = [calls(("weather", {"city": "Oslo"}), ("book", {"city": "Oslo"})), Turn(text="Rain. Booked.")]


async def test_an_agent_is_durable_by_one_line(stage: Stage, llm: ScriptedLLM):
    """Each model call and each tool call is a step; those of tools are in branches named by the calls."""
    llm.replace(TRIP)
    await stage.start(service_of(agent(tools=[weather, book])))
    assert await ask(stage) == "Rain. Booked."
    assert LEDGER == {"weather Oslo": 1, "book Oslo": 1}
    found = [pair for pair in steps(stage, await only_invocation(stage)) if pair[1] != "timestamp"]
    assert [name for _, name in found if name.startswith("llm:")] == ["llm:helper", "llm:helper"]
    tools = {branch.rpartition("/")[2]: name for branch, name in found if name.startswith("tool:")}
    assert sorted(tools.values()) == ["tool:helper/book", "tool:helper/weather"]
    assert all(label.startswith("tool:call_") for label in tools)


@IN_MEMORY
async def test_crashed_at_every_commit_each_answer_is_paid_once(stage: Stage, llm: ScriptedLLM):
    llm.replace(TRIP)
    service = service_of(agent(tools=[weather, book]))
    points = await crash_everywhere(stage, llm, service, answer="Rain. Booked.", turns=2, at_once=2)
    assert points >= 8
