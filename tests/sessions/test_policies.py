"""What a message does that comes while the agent works."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentdur import ObjectContext, TerminalError
from agentdur.core import journal as j
from agentdur.sessions import Chat, Post, chat, steered
from agentdur.sessions.words import Message
from tests.sessions.talk import Desk, said
from tests.support.stage import Stage


async def posted_while_it_works(stage: Stage, desk: Desk, talk: Chat, **how: Any) -> tuple[Any, Any]:
    """Two messages, the second while the first is thought about."""
    desk.hold()
    first = await stage.client.object_call(talk.post, "s", Post(content="a", id="a"))
    await desk.began.wait()
    second = await stage.client.object_call(talk.post, "s", Post(content="b", id="b", **how))
    return first, second


async def test_enqueued_it_runs_after(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    first, second = await posted_while_it_works(stage, desk, talk)
    desk.open.set()
    assert (await stage.client.attach(second.invocation, talk.turn)).text == "heard b"
    assert (await stage.client.attach(first.invocation, talk.turn)).status == "completed"
    assert [content for _, content in await said(stage, talk, "s")] == ["a", "heard a", "b", "heard b"]


@pytest.mark.parametrize("said_how", [{"policy": None}, {"policy": "interrupt"}])
async def test_interrupted_the_running_turn_ends_and_the_new_one_knows_what_was_asked(
    stage: Stage, said_how: dict[str, Any]
):
    desk = Desk()
    talk = chat(desk, name="Desk", policy="enqueue" if said_how["policy"] else "interrupt")
    await stage.start(talk)
    first, second = await posted_while_it_works(stage, desk, talk, **said_how)
    reply = await stage.client.attach(first.invocation, talk.turn)
    assert reply.status == "interrupted"
    desk.open.set()
    assert (await stage.client.attach(second.invocation, talk.turn)).text == "heard b"
    assert [m["content"] for m in desk.seen[-1]] == ["a", "b"]
    assert [content for _, content in await said(stage, talk, "s")] == ["a", "b", "heard b"]


async def test_interrupted_twice_at_once_it_ends_once(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk", policy="interrupt")
    await stage.start(talk)
    desk.hold()
    first = await stage.client.object_call(talk.post, "s", "a")
    await desk.began.wait()
    later = await asyncio.gather(*[stage.client.object_call(talk.post, "s", f"b{n}") for n in range(3)])
    desk.open.set()
    replies = [await stage.client.attach(one.invocation, talk.turn) for one in (first, *later)]
    assert replies[0].status == "interrupted"
    assert {one.status for one in replies[1:]} <= {"completed", "interrupted"}
    assert replies[-1].status == "completed"
    users = [content for role, content in await said(stage, talk, "s") if role == "user"]
    assert sorted(users) == ["a", "b0", "b1", "b2"]


async def test_stopped_it_ends_and_nothing_follows(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    await stage.start(talk)
    assert await stage.client.object_call(talk.stop, "s") is False
    desk.hold()
    first = await stage.client.object_call(talk.post, "s", "a")
    await desk.began.wait()
    assert await stage.client.object_call(talk.stop, "s") is True
    assert (await stage.client.attach(first.invocation, talk.turn)).status == "interrupted"
    assert await stage.client.object_call(talk.stop, "s") is False


async def test_rejected_it_is_told_so_and_leaves_no_trace(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk", policy="reject")
    await stage.start(talk)
    with pytest.raises(TerminalError, match="AD0145") as refused:
        await posted_while_it_works(stage, desk, talk)
    assert refused.value.status_code == 409
    desk.open.set()
    third = await stage.client.object_call(talk.turn, "s", "c")
    assert third.text == "heard c"
    assert [content for role, content in await said(stage, talk, "s") if role == "user"] == ["a", "c"]


async def test_of_messages_that_come_at_once_and_reject_one_is_taken(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk", policy="reject")
    await stage.start(talk)

    async def post(number: int) -> str:
        try:
            one = await stage.client.object_call(talk.post, "s", f"m{number}")
            return str((await stage.client.attach(one.invocation, talk.turn)).status)
        except TerminalError as error:
            return error.message.split("]")[0]

    outcomes = await asyncio.gather(*[post(number) for number in range(5)])
    assert sorted(outcomes) == ["[AD0145"] * 4 + ["completed"]
    assert len(await said(stage, talk, "s")) == 2


class Looper:
    """An agent that thinks in rounds and looks for messages before each, as model loops do."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.heard: list[list[str]] = []
        self.at = [asyncio.Event() for _ in range(rounds)]
        self.go = [asyncio.Event() for _ in range(rounds)]

    async def __call__(self, ctx: ObjectContext, messages: list[Message]) -> str:
        heard = [str(m["content"]) for m in messages if m["role"] == "user"]
        for number in range(self.rounds):
            heard += [str(m["content"]) for m in await steered()]

            async def think(number: int = number) -> int:
                self.at[number].set()
                await self.go[number].wait()
                return number

            await ctx.run(f"round {number}", think)
        self.heard.append(heard)
        return "answer to " + " and ".join(heard)


