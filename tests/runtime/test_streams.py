"""Streams: live while a step runs, from the journal ever after; readers end with the journaled text."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.core import journal as j
from agentdur.core.errors import (
    NotRunning,
    StoreFull,
)
from agentdur.core.ids import InvocationId
from agentdur.sdk.note import note
from agentdur.sdk.stream import stream
from tests.support.listening import journaled
from tests.support.speaking import Ear, Speaker, nothing_is_held, other, read, text
from tests.support.stage import InlineCommitter, Stage, until


async def test_a_chunk_is_read_while_its_step_runs(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("one ")
    await ear.until("chunk")
    speaker.let("two")
    await ear.until("chunk", "chunk")
    assert [(e.step, e.branch, e.attempt, e.data) for e in ear.heard.events] == [
        ("talk", "", 1, text("one ")), ("talk", "", 1, text("two")),
    ]  # fmt: skip
    assert len(stage.journal(sent.invocation_id)) == 2, "a chunk costs no entry"
    speaker.let(None)
    await ear.task
    assert ear.heard.kinds == ["chunk", "chunk", "commit", "end"]
    assert ear.heard.end == {"status": "success", "value": "one two"}
    assert nothing_is_held(stage)


async def test_a_late_reader_reads_the_journal(stage: Stage):
    """Neighbours are one chunk there, and the step's other notes stay beside them."""
    service = Service("Model")

    async def answer() -> int:
        note(model="m")
        for data in (
            "a",
            "b",
            text("c"),
            text("d"),
            {"n": 1},
            {"n": 1},
            other("e"),
            text("f"),
        ):
            stream(data)
        return 7

    @service.handler()
    async def run(ctx: Context) -> int:
        return await ctx.run("answer", answer)

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    await stage.until_status(sent.invocation_id, "completed")
    heard = await read(stage, sent.invocation_id)
    folded = ["ab", text("cd"), {"n": 1}, {"n": 1}, other("e"), text("f")]
    assert [e.data for e in heard.events if e.kind == "chunk"] == folded
    assert heard.kinds[-2:] == ["commit", "end"]
    assert journaled(stage.journal(sent.invocation_id)) == heard.said
    shown = await stage.engine.describe(InvocationId(sent.invocation_id))
    assert shown is not None
    meta = next(entry["meta"] for entry in shown["journal"] if "meta" in entry)
    assert meta["model"] == "m"
    assert meta["stream"]["chunks"] == 6
    assert set(meta["stream"]) == {"chunks", "bytes"}, "views do not show all of it"


async def test_a_chunk_of_the_handler_is_an_entry_and_a_replay_is_silent(stage: Stage):
    service, gate, values = Service("Steps"), asyncio.Event(), iter(range(100))

    @service.handler()
    async def run(ctx: Context) -> None:
        ctx.stream({"type": "status", "n": next(values)})
        ctx.stream(None)
        await ctx.run("wait", gate.wait)
        stream("by function")

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    await ear.until("chunk", "chunk")
    await stage.restart()
    gate.set()
    await stage.until_status(sent.invocation_id, "completed")
    heard = await read(stage, sent.invocation_id, ear.heard.after)
    assert [e.data for e in heard.events] == ["by function", {"status": "success", "value": None}]
    whole = await read(stage, sent.invocation_id)
    assert [e.data for e in whole.events[:-1]] == [{"type": "status", "n": 0}, None, "by function"]
    assert all((e.kind, e.step, e.attempt) == ("chunk", "stream", 0) for e in whole.events[:-1])


