"""A conversation is stored once: its bytes grow with its messages, not with the square of them."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.core.ports import Filter
from agentdur.llm import ModelAnswer, call, completion
from agentdur.llm.conversation import chain
from agentdur.runtime import messages as known
from agentdur.runtime.owner import Knobs
from agentdur.testing.scripted_llm import Script, ScriptedLLM, Turn
from agentdur.tools import tool
from tests.agents.llm_world import HI, MODEL, metas, outcomes
from tests.support.stage import InlineCommitter, Stage, until

SQLITE = pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
WORDS = "so many words that their bytes outweigh what surrounds them. " * 8
FOREVER = Script(turns=(Turn(text=f"answer: {WORDS}"),), after_last="repeat")


def history(turns: int) -> list[dict[str, str]]:
    """The conversation of so many turns, and the next question."""
    found: list[dict[str, str]] = []
    for number in range(turns):
        found += [
            {"role": "user", "content": f"question {number}: {WORDS}"},
            {"role": "assistant", "content": f"answer: {WORDS}"},
        ]
    return [*found, {"role": "user", "content": f"question {turns}: {WORDS}"}]


talk = Service("Talk")


@talk.handler()
async def long(ctx: Context, turns: int) -> int:
    """All turns in one invocation."""
    for number in range(turns):
        await completion(ctx, MODEL, history(number))
    return turns


@talk.handler()
async def turn(ctx: Context, number: int) -> int:
    """One turn of a session, whose history is known."""
    await completion(ctx, MODEL, history(number))
    return number


def stored_bytes(stage: Stage) -> int:
    """All bytes of all columns of all tables."""
    with sqlite3.connect(stage.path) as connection:
        tables = [
            name for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")
        ]
        total = 0
        for table in tables:
            columns = [row[1] for row in connection.execute(f"pragma table_info('{table}')")]
            size = " + ".join(f'coalesce(length(cast("{column}" as blob)), 0)' for column in columns)
            total += connection.execute(f"select coalesce(sum({size}), 0) from {table}").fetchone()[0]
        return int(total)


async def bytes_of(stage: Stage, turns: int, *, session: bool) -> int:
    stage.fresh()
    await stage.start(talk)
    if session:
        for number in range(turns):
            assert await stage.client.service_call(turn, number) == number
    else:
        assert await stage.client.service_call(long, turns) == turns
    await stage.stop()
    return stored_bytes(stage)


@SQLITE
@pytest.mark.parametrize("session", [False, True], ids=["one invocation", "a session of invocations"])
async def test_twice_as_many_turns_take_twice_as_many_bytes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, session: bool
):
    """Doubled and doubled again: what each doubling adds doubles, where stored whole per turn it would grow
    fourfold. The provider has no part in the story: its answer is at hand."""

    async def answer(*_: Any) -> ModelAnswer:
        return ModelAnswer(message={"role": "assistant", "content": f"answer: {WORDS}"}, model="at hand")

    monkeypatch.setattr(call, "ask", answer)
    fifty, hundred, two_hundred = [await bytes_of(stage, turns, session=session) for turns in (50, 100, 200)]
    print(f"bytes of 50, 100, 200 turns: {fifty}, {hundred}, {two_hundred}")
    first, second = hundred - fifty, two_hundred - hundred
    assert second <= 2.1 * first
    assert two_hundred / 200 <= 1.1 * fifty / 50
    whole = sum(len(str(history(number))) for number in range(200))
    assert two_hundred < whole / 20


@tool
async def weather(city: str) -> str:
    """The weather of a city."""
    return "rain"


async def test_a_model_step_says_what_the_model_was_told(stage: Stage, llm: ScriptedLLM):
    service = Service("Talk")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (
            await completion(ctx, MODEL, [{"role": "system", "content": "Be brief."}, *HI], [weather])
        ).text

    await stage.start(service)
    sent = await stage.client.service_send(ask)
    (meta,) = metas(await stage.until_status(sent.invocation_id, "completed"))
    assert (meta["model"], meta["messages"]) == ("scripted", 2)
    told = await stage.engine.conversation(meta["conversation"])
    assert told == [{"role": "system", "content": "Be brief."}, *HI]
    tools = await stage.engine.conversation(meta["tools"])
    assert tools is not None
    assert tools[0]["tools"][0]["function"]["name"] == "weather"
    assert await stage.engine.conversation("unknown") is None


async def test_what_two_invocations_say_alike_is_stored_once(stage: Stage, llm: ScriptedLLM):
    """Also by an engine that did not see the first one say it."""
    llm.replace(FOREVER)
    await stage.start(talk)
    await stage.client.service_call(turn, 2)
    before = stage.store.unused_messages(1 << 50, 99)
    await stage.restart()
    await stage.client.service_call(turn, 2)
    assert stage.store.unused_messages(1 << 50, 99) == before
    await stage.client.service_call(turn, 3)
    (end,) = stage.store.unused_messages(1 << 50, 99)
    assert end == chain(history(3))[-1].hash


async def test_a_conversation_is_stored_with_the_answer_or_not_at_all(stage: Stage, llm: ScriptedLLM):
    """Dies at every commit: whenever the answer's note refers to a conversation, it can be read."""
    llm.replace(FOREVER)
    for limit in range(1, 6):
        for after in (False, True):
            stage.fresh()
            committer = InlineCommitter(limit, after)
            await stage.start(talk, committer=lambda made=committer: made)
            sent = asyncio.ensure_future(stage.client.service_send(turn, 1, idempotency_key="k"))
            over = asyncio.ensure_future(_over(stage, sent))
            crashed = asyncio.ensure_future(committer.crashed.wait())
            await asyncio.wait([over, crashed], return_when=asyncio.FIRST_COMPLETED)
            for task in (over, crashed, sent):
                task.cancel()
            await stage.crash()
            stage.store.open()
            rows = list(stage.store.list(Filter()))
            heads = [
                e.meta for row in rows for _, e in stage.store.journal(row.seq) if getattr(e, "meta", "")
            ]
            for meta in heads:
                name = meta.split('"conversation":"')[1].split('"')[0]
                assert len(stage.store.conversation(name) or ()) == 3
            stage.store.close()


