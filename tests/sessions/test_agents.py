"""Sessions with agents that ask a model and use tools: what the model is sent is always whole."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from agentdur import TerminalError
from agentdur.agent import Agent
from agentdur.core.ports import Filter
from agentdur.sessions import Post, Summary, chat
from agentdur.sessions.history import NO_RESULT
from agentdur.testing.scripted_llm import Script, ScriptedLLM, Status, ToolCall, Turn, When
from agentdur.tools import tool
from tests.sessions.talk import said
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage, until

MODEL = "openai/scripted"
IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
SQLITE = pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
ran: Counter[str] = Counter()
gate = asyncio.Event()


@tool
async def order(number: int) -> str:
    """Look an order up."""
    ran[f"order {number}"] += 1
    return f"order {number} is on its way"


@tool
async def slow(number: int) -> str:
    """Takes as long as it is not let."""
    ran[f"slow {number}"] += 1
    await gate.wait()
    return "done"


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    global gate  # noqa: PLW0603  # an event belongs to one loop
    gate = asyncio.Event()


def calls(*wanted: tuple[str, int]) -> Turn:
    return Turn(tool_calls=tuple(ToolCall(name=name, arguments={"number": n}) for name, n in wanted))


def support(**how: Any) -> Agent:
    return Agent(name="support", model=MODEL, instructions="be kind", tools=[order, slow], **how)


def sent(llm: ScriptedLLM) -> list[list[dict[str, Any]]]:
    """The messages of each request the model was sent."""
    return [body["messages"] for body in llm.bodies()]


def is_whole(messages: list[dict[str, Any]]) -> bool:
    """Each tool call has its answer right behind it."""
    owed: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in owed:
                return False
            owed.remove(message["tool_call_id"])
        elif owed:
            return False
        owed += [call["id"] for call in message.get("tool_calls") or ()]
    return not owed


async def test_tool_calls_and_their_answers_are_part_of_the_history(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("order", 7)), Turn(text="It is on its way."), Turn(text="You are welcome.")])
    talk = chat(support(), stream=False)
    await stage.start(talk)
    reply = await stage.client.object_call(talk.turn, "s", "where is 7?")
    assert (reply.text, reply.agent, reply.model_calls) == ("It is on its way.", "support", 2)
    await stage.client.object_call(talk.turn, "s", "thanks")
    roles = [role for role, _ in await said(stage, talk, "s")]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [m["role"] for m in sent(llm)[-1]] == ["system", *roles[:-1]]
    about = await stage.client.object_call(talk.about, "s")
    assert about.model_calls == 3
    assert about.usage.total_tokens > 0


async def test_interrupted_at_its_tools_the_call_is_told_to_be_unanswered(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("order", 1), ("slow", 2)), Turn(text="Never mind.")])
    talk = chat(support(), policy="interrupt", stream=False)
    await stage.start(talk)
    first = await stage.client.object_call(talk.post, "s", "look")
    await until(lambda: ran["slow 2"])
    second = await stage.client.object_call(talk.post, "s", "forget it")
    assert (await stage.client.attach(first.invocation, talk.turn)).status == "interrupted"
    assert (await stage.client.attach(second.invocation, talk.turn)).text == "Never mind."
    assert is_whole(sent(llm)[-1])
    assert NO_RESULT in [content for _, content in await said(stage, talk, "s")]
    assert all(is_whole(messages) for messages in sent(llm))


async def test_steered_at_its_tools_the_message_is_before_the_next_model_call(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("slow", 2)), Turn(text="Both then.")])
    talk = chat(support(), policy="steer", stream=False)
    await stage.start(talk)
    first = await stage.client.object_call(talk.post, "s", "look")
    await until(lambda: ran["slow 2"])
    second = await stage.client.object_call(talk.post, "s", "and 3")
    gate.set()
    assert (await stage.client.attach(second.invocation, talk.turn)).status == "steered"
    assert (await stage.client.attach(first.invocation, talk.turn)).text == "Both then."
    assert [m["role"] for m in sent(llm)[-1]] == ["system", "user", "assistant", "tool", "user"]
    assert [content for role, content in await said(stage, talk, "s") if role == "user"] == ["look", "and 3"]


async def test_a_model_that_refuses_ends_the_turn_and_not_the_session(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="no", faults=(Status(status=400, per="turn"),))])
    talk = chat(support(), stream=False)
    await stage.start(talk)
    with pytest.raises(TerminalError):
        await stage.client.object_call(talk.turn, "s", "a")
    assert (await stage.client.object_call(talk.turn, "s", "b")).text == "no"
    assert [content for _, content in await said(stage, talk, "s")] == ["a", "b", "no"]


async def test_who_answered_last_goes_on(stage: Stage, llm: ScriptedLLM):
    billing = Agent(name="billing", model=MODEL, instructions="you are billing")
    front = Agent(name="front", model=MODEL, instructions="you are front", handoffs=[billing])
    over = Turn(tool_calls=(ToolCall(name="transfer_to_billing"),), when=When(system="you are front"))
    at_billing = When(system="you are billing")
    llm.replace([over, Turn(text="billing here", when=at_billing, at=1), Turn(text="still", when=at_billing)])
    talk = chat(front, stream=False)
    await stage.start(talk)
    assert (await stage.client.object_call(talk.turn, "s", "money")).agent == "billing"
    assert (await stage.client.object_call(talk.turn, "s", "more")).text == "still"
    assert sent(llm)[-1][0]["content"] == "you are billing"


async def test_settings_and_instructions_hold_for_one_turn(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="a"), Turn(text="b")])
    talk = chat(support(), stream=False)
    await stage.start(talk)
    post = Post(content="x", instructions="speak Latin", settings={"temperature": 0.5})
    await stage.client.object_call(talk.turn, "s", post)
    await stage.client.object_call(talk.turn, "s", "y")
    bodies = llm.bodies()
    assert [body.get("temperature") for body in bodies] == [0.5, None]
    assert ["speak Latin" in str(body["messages"]) for body in bodies] == [True, False]


SUMMARY = When(system="Summarise")


async def test_a_summary_is_written_once_and_the_original_stays(stage: Stage, llm: ScriptedLLM):
    answers = [Turn(text=f"a{n}") for n in range(4)]
    script = Script(
        turns=(Turn(text="they spoke of m0", when=SUMMARY), Turn(text="more", when=SUMMARY, at=9), *answers),
        count="conversation", after_last="repeat",
    )  # fmt: skip
    llm.replace(script)
    talk = chat(support(), compaction=Summary(MODEL, over=6, keep=2), stream=False)
    await stage.start(talk)
    for number in range(4):
        await stage.client.object_call(talk.turn, "s", f"m{number}")
    summaries = [m for m in sent(llm) if "Summarise" in str(m[0]["content"])]
    assert len(summaries) == 1
    assert "m0" in summaries[0][1]["content"]
    seen = sent(llm)[-1]
    assert "they spoke of m0" in str(seen)
    assert "'m0'" not in str(seen)
    assert len(await said(stage, talk, "s")) == 8
    about = await stage.client.object_call(talk.about, "s")
    assert about.model_calls == 5


async def test_regenerated_behind_its_summary_the_model_sees_the_originals_again(
    stage: Stage, llm: ScriptedLLM
):
    answers = [Turn(text=f"a{n}") for n in range(5)]
    llm.replace(Script(turns=(Turn(text="digest", when=SUMMARY), *answers), after_last="repeat"))
    talk = chat(support(), compaction=Summary(MODEL, over=4, keep=2), stream=False)
    await stage.start(talk)
    for number in range(3):
        await stage.client.object_call(talk.turn, "s", Post(content=f"m{number}", id=f"m{number}"))
    assert "digest" in str(sent(llm)[-1])
    posted = await stage.client.object_call(talk.edit, "s", Post(content="M0", target="m0"))
    await stage.client.attach(posted.invocation)
    assert [m["content"] for m in sent(llm)[-1]] == ["be kind", "M0"]


@IN_MEMORY
@pytest.mark.slow
async def test_crashed_at_every_commit_the_answer_the_bill_and_the_history_are_the_same(
    stage: Stage, llm: ScriptedLLM
):
    """Two turns, one of them with tools: each answered model call is paid once more at most for the one
    that was under way, no tool call is torn, and the history is what it is without a crash."""
    script = [calls(("order", 1), ("order", 2)), Turn(text="both"), Turn(text="bye")]
    talk = chat(support(), stream=False)

    async def ask() -> Any:
        one = await stage.client.object_call(talk.post, "s", Post(content="look", id="one"))
        two = await stage.client.object_call(talk.post, "s", Post(content="thanks", id="two"))
        first = await stage.client.attach(one.invocation, talk.turn)
        second = await stage.client.attach(two.invocation, talk.turn)
        return first.text, second.text, await said(stage, talk, "s")

    seen = 0

    def begin() -> None:
        nonlocal seen
        llm.replace(script)
        ran.clear()
        seen = len(sent(llm))

    begin()
    stage.fresh()
    await stage.start(talk)
    undisturbed = await ask()
    await stage.close()
    crashes = 0
    async for crashed in every_boundary(stage, [talk], ask, begin):
        assert crashed.answer == undisturbed, crashed
        now = sent(llm)
        assert len(now) - seen in (3, 4), crashed
        assert all(is_whole(messages) for messages in now[seen:]), crashed
        assert set(ran.values()) <= {1, 2}, crashed
        crashes += 1
    assert crashes > 10


@SQLITE
@pytest.mark.slow
async def test_what_a_turn_writes_does_not_grow_with_the_conversation(stage: Stage):
    """Bytes of rows per turn, at the beginning and after 300 turns: state, journals, everything."""

    async def parrot(ctx: Any, messages: list[dict[str, Any]]) -> str:
        return "x" * 200

    talk = chat(parrot)
    await stage.start(talk)
    sizes = []
    for number in range(320):
        if number in (10, 30, 300):
            sizes.append(_stored(stage))
        await stage.client.object_call(talk.turn, "s", f"{number:0200d}")
    sizes.append(_stored(stage))
    early, late = sizes[1] - sizes[0], sizes[3] - sizes[2]
    assert late < early * 1.1, sizes


def _stored(stage: Stage) -> int:
    """Bytes of all journals and of the state of the session."""
    total = 0
    for row in stage.store.list(Filter(limit=100_000)):
        total += sum(len(repr(entry)) for _, entry in stage.store.journal(row.seq))
        address = row.spec.target.object
    return total + sum(len(value) for value in stage.store.values(address).values())
