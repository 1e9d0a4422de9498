"""Streamed answers: heard while they come, journaled whole; what broke off is void and asked for again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.core.ids import InvocationId
from agentdur.llm import ModelAnswer, Timeouts, completion
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    DropMidStream,
    EmptyChoices,
    ErrorEvent,
    Fault,
    Garbage,
    Hang,
    NoFinish,
    ScriptedLLM,
    Status,
    ToolCall,
    Turn,
    When,
    requests,
)
from agentdur.testing.scripted_llm import Usage as ScriptedUsage
from tests.agents.llm_world import HI, IN_MEMORY, MODEL, OTHER, metas, outcomes
from tests.support.listening import Listener
from tests.support.stage import InlineCommitter, Stage, until

TEXT = "A text that is long enough to come in several pieces."
USAGE = ScriptedUsage(prompt_tokens=7, completion_tokens=12, cached_tokens=3)
SOON = Timeouts(first_token=timedelta(seconds=2), idle=timedelta(seconds=2))
chat = Service("Chat")


@chat.handler()
async def ask(ctx: Context) -> ModelAnswer:
    """One streamed call."""
    return await completion(ctx, MODEL, HI, stream=True)


@chat.handler()
async def ask_quickly(ctx: Context) -> ModelAnswer:
    """One streamed call to a model that may not be silent for long."""
    return await completion(ctx, MODEL, HI, stream=True, timeout=SOON)


async def heard(stage: Stage, invocation: str) -> Listener:
    """All that a reader hears, from the beginning to the end."""
    listener = Listener()
    async for event in stage.engine.stream(InvocationId(invocation), None):
        listener.hear(event)
    return listener


def text_of(listener: Listener) -> str:
    """The text that a reader ends with."""
    pieces = [data for chunks in listener.chunks.values() for data in chunks]
    return "".join(piece["delta"] for piece in pieces if piece["type"] == "text")


async def test_what_a_reader_hears_is_what_is_journaled(stage: Stage, llm: ScriptedLLM):
    """A reader from the beginning and one that comes when all is over."""
    llm.replace([Turn(text=TEXT, usage=USAGE, chunk_delay_ms=5)])
    await stage.start(chat)
    sent = await stage.client.service_send(ask)
    live = await heard(stage, sent.invocation_id)
    shown = await stage.until_status(sent.invocation_id, "completed")
    late = await heard(stage, sent.invocation_id)
    answer = shown["output"]
    assert text_of(live) == text_of(late) == answer["message"]["content"] == TEXT
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 12, "cached_tokens": 3}
    (finish,) = [data for chunks in live.chunks.values() for data in chunks if data["type"] == "finish"]
    assert (finish["reason"], finish["usage"], finish["model"]) == ("stop", answer["usage"], "scripted")
    (meta,) = metas(shown)
    assert meta["request_id"] == requests(llm.ledger())[0].request_id
    assert [entry.stream for entry in requests(llm.ledger())] == [True]


async def test_tool_calls_come_in_pieces_and_are_whole_in_the_journal(stage: Stage, llm: ScriptedLLM):
    cities = ({"city": "Oslo", "unit": "celsius"}, {"city": "Bergen"})
    llm.replace([Turn(tool_calls=tuple(ToolCall(name="weather", arguments=each) for each in cities))])
    await stage.start(chat)
    sent = await stage.client.service_send(ask)
    listener = await heard(stage, sent.invocation_id)
    answer = (await stage.until_status(sent.invocation_id, "completed"))["output"]
    calls = answer["message"]["tool_calls"]
    pieces = [data for chunks in listener.chunks.values() for data in chunks if data["type"] == "tool_call"]
    for wanted in calls:
        said = "".join(piece["delta"] for piece in pieces if piece["id"] == wanted["id"])
        assert said == wanted["function"]["arguments"]
    assert [one["function"]["name"] for one in calls] == ["weather", "weather"]


BREAKS: list[Fault] = [
    Status(status=429), Status(status=500), DropBeforeHeaders(), DropMidStream(),
    DropMidStream(after_chunks=0),
    ErrorEvent(), ErrorEvent(after_chunks=0), NoFinish(), Garbage(), EmptyChoices(), Hang(),
]  # fmt: skip


@IN_MEMORY
@pytest.mark.parametrize("fault", BREAKS, ids=str)
async def test_a_stream_that_breaks_is_void_and_asked_for_again(stage: Stage, llm: ScriptedLLM, fault: Fault):
    """Two requests, one whole answer, and a reader who ends with its text alone."""
    llm.replace([Turn(text=TEXT, faults=(fault,))])
    await stage.start(chat)
    sent = await stage.client.service_send(ask_quickly if isinstance(fault, Hang) else ask)
    listener = await heard(stage, sent.invocation_id)
    assert text_of(listener) == TEXT
    assert len(outcomes(llm)) == 2
    assert outcomes(llm)[1] == "answered"
    assert {entry.retry_count for entry in requests(llm.ledger())} <= {0, None}


@IN_MEMORY
async def test_a_refused_stream_ends_the_call(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(faults=(Status(status=400, times=None),))])
    await stage.start(chat)
    with pytest.raises(TerminalError) as refused:
        await stage.client.service_call(ask)
    assert refused.value.status_code == 400
    assert outcomes(llm) == ["status_400"]


@IN_MEMORY
@pytest.mark.slow
async def test_a_model_that_falls_silent_is_told_from_a_slow_one(stage: Stage, llm: ScriptedLLM):
    """Its chunks come slowly, but they come: nobody gives up. One that stops in the middle is left."""
    slow = Timeouts(idle=timedelta(seconds=2))
    service = Service("Chat")

    @service.handler()
    async def patient(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, stream=True, timeout=slow)).text

    llm.replace([Turn(text="a b c d e f g", chunk_chars=2, chunk_delay_ms=100)])
    await stage.start(service)
    assert await stage.client.service_call(patient) == "a b c d e f g"
    llm.replace([Turn(text="a b", chunk_chars=2, chunk_delay_ms=60_000)])
    sent = await stage.client.service_send(patient)
    await until(lambda: outcomes(llm)[1:2] == ["client_gone"], "the closed connection")
    shown = await stage.engine.describe(InvocationId(sent.invocation_id))
    assert shown is not None
    assert "nothing more within 2 s" in shown["last_failure"]["message"]


@IN_MEMORY
@pytest.mark.parametrize("how", ["cancel", "race"])
async def test_who_is_cancelled_or_loses_a_race_closes_the_connection(
    stage: Stage, llm: ScriptedLLM, how: str
):
    llm.replace([Turn(text=TEXT, chunk_delay_ms=60_000)])
    started = asyncio.Event()
    service = Service("Chat")

    @service.handler()
    async def race(ctx: Context) -> Any:
        return await ctx.race(completion(ctx, MODEL, HI, stream=True), ctx.run("first", started.wait))

    await stage.start(service)
    sent = await stage.client.service_send(race)
    await until(lambda: len(llm.ledger()) == 1, "the request")
    if how == "cancel":
        await stage.engine.operate("cancel", InvocationId(sent.invocation_id))
    else:
        started.set()
    await stage.until_status(sent.invocation_id, "completed")
    await until(lambda: outcomes(llm) == ["client_gone"], "the closed connection")


@IN_MEMORY
async def test_a_fallback_voids_what_the_first_model_had_said(stage: Stage, llm: ScriptedLLM):
    service = Service("Chat")

    @service.handler()
    async def two(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, stream=True, fallbacks=[OTHER])).text

    llm.replace([Turn(text=TEXT, faults=(DropMidStream(times=3),))])
    await stage.start(service)
    sent = await stage.client.service_send(two)
    listener = await heard(stage, sent.invocation_id)
    assert text_of(listener) == TEXT
    assert outcomes(llm) == ["drop_mid_stream"] * 3 + ["answered"]


@IN_MEMORY
@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_a_crash_at_any_commit_gives_the_same_answers_and_pays_each_once(
    stage: Stage, llm: ScriptedLLM, streamed: bool
):
    """Two turns and a fallback: dies at every commit, before and after it."""
    service = Service("Chat")

    @service.handler()
    async def talk(ctx: Context) -> list[str]:
        said = []
        for number in range(3):
            hi = [{"role": "user", "content": f"{number}"}]
            model = "openai/gone" if number == 1 else MODEL
            said.append((await completion(ctx, model, hi, stream=streamed, fallbacks=[MODEL])).text)
        return said

    for limit in range(1, 13):
        for after in (False, True):
            stage.fresh()
            gone = Status(status=404, times=None)
            llm.replace([
                Turn(text="hello"), Turn(faults=(gone,), when=When(model="gone")),
            ])  # fmt: skip
            seen = len(outcomes(llm))
            committer = InlineCommitter(limit, after)
            await stage.start(service, committer=lambda made=committer: made)
            sent = asyncio.ensure_future(stage.client.service_call(talk, idempotency_key="k"))
            crashed = asyncio.ensure_future(committer.crashed.wait())
            await asyncio.wait([sent, crashed], return_when=asyncio.FIRST_COMPLETED)
            died = committer.crashed.is_set()
            sent.cancel()
            crashed.cancel()
            await stage.restart()
            assert await stage.client.service_call(talk, idempotency_key="k") == ["hello"] * 3
            answered = outcomes(llm)[seen:].count("answered")
            # An answer whose commit was lost is the one that may be paid again.
            assert answered <= 3 + died, (limit, after)
            assert outcomes(llm)[seen:].count("status_404") <= 2
            await stage.stop()