async def test_what_a_failed_attempt_said_is_void(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("wrong ")
    await ear.until("chunk")
    speaker.let(OSError("the provider hung up"), "right", None)
    await ear.task
    assert [(e.kind, e.attempt) for e in ear.heard.events] == [
        ("chunk", 1), ("void", 1), ("chunk", 2), ("commit", 2), ("end", 0),
    ]  # fmt: skip
    assert ear.heard.of("talk") == [text("right")]


async def test_a_crash_voids_what_it_interrupted(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("lost ")
    await ear.until("chunk")
    await stage.crash()
    with pytest.raises(NotRunning):
        await ear.task
    await stage.start(speaker.service)
    again = Ear(stage.client.stream(sent.invocation_id, ear.heard.after), ear.heard)
    await again.until("chunk", "void")
    speaker.let("kept", None)
    await again.task
    assert [(e.kind, e.attempt) for e in again.heard.events[1:]] == [
        ("void", 0), ("chunk", 2), ("commit", 2), ("end", 0),
    ]  # fmt: skip
    assert again.heard.said == journaled(stage.journal(sent.invocation_id))


async def test_a_reader_that_was_away_gets_what_it_lacks_and_drops_what_was_open(stage: Stage):
    """It left in the middle of a step; meanwhile the step went on, or ended."""
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("a ")
    await ear.until("chunk")
    await ear.stop()
    speaker.let("b ")
    ear = Ear(stage.client.stream(sent.invocation_id, ear.heard.after), ear.heard)
    await ear.until("chunk", "void", "chunk")
    assert ear.heard.of("talk") == [text("a b ")], "live, from the start of the step"
    await ear.stop()
    speaker.let("c", None)
    await stage.until_status(sent.invocation_id, "completed")
    heard = Ear(stage.client.stream(sent.invocation_id, ear.heard.after), ear.heard)
    await heard.task
    assert ear.heard.kinds == ["chunk", "void", "chunk", "void", "chunk", "commit", "end"]
    assert ear.heard.of("talk") == [text("a b c")]


async def test_nothing_is_final_before_it_is_committed(stage: Stage):
    speaker, committer = Speaker(), Held()
    await stage.start(speaker.service, committer=lambda: committer)
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("word")
    await ear.until("chunk")
    committer.hold = True
    speaker.let(None)
    await until(lambda: committer.held)
    for _ in range(20):
        await asyncio.sleep(0)
    assert ear.heard.kinds == ["chunk"]
    newcomer = Ear(stage.client.stream(sent.invocation_id))
    for _ in range(20):
        await asyncio.sleep(0)
    assert newcomer.heard.kinds == []
    committer.release()
    await asyncio.wait([ear.task, newcomer.task])
    assert ear.heard.kinds == newcomer.heard.kinds == ["chunk", "commit", "end"]


class Held(InlineCommitter):
    """Commits wait until they are released."""

    hold = False

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Any] = []

    def submit(self, prepared: Any) -> None:
        if self.hold:
            self.held.append(prepared)
        else:
            super().submit(prepared)

    def release(self) -> None:
        self.hold = False
        for prepared in self.held:
            super().submit(prepared)


async def test_a_step_streams_from_its_thread_in_order(stage: Stage):
    service = Service("Blocking")

    def count() -> int:
        for n in range(200):
            stream(f"{n},")
        worker = threading.Thread(target=lambda: None)
        worker.start()
        worker.join()
        return 200

    @service.handler()
    async def run(ctx: Context) -> int:
        return await ctx.run("count", count)

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    heard = await read(stage, sent.invocation_id)
    assert heard.of("count") == ["".join(f"{n}," for n in range(200))]
    assert heard.said == journaled(stage.journal(sent.invocation_id))


async def test_a_task_of_a_step_streams_for_it_and_after_its_end_for_nobody(stage: Stage):
    service, late, ended = Service("Tasks"), asyncio.Event(), asyncio.Event()
    kept: list[Any] = []

    async def child(word: str) -> None:
        stream(word)

    async def straggler() -> None:
        await late.wait()
        stream("too late")
        kept.append(True)

    async def first() -> None:
        await asyncio.gather(child("a"), child("b"))
        kept.append(asyncio.create_task(straggler()))

    async def second() -> None:
        stream("second")
        late.set()
        await ended.wait()

    @service.handler()
    async def run(ctx: Context) -> None:
        await ctx.run("first", first)
        await ctx.run("second", second)

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    await until(lambda: True in kept)
    ended.set()
    heard = await read(stage, sent.invocation_id)
    assert (heard.of("first"), heard.of("second")) == (["ab"], ["second"])


async def test_a_thread_that_outlives_its_step_does_not_speak_for_the_next_one(stage: Stage):
    service = Service("Threads")
    began, go, spoke = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        go.wait(10)
        stream("from the loser")
        spoke.set()

    async def quick() -> str:
        while not began.is_set():
            await asyncio.sleep(0.001)
        return "won"

    async def wait() -> None:
        stream("mine")
        go.set()
        while not spoke.is_set():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    @service.handler()
    async def run(ctx: Context) -> str:
        won = await ctx.race(ctx.run("slow", slow), ctx.run("quick", quick))
        await ctx.run("wait", wait)
        return str(won)

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    heard = await read(stage, sent.invocation_id)
    assert heard.said == {3: ["mine"]}


async def test_steps_that_run_together_are_told_apart(stage: Stage):
    """Two of one name in one branch, and one in a branch of its own."""
    service, together, heard_by_now = Service("Parallel"), asyncio.Barrier(3), asyncio.Event()

    async def say(word: str) -> str:
        for n in range(3):
            stream(text(f"{word}{n} "))
            await together.wait()
        await heard_by_now.wait()
        return word

    @service.handler()
    async def run(ctx: Context) -> None:
        async def branch() -> str:
            return await ctx.run("say", say, "c")

        await asyncio.gather(ctx.run("say", say, "a"), ctx.run("say", say, "b"), branch())

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    await until(lambda: len({e.run for e in ear.heard.events}) == 3, "something of each")
    heard_by_now.set()
    await ear.task
    heard = ear.heard
    assert heard.said == journaled(stage.journal(sent.invocation_id))
    assert sorted(chunks[0]["delta"] for chunks in heard.said.values()) == [
        "a0 a1 a2 ",
        "b0 b1 b2 ",
        "c0 c1 c2 ",
    ]
    assert len({(e.branch, e.run) for e in heard.events if e.kind == "chunk"}) == 3
    first = heard.events[: heard.kinds.index("commit")]
    assert len({e.run for e in first}) == 3, "they come interleaved"


async def test_the_loser_of_a_race_is_void(stage: Stage):
    service, both, done = Service("Race"), asyncio.Event(), asyncio.Event()

    async def never() -> None:
        stream("I lose")
        both.set()
        await asyncio.Event().wait()

    async def quick() -> str:
        stream("I win")
        await both.wait()
        return "won"

    @service.handler()
    async def run(ctx: Context) -> str:
        won = str(await ctx.race(ctx.run("quick", quick), ctx.run("never", never)))
        await ctx.run("rest", done.wait)
        return won

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    await until(lambda: "void" in ear.heard.kinds, "the loser's void, while the handler goes on")
    done.set()
    await ear.task
    heard = ear.heard
    assert (heard.of("quick"), heard.of("never")) == (["I win"], [])
    assert [e.step for e in heard.events if e.kind == "void"] == ["never"]
    assert heard.said == journaled(stage.journal(sent.invocation_id))


async def test_a_step_that_ignores_its_end_is_void_with_its_attempt(stage: Stage):
    """It goes on after the attempt was stopped, and even has a result: nobody wants that."""
    service, stubborn = Service("Stubborn"), asyncio.Event()

    async def say() -> str:
        stream("mine")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stream("still mine")
            stubborn.set()
        return "too late"

    @service.handler()
    async def run(ctx: Context) -> str:
        return await ctx.run("say", say)

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    await ear.until("chunk")
    await stage.engine.operate("pause", InvocationId(sent.invocation_id))
    await stubborn.wait()
    await ear.until("chunk", "void")
    assert not stage.engine.machine.streams.live
    await ear.stop()


async def test_an_end_is_not_held_up_by_a_step_that_lingers(stage: Stage):
    service, leave = Service("Lingers"), asyncio.Event()

    async def say() -> None:
        stream("word")
        try:
            await asyncio.Event().wait()
        finally:
            await leave.wait()

    @service.handler()
    async def run(ctx: Context) -> None:
        await ctx.run("say", say)

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    await ear.until("chunk")
    await stage.engine.operate("kill", InvocationId(sent.invocation_id))
    await ear.until("chunk", "void", "end")
    leave.set()


async def test_a_killed_invocation_voids_what_was_open_and_ends(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("never finished")
    await ear.until("chunk")
    await stage.engine.operate("kill", InvocationId(sent.invocation_id))
    await ear.task
    assert ear.heard.kinds == ["chunk", "void", "end"]
    assert ear.heard.end["failure"]["code"] == 409


async def test_a_store_that_fails_ends_the_reading_and_not_the_stream(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    speaker.let("lost ")
    await ear.until("chunk")
    stage.engine.machine.writer.die(StoreFull("as told"))
    with pytest.raises(StoreFull):
        await ear.task
    await until(lambda: stage.engine.machine.error is None)
    speaker.let("kept", None)
    heard = Ear(stage.client.stream(sent.invocation_id, ear.heard.after), ear.heard)
    await heard.task
    assert ear.heard.said == journaled(stage.journal(sent.invocation_id)) != {}


async def test_an_engine_that_stops_tells_its_readers_to_come_back(stage: Stage):
    service = Service("Waits")

    @service.handler()
    async def run(ctx: Context) -> str:
        ctx.stream("before")
        return str(await ctx.signal("go", type_hint=str))

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    await ear.until("chunk")
    await stage.stop()
    with pytest.raises(NotRunning):
        await ear.task
    stage.reopen()
    await stage.start(service)
    ear = Ear(stage.client.stream(sent.invocation_id, ear.heard.after), ear.heard)
    await stage.engine.signal(InvocationId(sent.invocation_id), "go", j.Success(b'"now"'))
    await ear.task
    assert ear.heard.kinds == ["chunk", "end"]
