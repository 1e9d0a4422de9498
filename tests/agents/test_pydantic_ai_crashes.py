"""Agents of Pydantic AI, crashed at every boundary of their journal: the same answer, every answered turn
paid once, no tool that had finished run twice."""

from __future__ import annotations

import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)


from agentdur.testing.scripted_llm import ScriptedLLM
from tests.agents.mcp_tools_served import tools_served
from tests.agents.pydantic_ai_plays import PLAYS
from tests.agents.pydantic_ai_world import IN_MEMORY, RESPONSES, crashed_everywhere, model_server
from tests.support.stage import Stage

__all__ = ["model_server"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after it"]),
]
BOUNDARIES_MIN = 4


@IN_MEMORY
@pytest.mark.parametrize("name", [name for name in PLAYS if name not in ("plain", "mcp")])
async def test_crashed_at_every_boundary_it_ends_as_if_nothing_had_happened(
    stage: Stage, model_server: ScriptedLLM, name: str, after: bool
):
    points = await crashed_everywhere(stage, model_server, PLAYS[name], after=after)
    assert points >= BOUNDARIES_MIN


@IN_MEMORY
async def test_tools_over_mcp_are_steps_as_well(stage: Stage, model_server: ScriptedLLM, after: bool):
    async with tools_served() as served:
        points = await crashed_everywhere(stage, model_server, PLAYS["mcp"], served=served, after=after)
    assert points >= BOUNDARIES_MIN


async def test_a_plain_run_is_the_same_in_memory_and_in_a_file(
    stage: Stage, model_server: ScriptedLLM, after: bool
):
    points = await crashed_everywhere(stage, model_server, PLAYS["plain"], after=after)
    assert points >= BOUNDARIES_MIN


@IN_MEMORY
@pytest.mark.parametrize("name", ["plain", "streamed"])
async def test_so_does_a_run_over_the_responses_api(
    stage: Stage, model_server: ScriptedLLM, name: str, after: bool
):
    points = await crashed_everywhere(stage, model_server, PLAYS[name], RESPONSES, after=after)
    assert points >= BOUNDARIES_MIN