async def _over(stage: Stage, sent: asyncio.Future[Any]) -> None:
    receipt = await sent
    await stage.until_status(receipt.invocation_id, "completed")


async def test_what_nobody_uses_is_swept_from_its_end_and_what_is_used_stays(
    stage: Stage, llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(known, "TOUCH_MS", 0)
    llm.replace(FOREVER)
    knobs = Knobs(cleanup_seconds=0.02, message_seconds=3600)
    await stage.start(talk, knobs=knobs)
    await stage.client.service_call(turn, 2)
    head = chain(history(2))[-1].hash
    await asyncio.sleep(0.1)
    assert stage.store.conversation(head) is not None
    stage.engine.sweeper._message_ms = -3_600_000  # an hour from now
    await until(lambda: stage.store.unused_messages(1 << 50, 9) == [], "the sweep")
    assert stage.store.conversation(head) is None
    stage.engine.sweeper._message_ms = 3_600_000
    await stage.client.service_call(turn, 2)  # what was swept is stored again
    assert len(stage.store.conversation(head) or ()) == 5
    assert set(outcomes(llm)) == {"answered"}


def test_a_chain_tells_conversations_apart_by_all_that_was_said_before():
    one, other = chain([*history(1)]), chain([{"role": "system", "content": "x"}, *history(1)])
    assert one[-1].value == other[-1].value
    assert one[-1].hash != other[-1].hash
    assert [message.hash for message in chain(history(1))] == [message.hash for message in one]
    assert len(one[0].hash) == 40
    assert one[1].parent == one[0].hash
