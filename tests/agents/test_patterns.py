"""The patterns, as their examples show them: undisturbed, and crashed at every commit."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from agentdur import TerminalError
from agentdur.core.ports import Filter
from agentdur.core.target import HandlerKind
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, When, requests
from examples.agents import human_approval, interrupt, notify_when_ready, rollback
from tests.agents.stories import STORIES, Story, says
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


async def told(stage: Stage, story: Story, given: Any = None) -> Any:
    """What the example answers; asked again, it is the same invocation."""
    argument = json.dumps(story.given if given is None else given).encode()
    handler = next(s for s in story.app.services if s.name == story.service).handlers[story.handler]
    try:
        once = None if handler.kind is HandlerKind.WORKFLOW else "once"  # a run is identified by its key
        raw = await stage.client.generic_call(story.service, story.handler, argument, story.key, once)
    except TerminalError as error:
        if handler.kind is not HandlerKind.WORKFLOW or error.status_code != 409:
            raise
        return await stage.client.workflow_attach(handler.fn, story.key or "")
    return json.loads(raw)


def matches(answer: Any, wanted: Any) -> bool:
    """Of an object, all that is wanted; else equal."""
    if isinstance(wanted, dict):
        return all(answer.get(name) == value for name, value in wanted.items())
    return bool(answer == wanted)


def answered(llm: ScriptedLLM) -> int:
    return [entry.outcome for entry in requests(llm.ledger())].count("answered")


def asked(llm: ScriptedLLM) -> int:
    return len(list(requests(llm.ledger())))


@pytest.mark.parametrize("story", STORIES, ids=str)
@IN_MEMORY
async def test_an_example_does_what_it_says(stage: Stage, llm: ScriptedLLM, story: Story):
    llm.replace(story.turns or [Turn(text="never asked")])
    await stage.start(*story.app.services)
    answer = await told(stage, story)
    assert matches(answer, story.answer), answer
    assert answered(llm) == story.model_calls


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=str)
@IN_MEMORY
async def test_crashed_at_every_commit_an_example_answers_the_same(
    stage: Stage, llm: ScriptedLLM, story: Story
):
    """Only what was under way at the crash is paid again."""
    llm.replace(story.turns or [Turn(text="never asked")])
    points, before = 0, 0

    def begin() -> None:
        nonlocal before
        before = asked(llm)

    async for point in every_boundary(stage, story.app.services, lambda: told(stage, story), begin):
        points += 1
        assert matches(point.answer, story.answer), point
        assert asked(llm) - before <= story.model_calls + 2 * story.at_most, point
    assert points >= 4


@IN_MEMORY
async def test_the_one_who_lost_the_race_hangs_up(stage: Stage, llm: ScriptedLLM):
    (story,) = [story for story in STORIES if story.example == "racing"]
    hare, tortoise = story.turns
    llm.replace(
        [replace(hare, delay_ms=500), tortoise]
    )  # who answers at once may win before the other has asked
    await stage.start(*story.app.services)
    await told(stage, story)
    await until(lambda: {e.outcome for e in requests(llm.ledger())} == {"answered", "client_gone"}, "silence")


@IN_MEMORY
async def test_what_was_booked_is_cancelled_when_the_rest_cannot_be(stage: Stage, llm: ScriptedLLM):
    (story,) = [story for story in STORIES if story.example == "rollback"]
    rollback.LOG.clear()
    await stage.start(*story.app.services)
    with pytest.raises(TerminalError, match="no room in Oslo for 5 nights"):
        await told(stage, story, {"city": "Oslo", "nights": 5})
    assert rollback.LOG == ["flight to Oslo", "no hotel in Oslo", "no flight to Oslo"]


@IN_MEMORY
async def test_who_asks_early_is_told_when_it_is_ready(stage: Stage, llm: ScriptedLLM):
    notify_when_ready.SENT.clear()
    llm.replace([Turn(text="All about ferries.")])
    await stage.start(notify_when_ready.report)
    asking = asyncio.ensure_future(
        stage.client.workflow_call(notify_when_ready.mail, "r1", "ada@notify_when_ready.org")
    )
    await until(lambda: stage.engine.machine.slots.invocations, "somebody who waits")
    await stage.client.workflow_call(notify_when_ready.run, "r1", "ferries")
    assert await asking == "sent"
    assert notify_when_ready.SENT == [("ada@notify_when_ready.org", "All about ferries.")]


@IN_MEMORY
async def test_a_new_message_interrupts_and_all_are_answered_together(stage: Stage, llm: ScriptedLLM):
    llm.replace([
        says("Oslo.", last_user="in one sentence!"),
        Turn(text="Oslo is a long story", when=When(last_user="Tell me about Oslo"), delay_ms=60_000),
    ])  # fmt: skip
    await stage.start(*interrupt.app.services)
    client = stage.client
    assert await client.object_call(interrupt.say, "ada", "Tell me about Oslo") == 1
    await until(lambda: asked(llm) == 1, "the first request")
    assert await client.object_call(interrupt.say, "ada", "in one sentence!") == 2
    while await client.object_call(interrupt.answer, "ada") is None:
        await asyncio.sleep(0.01)
    assert await client.object_call(interrupt.answer, "ada") == "Oslo."
    ended = {row["status"] for row in await stage.engine.list(Filter(service="Answering"))}
    assert ended == {"completed"}
    assert {entry.outcome for entry in requests(llm.ledger())} == {"client_gone", "answered"}


CLAIM = human_approval.Claim(name="Ada", euros=1200)


@IN_MEMORY
@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"approved": True, "by": "Bo"}, "paid 1200 € to Ada"),
        ({"approved": False, "reason": "who is Ada?"}, "refused: who is Ada?"),
    ],
)
async def test_a_person_decides_whether_it_is_paid(
    stage: Stage, llm: ScriptedLLM, said: dict[str, Any], outcome: str
):
    """The process dies while it waits."""
    services = human_approval.app.services
    await stage.start(*services)
    sent = await stage.client.service_send(human_approval.pay, CLAIM)
    await stage.questions()
    await stage.restart()
    await stage.decide(**said)
    assert await stage.client.attach(sent.invocation_id) == outcome


@IN_MEMORY
async def test_who_says_nothing_in_time_has_said_no(
    stage: Stage, llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(human_approval, "PATIENCE", timedelta(milliseconds=20))
    await stage.start(*human_approval.app.services)
    assert await stage.client.service_call(human_approval.pay, CLAIM) == "too late"


@IN_MEMORY
async def test_a_letter_is_sent_back_until_it_may_leave(stage: Stage, llm: ScriptedLLM):
    llm.replace([
        says("Dear Ada, we pay.", system="Write a short letter", last_user='"feedback":"be polite"'),
        says("Take the money.", system="Write a short letter"),
    ])  # fmt: skip
    await stage.start(*human_approval.app.services)
    sent = await stage.client.service_send(human_approval.letter, CLAIM)
    (asks,) = await stage.questions()
    assert asks.payload == "Take the money."
    await stage.decide(False, reason="be polite")
    await until(lambda: asked(llm) == 2, "the second draft")
    (asks,) = await stage.questions()
    assert asks.payload == "Dear Ada, we pay."
    await stage.decide(True, payload="Dear Ada, we pay today.")
    assert await stage.client.attach(sent.invocation_id) == "Dear Ada, we pay today."