async def test_steered_it_is_part_of_the_running_turn(stage: Stage):
    looper = Looper(2)
    talk = chat(looper, name="Looper", policy="steer")
    await stage.start(talk)
    first = await stage.client.object_call(talk.post, "s", Post(content="a", id="a"))
    await looper.at[0].wait()
    second = await stage.client.object_call(talk.post, "s", Post(content="b", id="b"))
    assert second.into == first.invocation
    for event in looper.go:
        event.set()
    one = await stage.client.attach(first.invocation, talk.turn)
    other = await stage.client.attach(second.invocation, talk.turn)
    assert (one.status, one.text) == ("completed", "answer to a and b")
    assert (other.status, other.text, other.turn) == ("steered", "answer to a and b", one.turn)
    assert [content for _, content in await said(stage, talk, "s")] == ["a", "b", "answer to a and b"]


async def test_a_message_that_comes_too_late_to_steer_has_a_turn_of_its_own(stage: Stage):
    looper = Looper(1)
    talk = chat(looper, name="Looper", policy="steer")
    await stage.start(talk)
    await stage.client.object_call(talk.post, "s", Post(content="a", id="a"))
    await looper.at[0].wait()
    second = await stage.client.object_call(talk.post, "s", Post(content="b", id="b"))
    looper.go[0].set()
    other = await stage.client.attach(second.invocation, talk.turn)
    assert (other.status, other.turn) == ("completed", 2)
    assert looper.heard == [["a"], ["a", "b"]]


@pytest.mark.parametrize("moment", [0, 1])
async def test_what_steered_a_turn_steers_it_again_after_a_crash(stage: Stage, moment: int):
    """Crashed while the message is under way, or while the round it was put before is thought about."""
    looper = Looper(3)
    talk = chat(looper, name="Looper", policy="steer")
    await stage.start(talk)
    first = await stage.client.object_call(talk.post, "s", Post(content="a", id="a"))
    await looper.at[0].wait()
    second = await stage.client.object_call(talk.post, "s", Post(content="b", id="b"))
    if moment == 1:
        looper.go[0].set()
        await looper.at[1].wait()
    await stage.crash()
    for event in looper.go:
        event.set()
    await stage.start(talk)
    one = await stage.client.attach(first.invocation, talk.turn)
    other = await stage.client.attach(second.invocation, talk.turn)
    assert looper.heard[-1][0] == "a"
    assert sorted(looper.heard[-1]) == ["a", "b"]
    users = [content for role, content in await said(stage, talk, "s") if role == "user"]
    assert users == ["a", "b"]
    assert one.status == "completed"
    assert other.status in ("steered", "completed")
    taken = [e for _, e in stage.journal(first.invocation) if isinstance(e, j.Run) and e.name == "steer"]
    assert len(taken) == (other.status == "steered")
