"""Sessions in the state of a virtual object."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, Runner, Session

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.integrations.openai_agents import NoSessionState, ObjectSession
from agentdur.testing.scripted_llm import Script, ScriptedLLM, Turn
from tests.openai_agents.world import calls, crash_everywhere, weather
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
TALKER = Agent(name="Talker", instructions="Talk.", tools=[weather])
CHAT = Script(
    turns=(
        calls(("weather", {"city": "Oslo"}), at=0),
        Turn(text="It rains.", at=1),
        Turn(text="Still.", at=2),
    ),
    after_last="repeat",
)


def chat() -> tuple[VirtualObject, Any, Any]:
    """One conversation per key."""
    obj = VirtualObject("Chat")

    @obj.handler()
    async def say(ctx: ObjectContext, text: str) -> str:
        return str((await Runner.run(TALKER, text, session=ObjectSession())).final_output)

    @obj.handler()
    async def edit(ctx: ObjectContext, what: str) -> list[Any]:
        session = ObjectSession()
        assert isinstance(session, Session)
        if what == "pop":
            await session.pop_item()
            await session.add_items([{"role": "user", "content": "instead"}])
        elif what == "clear":
            await session.clear_session()
        items: list[Any] = await session.get_items()
        return [item.get("content") or item.get("type") for item in items]

    return obj, say, edit


async def test_the_next_turn_knows_the_conversation_after_a_restart(stage: Stage, llm: ScriptedLLM):
    llm.replace(CHAT)
    obj, say, _ = chat()
    await stage.start(obj)
    assert await stage.client.object_call(say, "ada", "weather?") == "It rains."
    await stage.restart()
    assert await stage.client.object_call(say, "ada", "and now?") == "Still."
    sent = llm.bodies()[-1]["input"]
    kinds = [item.get("role") or item["type"] for item in sent]
    assert kinds == ["user", "function_call", "function_call_output", "assistant", "user"]
    assert await stage.client.object_call(say, "bob", "weather?") == "It rains."


@IN_MEMORY
async def test_a_turn_writes_what_is_new_and_not_what_is_known(stage: Stage, llm: ScriptedLLM):
    """The journal of the 30th turn is as long as that of the 3rd."""
    llm.replace(CHAT)
    obj, say, _ = chat()
    await stage.start(obj)
    sizes = []
    for number in range(30):
        sent = await stage.client.object_send(say, "ada", f"turn {number:03}")
        await stage.client.attach(sent.invocation_id)
        sizes.append(sum(len(repr(entry)) for _, entry in stage.journal(sent.invocation_id)))
    assert len(llm.bodies()[-1]["input"]) > 60
    assert sizes[-1] < sizes[2] + 40, sizes


@IN_MEMORY
async def test_items_are_taken_back_and_cleared(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="hi")])
    obj, say, edit = chat()
    await stage.start(obj)
    await stage.client.object_call(say, "ada", "hello")
    assert (await stage.client.object_call(edit, "ada", "pop")) == ["hello", "instead"]
    assert (await stage.client.object_call(edit, "ada", "")) == ["hello", "instead"]
    assert (await stage.client.object_call(edit, "ada", "clear")) == []
    assert (await stage.client.object_call(edit, "ada", "")) == []
    left = [await stage.engine.state("Chat", "ada", f"openai:main:{number:010}") for number in range(4)]
    assert left == [None] * 4, "what was taken back and cleared has left the state"


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_commit_the_conversation_is_the_same(stage: Stage, llm: ScriptedLLM):
    llm.replace(CHAT)
    obj, say, edit = chat()

    async def two_turns() -> Any:
        first = await stage.client.object_call(say, "ada", "weather?", idempotency_key="1")
        second = await stage.client.object_call(say, "ada", "and now?", idempotency_key="2")
        items = await stage.client.object_call(edit, "ada", "", idempotency_key="3")
        return [first, second, len(items)]

    await crash_everywhere(stage, llm, obj, answer=["It rains.", "Still.", 6], turns=3, call=two_turns)


@IN_MEMORY
async def test_a_handler_without_state_of_its_own_is_refused_a_session(stage: Stage, llm: ScriptedLLM):
    service = Service("Agents")

    @service.handler()
    async def run(ctx: Context) -> str:
        try:
            ObjectSession()
        except NoSessionState as refused:
            return refused.code
        return "?"

    await stage.start(service)
    assert await stage.client.service_call(run, None) == "AD0163"
