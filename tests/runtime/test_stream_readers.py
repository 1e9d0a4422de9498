"""Readers of streams: slow ones, those that leave, those that are too many or ask for what is not there."""

from __future__ import annotations

import pytest

from agentdur import Context, Service
from agentdur.core.catalog import HandlerOptions
from agentdur.core.errors import (
    BadRequest,
    JournalGone,
    NotInHandler,
    Overloaded,
    UnknownInvocation,
)
from agentdur.core.ids import InvocationId
from agentdur.runtime.owner import Knobs
from agentdur.runtime.streams import StreamLimits
from agentdur.sdk.stream import stream
from tests.support.listening import Listener, journaled
from tests.support.speaking import Ear, Speaker, nothing_is_held, read, text
from tests.support.stage import QUICK, Stage, until

WORDS = ["durable ", "streams ", "are ", "the ", "journal"]


async def test_a_slow_reader_is_given_more_at_a_time(stage: Stage):
    """Nothing is queued for it, and the step does not wait."""
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    slow = stage.client.stream(sent.invocation_id)
    speaker.let("first ")
    assert (await anext(slow)).data == text("first ")
    speaker.let(*WORDS)
    await until(speaker.words.empty)
    assert (await anext(slow)).data == text("".join(WORDS))
    speaker.let(None)
    await stage.until_status(sent.invocation_id, "completed")
    assert [event.kind async for event in slow] == ["commit", "end"]


async def test_a_slow_reader_gets_the_rest_when_its_step_has_ended(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    slow = stage.client.stream(sent.invocation_id)
    speaker.let("first ")
    heard = Listener()
    heard.hear(await anext(slow))
    speaker.let(*WORDS, None)
    await stage.until_status(sent.invocation_id, "completed")
    async for event in slow:
        heard.hear(event)
    assert heard.kinds == ["chunk", "chunk", "commit", "end"]
    assert heard.of("talk") == [text("first " + "".join(WORDS))]


async def test_a_reader_far_behind_reads_the_store(stage: Stage):
    service = Service("Long")

    @service.handler()
    async def run(ctx: Context) -> None:
        for n in range(700):
            ctx.stream(n)
            if n % 50 == 0:
                await ctx.run("pause", lambda: None)

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    slow = stage.client.stream(sent.invocation_id)
    first = await anext(slow)
    await stage.until_status(sent.invocation_id, "completed")
    rest = [event async for event in slow]
    assert [first.data, *(event.data for event in rest[:-1])] == list(range(700))
    assert [e.data for e in (await read(stage, sent.invocation_id, rest[499].id)).events[:-1]] == list(
        range(501, 700)
    )


async def test_a_reader_that_leaves_leaves_nothing_behind(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    speaker.let("word")
    async for _ in stage.client.stream(sent.invocation_id):
        break
    assert not stage.engine.machine.streams.readers
    assert not stage.engine.machine.streams.channels
    closed = stage.client.stream(sent.invocation_id)
    waiting = Ear(closed)
    await waiting.until("chunk")
    closed.close()
    await waiting.task
    speaker.let(None)
    await stage.until_status(sent.invocation_id, "completed")
    assert nothing_is_held(stage)


async def test_what_is_over_the_limit_of_a_step_is_left_out_for_all(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service, knobs=Knobs(streams=StreamLimits(step_bytes=60)))
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("a" * 20, "b" * 20, "c", None)
    await ear.task
    assert ear.heard.of("talk") == [text("a" * 20), {"type": "truncated", "limit": 60}]
    assert ear.heard.said == journaled(stage.journal(sent.invocation_id))
    assert ear.heard.end["value"] == "a" * 20 + "b" * 20 + "c", "the result is whole"


async def test_readers_have_a_limit(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service, knobs=Knobs(streams=StreamLimits(readers=3, readers_of_one=2)))
    one, two = [(await stage.client.service_send(speaker.talk, None)).invocation_id for _ in range(2)]
    held = [stage.client.stream(one), stage.client.stream(one)]
    with pytest.raises(Overloaded, match="stream-readers-per-invocation-limit"):
        stage.client.stream(one)
    held.append(stage.client.stream(two))
    with pytest.raises(Overloaded, match="stream-readers-limit"):
        stage.client.stream(two)
    held.pop().close()
    held.append(stage.client.stream(two))


async def test_what_cannot_be_read_is_said_at_once(stage: Stage):
    service = Service("Short")

    @service.handler()
    async def run(ctx: Context) -> None:
        ctx.stream("x")

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    for position in (
        "",
        "x",
        "1",
        "1.",
        "1.x",
        "-1.0",
        "1.0.",
        "1.0.*.2",
        "1.end.2",
        "1.0" + ".1" * 65,
        "9" * 30,
    ):
        with pytest.raises(BadRequest):
            stage.client.stream(sent.invocation_id, position)
    await stage.until_status(sent.invocation_id, "completed")
    assert (await read(stage, sent.invocation_id, "3.end")).events == []
    await stage.engine.operate("purge-journal", InvocationId(sent.invocation_id))
    with pytest.raises(JournalGone):
        stage.client.stream(sent.invocation_id)
    await stage.engine.operate("purge", InvocationId(sent.invocation_id))
    with pytest.raises(UnknownInvocation):
        stage.client.stream(sent.invocation_id)
    with pytest.raises(NotInHandler):
        stream("outside")


async def test_a_reader_is_not_ahead_of_its_stream(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    with pytest.raises(BadRequest, match="has not come to entry 99"):
        stage.client.stream(sent.invocation_id, "99.0")


async def test_a_journal_that_is_not_kept_is_read_to_the_end_by_those_who_are_there(stage: Stage):
    speaker = Speaker()
    options = HandlerOptions(retry=QUICK.retry, journal_retention_ms=0)
    await stage.start(speaker.service, defaults=options)
    sent = await stage.client.service_send(speaker.talk, None, idempotency_key="kept")
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("word", None)
    await ear.task
    assert ear.heard.kinds == ["chunk", "commit", "end"]
    with pytest.raises(JournalGone):
        await read(stage, sent.invocation_id)
