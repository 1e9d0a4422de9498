"""The research agent, undisturbed and crashed at every boundary of its journal: the same answer, nothing that
had finished done twice, nothing that was answered paid twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentdur import TerminalError
from agentdur.core.ports import Filter
from agentdur.runtime.views import entry_view
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    EmptyChoices,
    Garbage,
    Script,
    ScriptedLLM,
    Status,
    ToolCall,
    Turn,
)
from agentdur.tools import ToolError
from examples.agents import research
from tests.agents.research_world import ANSWER, TOOLS, TURNS, World, finished, research_in
from tests.support.stage import InlineCommitter, Stage, check_journal, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
BOUNDARIES_MIN = 12
SECONDS = {"bergen": 0.02, "lisbon": 0.0, "cherrapunji": 0.05}


async def answered(stage: Stage, world: World) -> research.Report:
    report = await stage.client.service_call(research.run, world.question, idempotency_key="once")
    assert isinstance(report, research.Report)
    return report


async def test_undisturbed_each_turn_is_asked_and_each_tool_run_once(
    stage: Stage, llm: ScriptedLLM, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    with research_in(monkeypatch, llm, tmp_path_factory.mktemp("ledger"), SECONDS) as world:
        await stage.start(research.research)
        report = await answered(stage, world)
        assert (report.answer, report.turns) == (ANSWER, TURNS)
        assert report.tokens > 0
        assert world.turns() == {turn: 1 for turn in range(TURNS)}
        assert len(world.begun()) == world.begun().total() == TOOLS


@IN_MEMORY
async def test_the_two_pages_of_a_turn_are_read_at_the_same_time(
    stage: Stage, llm: ScriptedLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Pages take a while; the ledger has both beginnings before the first end."""
    with research_in(monkeypatch, llm, tmp_path, {"bergen": 0.3, "lisbon": 0.3}) as world:
        await stage.start(research.research)
        await answered(stage, world)
        reads = [line["event"] for line in world.lines() if line["tool"] == "read_page"]
        assert reads[:4] == ["begin", "begin", "end", "end"]


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_boundary_the_answer_is_the_same_and_nothing_is_done_twice(
    stage: Stage, llm: ScriptedLLM, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    """At each commit, before it is made and after: what the journal had then is not asked for or run again,
    and of the rest only what was under way at that moment runs a second time."""
    points = 0
    with research_in(monkeypatch, llm, tmp_path_factory.mktemp("ledger"), SECONDS) as world:
        for after in (False, True):
            for limit in range(1, 200):
                crashed = await _crash_once(stage, world, limit, after)
                points += crashed
                if not crashed:
                    break
    assert points >= BOUNDARIES_MIN


async def _crash_once(stage: Stage, world: World, limit: int, after: bool) -> bool:
    """One run that dies at commit `limit`, and the run that goes on; False when there was no such commit."""
    stage.fresh()
    world.forget()
    committer = InlineCommitter(limit, after)
    await stage.start(research.research, committer=lambda: committer)
    asking = asyncio.ensure_future(answered(stage, world))
    crash = asyncio.ensure_future(committer.crashed.wait())
    await asyncio.wait({asking, crash}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    crash.cancel()
    if not committer.crashed.is_set():
        assert (await asking).answer == ANSWER
        await stage.close()
        return False
    asking.cancel()
    await stage.crash()
    await asyncio.sleep(0.1)  # threads and pages of the dead come to their end
    turns, tools = finished(shown(stage))
    asked, begun = world.turns(), world.begun()
    await stage.start(research.research, committer=InlineCommitter)
    report = await asyncio.wait_for(answered(stage, world), 20)
    assert (report.answer, report.turns) == (ANSWER, TURNS)
    again = {turn for turn, times in (world.turns() - asked).items() if times}
    assert again == set(range(turns, TURNS)), f"commit {limit}: {turns} turns were in the journal"
    assert not tools & set(world.begun() - begun), f"commit {limit}: {tools} were in the journal"
    assert max(world.turns().values()) <= 2
    assert max(world.begun().values()) <= 2
    (invocation,) = [row["id"] for row in await stage.engine.list(Filter())]
    check_journal(stage.journal(invocation))
    await stage.close()
    return True


def shown(stage: Stage) -> list[dict[str, Any]]:
    """The journal of the only invocation, as it is committed; empty when there is none."""
    found = stage.store.list(Filter())
    return [entry_view(entry) for row in found for _, entry in stage.store.journal(row.seq)]


BROKEN = [
    Status(status=429, retry_after_s=0.01),
    Status(status=500),
    DropBeforeHeaders(),
    Garbage(),
    EmptyChoices(),
]


@IN_MEMORY
async def test_an_agent_gets_through_a_bad_day_of_its_provider(
    stage: Stage, llm: ScriptedLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each turn meets every fault once; the tools do not notice."""
    with research_in(monkeypatch, llm, tmp_path, SECONDS) as world:
        for turn in range(TURNS):
            llm.add_faults(*BROKEN, turn=turn)
        await stage.start(research.research)
        assert (await answered(stage, world)).answer == ANSWER
        assert world.turns() == {turn: len(BROKEN) + 1 for turn in range(TURNS)}
        assert [entry.outcome for entry in world.asked()].count("answered") == TURNS
        assert len(world.begun()) == world.begun().total() == TOOLS


@IN_MEMORY
async def test_cancelled_while_the_model_thinks_the_agent_hangs_up(
    stage: Stage, llm: ScriptedLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with research_in(monkeypatch, llm, tmp_path, SECONDS) as world:
        llm.replace([Turn(text="too late", delay_ms=60_000)])
        await stage.start(research.research)
        sent = await stage.client.service_send(research.run, world.question)
        await until(lambda: len(world.asked()) == 1, "the request")
        await stage.engine.operate("cancel", sent.invocation_id)
        with pytest.raises(TerminalError) as ended:
            await stage.client.attach(sent.invocation_id)
        assert ended.value.status_code == 409
        await until(lambda: world.asked()[0].outcome == "client_gone", "the closed connection")


@IN_MEMORY
async def test_a_model_that_never_comes_to_an_answer_is_stopped(
    stage: Stage, llm: ScriptedLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with research_in(monkeypatch, llm, tmp_path, SECONDS) as world:
        again = Turn(tool_calls=(ToolCall(name="compute", arguments={"expression": "1 + 1"}),))
        llm.replace(Script(turns=(again,), after_last="repeat"))
        await stage.start(research.research)
        with pytest.raises(TerminalError, match="no answer after 12 turns"):
            await answered(stage, world)
        assert len(world.asked()) == research.TURNS_MAX


@pytest.mark.parametrize(
    ("expression", "value"), [("1 + 2 * 3", 7), ("-(2 - 5) / 2", 1.5), ("2495 / 774", 2495 / 774)]
)
def test_compute_computes(expression: str, value: float):
    assert research.compute(expression) == value


@pytest.mark.parametrize(
    "expression", ["1 +", "1 / 0", "__import__('os')", "2 ** 9999999", "'a' * 3", "1 if 2 else 3"]
)
def test_compute_does_nothing_else(expression: str):
    with pytest.raises(ToolError):
        research.compute(expression)
