"""A session remembers, one message at a time, and is the same after a crash."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import ObjectContext, TerminalError
from agentdur.core.errors import BadDefinition
from agentdur.sessions import Post, Window, chat
from agentdur.sessions.chat import Chat
from agentdur.sessions.errors import code_of
from agentdur.sessions.words import Message
from tests.sessions.talk import Desk, said
from tests.support.stage import Stage, until_it_is


async def test_a_session_remembers_what_was_said(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    for text in ("a", "b"):
        reply = await stage.client.object_call(talk.turn, "s", text)
        assert (reply.status, reply.text) == ("completed", f"heard {text}")
    assert [len(messages) for messages in desk.seen] == [1, 3]
    assert await said(stage, talk, "s") == [
        ("user", "a"), ("assistant", "heard a"), ("user", "b"), ("assistant", "heard b"),
    ]  # fmt: skip
    about = await stage.client.object_call(talk.about, "s")
    assert (about.title, about.messages, about.turns, about.running) == ("a", 4, 2, None)
    assert await stage.client.object_call(talk.about, "another") is None


async def test_the_same_message_again_has_the_same_answer(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    once = await stage.client.object_call(talk.turn, "s", Post(content="a", id="m1"))
    again = await stage.client.object_call(talk.turn, "s", Post(content="a", id="m1"))
    posted = await stage.client.object_call(talk.post, "s", Post(content="a", id="m1"))
    assert again == once
    assert (await stage.client.attach(posted.invocation, talk.turn)).text == once.text
    assert desk.runs == 1
    assert len(await said(stage, talk, "s")) == 2


async def test_two_posts_of_one_message_at_once_are_one_turn(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    posted = await asyncio.gather(
        *[stage.client.object_call(talk.post, "s", Post(content="a", id="m1")) for _ in range(5)]
    )
    assert len({one.invocation for one in posted}) == 1
    await stage.client.attach(posted[0].invocation)
    assert desk.runs == 1


async def test_messages_that_come_at_once_are_answered_one_after_the_other(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    replies = await asyncio.gather(
        *[stage.client.object_call(talk.turn, "s", f"m{number}") for number in range(4)]
    )
    assert {one.text for one in replies} == {f"heard m{number}" for number in range(4)}
    roles = [role for role, _ in await said(stage, talk, "s")]
    assert roles == ["user", "assistant"] * 4


async def test_an_answer_is_dropped_and_given_again(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    await stage.client.object_call(talk.turn, "s", "a")
    posted = await stage.client.object_call(talk.regenerate, "s")
    reply = await stage.client.attach(posted.invocation, talk.turn)
    assert reply.text == "heard a"
    assert desk.seen[1] == desk.seen[0]
    assert len(await said(stage, talk, "s")) == 2
    assert len(await said(stage, talk, "s", audit=True)) == 3


async def test_an_edited_message_takes_the_place_of_all_that_came_after_it(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    for text in ("a", "b", "c"):
        await stage.client.object_call(talk.turn, "s", Post(content=text, id=text))
    posted = await stage.client.object_call(talk.edit, "s", Post(content="B", target="b"))
    assert (await stage.client.attach(posted.invocation, talk.turn)).text == "heard B"
    assert [content for role, content in await said(stage, talk, "s") if role == "user"] == ["a", "B"]
    assert len(await said(stage, talk, "s", audit=True)) == 8


@pytest.mark.parametrize(
    ("post", "code"),
    [
        (Post(content="", id="x"), "AD0148"),
        (Post(trigger="edit", content="y", target="nobody"), "AD0147"),
        (Post(trigger="edit", target="m1"), "AD0148"),
        (Post(trigger="regenerate", target="nobody"), "AD0147"),
    ],
)
async def test_what_cannot_be_answered_is_refused_and_changes_nothing(stage: Stage, post: Post, code: str):
    talk = chat(Desk(), name="Desk")
    await stage.start(talk)
    await stage.client.object_call(talk.turn, "s", Post(content="a", id="m1"))
    with pytest.raises(TerminalError) as refused:
        await stage.client.object_call(talk.turn, "s", post)
    assert code_of(refused.value) == code
    assert await said(stage, talk, "s") == [("user", "a"), ("assistant", "heard a")]
    assert (await stage.client.object_call(talk.turn, "s", "b")).text == "heard b"


async def test_nothing_was_said_so_nothing_can_be_said_again(stage: Stage):
    talk = chat(Desk(), name="Desk")
    await stage.start(talk)
    with pytest.raises(TerminalError, match="AD0147"):
        await stage.client.object_call(talk.turn, "new", Post(trigger="regenerate"))
    assert await stage.client.object_call(talk.about, "new") is None


async def test_an_agent_that_fails_for_good_leaves_the_question_and_a_usable_session(stage: Stage):
    answers: list[Any] = [TerminalError("no such order", 404), 42, "found"]

    async def moody(ctx: ObjectContext, messages: list[Message]) -> Any:
        answer = answers[len(messages) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    talk = chat(moody)
    await stage.start(talk)
    with pytest.raises(TerminalError, match="no such order"):
        await stage.client.object_call(talk.turn, "s", "a")
    with pytest.raises(TerminalError, match="AD0148"):
        await stage.client.object_call(talk.turn, "s", "b")
    assert (await stage.client.object_call(talk.turn, "s", "c")).text == "found"
    assert [content for _, content in await said(stage, talk, "s")] == ["a", "b", "c", "found"]


async def test_a_crash_in_the_middle_of_a_turn_is_nothing_to_the_session(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    await stage.client.object_call(talk.turn, "s", "a")
    desk.hold()
    posted = await stage.client.object_call(talk.post, "s", Post(content="b", id="b"))
    await desk.began.wait()
    await stage.crash()
    desk.open.set()
    await stage.start(talk)
    assert (await stage.client.attach(posted.invocation, talk.turn)).text == "heard b"
    assert [len(messages) for messages in desk.seen] == [1, 3, 3]
    assert len(await said(stage, talk, "s")) == 4


async def test_a_turn_that_an_operator_killed_does_not_lock_the_session(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk", policy="reject")
    await stage.start(talk)
    desk.hold()
    posted = await stage.client.object_call(talk.post, "s", "a")
    await desk.began.wait()
    with pytest.raises(TerminalError, match="AD0145"):
        await stage.client.object_call(talk.post, "s", "b")
    await stage.engine.operate("kill", posted.invocation)
    desk.open.set()
    again = await stage.client.object_call(talk.post, "s", "c")
    assert (await stage.client.attach(again.invocation, talk.turn)).text == "heard c"
    about = await stage.client.object_call(talk.about, "s")
    assert (about.turns, about.running) == (2, None)


async def test_a_window_shows_the_model_the_end_only(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk", compaction=Window(3))
    await stage.start(talk)
    for number in range(5):
        await stage.client.object_call(talk.turn, "s", f"m{number}")
    assert [len(messages) for messages in desk.seen] == [1, 3, 3, 3, 3]
    assert [m["content"] for m in desk.seen[-1]] == ["m3", "heard m3", "m4"]
    assert len(await said(stage, talk, "s")) == 10


@pytest.mark.slow
async def test_a_session_that_nobody_talks_to_clears_itself(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk", ttl=timedelta(milliseconds=300))
    await stage.start(talk)

    async def there() -> bool:
        return await stage.client.object_call(talk.about, "s") is not None

    await stage.client.object_call(talk.turn, "s", "a")
    await asyncio.sleep(0.2)
    await stage.client.object_call(talk.turn, "s", "b")  # renews it
    await asyncio.sleep(0.2)
    assert await there()
    await until_it_is(there, False)
    assert (await stage.client.object_call(talk.turn, "s", "c")).turn == 1


async def test_a_session_begun_anew_outlives_the_clearing_that_was_meant_for_the_old_one(stage: Stage):
    talk = chat(Desk(), name="Desk", ttl=timedelta(hours=1))
    await stage.start(talk)
    await stage.client.object_call(talk.turn, "s", "a")
    old = (await stage.client.object_call(talk.about, "s")).created
    assert await stage.client.object_call(talk.clear, "s") is True
    assert await stage.client.object_call(talk.clear, "s") is False
    await stage.client.object_call(talk.turn, "s", "b")
    assert await stage.client.object_call(talk.expire, "s", old) is False
    assert await said(stage, talk, "s") == [("user", "b"), ("assistant", "heard b")]


async def test_one_clearing_is_under_way_however_many_messages_come(stage: Stage):
    talk = chat(Desk(), name="Desk", ttl=timedelta(hours=1))
    await stage.start(talk)
    for number in range(4):
        await stage.client.object_call(talk.turn, "s", f"m{number}")
    assert stage.store.count().get("scheduled") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: chat(Desk(), name="D", policy="later"),  # type: ignore[arg-type]  # what is tested
        lambda: chat(Desk(), name="D", ttl=timedelta(0)),
        lambda: chat("gpt", name="D"),  # type: ignore[arg-type]  # what is tested
        lambda: chat(Desk()),
        lambda: Window(0),
    ],
)
def test_a_chat_that_makes_no_sense_is_refused_where_it_is_declared(wrong: Any):
    with pytest.raises(BadDefinition):
        wrong()


def test_a_chat_is_a_virtual_object_with_documented_handlers():
    talk = chat(Desk(), name="Desk")
    assert isinstance(talk, Chat)
    assert set(talk.handlers) == {
        "turn", "post", "regenerate", "edit", "stop", "about", "history", "clear", "expire", "complete",
    }  # fmt: skip
