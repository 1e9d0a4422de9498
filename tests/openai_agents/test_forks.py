"""Forks of runs of a framework: another model is asked, but what it is told is the framework's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from agents import Agent

from agentdur.core import journal as j
from agentdur.core.edits import TurnEdit
from agentdur.core.errors import NotEditable
from agentdur.core.ids import InvocationId
from agentdur.integrations.openai_agents.client import AgentsClient
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, requests
from tests.openai_agents.world import LEDGER, ask, calls, only_invocation, says, service_of, weather
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
TRAVELLER = Agent(name="Traveller", model="scripted", instructions="Plan.", tools=[weather])


def turns(stage: Stage, invocation: str) -> list[int]:
    return [
        at for at, one in stage.journal(invocation) if isinstance(one, j.Run) and one.name == "llm:Traveller"
    ]


@IN_MEMORY
async def test_another_model_is_asked_from_a_turn_on(stage: Stage, llm: ScriptedLLM):
    LEDGER.clear()
    llm.replace([
        says("Other says so.", model="other", at=1),
        calls(("weather", {"city": "Oslo"})), Turn(text="Go to Oslo."),
    ])  # fmt: skip
    await stage.start(service_of(TRAVELLER))
    assert await ask(stage) == "Go to Oslo."
    old = InvocationId(await only_invocation(stage))
    second = turns(stage, old)[1]
    new = await stage.engine.fork(old, None, {}, turns={second: TurnEdit(model="openai/other")})
    run = await stage.until_status(new, "completed")
    assert (run["output"], run["edits"][0]["used"]) == ("Other says so.", True)
    assert [one.model for one in requests(llm.ledger())] == ["scripted", "scripted", "other"]
    assert LEDGER["weather Oslo"] == 1


@IN_MEMORY
async def test_what_it_tells_is_refused_at_once(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="Go.")])
    await stage.start(service_of(TRAVELLER))
    await ask(stage)
    old = InvocationId(await only_invocation(stage))
    edit: Mapping[int, TurnEdit] = {turns(stage, old)[0]: TurnEdit(messages={0: "Do not plan."})}
    with pytest.raises(NotEditable, match="OpenAI Agents"):
        await stage.engine.fork(old, None, {}, turns=edit)
    assert await only_invocation(stage) == old, "nothing began"


@IN_MEMORY
async def test_where_the_journal_does_not_say_who_asked_the_call_ends_and_asks_nobody(
    stage: Stage, llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch
):
    """Versions of before did not note it."""
    llm.replace([Turn(text="Go.")])
    await stage.start(service_of(TRAVELLER))
    with monkeypatch.context() as before:
        before.setattr(AgentsClient, "framework", "")
        await ask(stage)
    old = InvocationId(await only_invocation(stage))
    asked = len(list(requests(llm.ledger())))
    edit = {turns(stage, old)[0]: TurnEdit(messages={0: "Do not plan."})}
    new = await stage.engine.fork(old, None, {}, turns=edit)
    run = await stage.until_status(new, "completed")
    assert "OpenAI Agents" in run["completion_failure"], run
    assert len(list(requests(llm.ledger()))) == asked
