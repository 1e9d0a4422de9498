"""The example, as it is printed: a hand-over, a tool, a tool that a person agrees to, and a second turn."""

from __future__ import annotations

import asyncio

import pytest

from agentdur.testing.scripted_llm import Script, ScriptedLLM
from examples.agents import openai_agents_sdk as example
from tests.openai_agents.world import asked, calls, says
from tests.support.stage import Stage

CONVERSATION = Script(
    turns=(
        calls(("transfer_to_bookings", {}), when={"system": "You greet", "last_user": "17"}, at=0),
        calls(("find_booking", {"number": 17}), when={"system": "You change"}, at=1),
        calls(("cancel_booking", {"number": 17}), when={"system": "You change"}, at=2),
        says("It is cancelled.", system="You change", at=3),
        says("You are welcome.", system="You greet", last_user="Thanks", at=4),
    )
)


async def test_the_example_runs_across_a_restart(stage: Stage, llm: ScriptedLLM):
    llm.replace(CONVERSATION)
    await stage.start(*example.app.services)
    asking = asyncio.ensure_future(
        stage.client.object_call(example.say, "ada", "Cancel 17", idempotency_key="1")
    )
    (question,) = await stage.questions()
    assert question.payload["arguments"] == {"number": 17}
    asking.cancel()
    await stage.restart()
    await stage.decide()
    say = example.say
    assert await stage.client.object_call(say, "ada", "Cancel 17", idempotency_key="1") == "It is cancelled."
    assert await stage.client.object_call(say, "ada", "Thanks") == "You are welcome."
    assert asked(llm) == 5


def test_the_example_is_short():
    assert example.__file__ is not None
    with open(example.__file__, encoding="utf-8") as file:
        assert len(file.readlines()) < 80


pytestmark = pytest.mark.slow
