"""Readers that are cut at every event, and random histories: what is heard in the end is journaled."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.core.errors import NotRunning
from agentdur.core.ports import StreamEvent
from agentdur.sdk.stream import stream
from tests.support.listening import Listener, journaled
from tests.support.speaking import Ear, Speaker, text
from tests.support.stage import Stage

SEEDS = 30
QUICK_SEEDS = 5


class Tale:
    """What steps say: this and that, in all ways in which a step may say something; some fail on the way."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    async def tell(self, label: str, words: int, *, terminal: bool = False) -> str:
        said = ""
        for n in range(words):
            word = f"{label}{n}.{self.chance.randrange(1000)} "
            said += word
            await self.say(word)
            if self.chance.random() < 0.7:
                await asyncio.sleep(0)
            if self.chance.random() < 0.03:
                raise OSError("an attempt fails")
        if terminal:
            raise TerminalError("for good")
        return said

    async def say(self, word: str) -> None:
        match self.chance.randrange(6):
            case 0:
                stream(word)
            case 1:
                stream({"type": "tool_result", "content": word})
            case 2:
                await asyncio.create_task(self.whisper(word))
            case _:
                stream(text(word))

    async def whisper(self, word: str) -> None:
        stream(text(word))

    def blocking(self, label: str) -> None:
        for n in range(3):
            stream(f"{label}{n} ")

    async def chapter(self, ctx: Context, kind: str, label: str) -> Any:
        match kind:
            case "entry":
                ctx.stream({"type": "status", "text": label})
            case "step":
                return await ctx.run("tell", self.tell, label, 4)
            case "thread":
                await ctx.run("blocking", self.blocking, label)
            case "terminal":
                try:
                    await ctx.run("tell", self.tell, label, 2, terminal=True)
                except TerminalError as error:
                    return error.message
            case "together":
                told = [ctx.run("tell", self.tell, f"{label}{n}", 3) for n in range(3)]
                return await asyncio.gather(*told, self.branch(ctx, label))
            case "race":
                return await ctx.race(*(ctx.run("tell", self.tell, f"{label}{n}", n + 1) for n in range(2)))
        return None

    async def branch(self, ctx: Context, label: str) -> str:
        ctx.stream(label)
        return str(await ctx.run("tell", self.tell, label, 2))


def teller(chance: random.Random) -> Any:
    """A handler that tells the chapters of a plan."""
    service, tale = Service("Teller"), Tale(chance)

    @service.handler()
    async def run(ctx: Context, plan: list[str]) -> list[Any]:
        return [await tale.chapter(ctx, kind, f"{kind}{n}:") for n, kind in enumerate(plan)]

    return service, run


KINDS = ("entry", "step", "thread", "terminal", "together", "race")


async def some(events: Any, heard: Listener, most: int) -> None:
    """At most so many events, then the reader is cut; the engine may go first."""
    try:
        for _ in range(most):
            heard.hear(await anext(events))
    except (NotRunning, StopAsyncIteration):
        pass
    finally:
        events.close()


async def test_a_reader_that_is_cut_after_every_single_event_gets_to_the_end(stage: Stage):
    """With each connection it comes further in the journal."""
    service, run = teller(random.Random("cut"))
    await stage.start(service)
    sent = await stage.client.service_send(run, list(KINDS))
    heard, connections = Listener(), 0
    while heard.end is None:
        await some(stage.client.stream(sent.invocation_id, heard.after), heard, 1)
        connections += 1
        assert connections < 5000, heard.events[-10:]
    assert heard.said == journaled(stage.journal(sent.invocation_id))
    assert heard.end["status"] == "success"


async def test_a_reader_may_come_back_with_any_event_s_id(stage: Stage):
    """And with any other reader's: who read live, and who reads the journal, go on from the same places."""
    service, run = teller(random.Random("any"))
    await stage.start(service)
    sent = await stage.client.service_send(run, list(KINDS))
    live, late = Listener(), Listener()
    await some(stage.client.stream(sent.invocation_id), live, 10_000)
    await some(stage.client.stream(sent.invocation_id), late, 10_000)
    assert live.said == late.said == journaled(stage.journal(sent.invocation_id))
    for first in (live, late):
        for number in range(len(first.events)):
            heard = replayed(first.events[: number + 1])
            if heard.end is None:
                await some(stage.client.stream(sent.invocation_id, heard.after), heard, 10_000)
            assert heard.said == live.said, number
            assert heard.end == live.end


def replayed(events: list[StreamEvent]) -> Listener:
    heard = Listener()
    for event in events:
        heard.hear(event)
    return heard


@pytest.mark.slow
async def test_an_engine_may_crash_after_any_event(stage: Stage):
    for number in range(1, 10_000):
        service, run = teller(random.Random("crash"))
        await stage.start(service)
        sent = await stage.client.service_send(run, ["entry", "step", "together"])
        heard = Listener()
        await some(stage.client.stream(sent.invocation_id), heard, number)
        if heard.end is not None:
            assert number > 15, "too little was heard"
            return
        await stage.restart()
        await some(stage.client.stream(sent.invocation_id, heard.after), heard, 10_000)
        assert heard.said == journaled(stage.journal(sent.invocation_id)), number
        assert heard.end is not None
        await stage.crash()
        stage.fresh()


@pytest.mark.parametrize(
    "seed",
    [pytest.param(n, marks=pytest.mark.slow if n >= QUICK_SEEDS else ()) for n in range(SEEDS)],
)
async def test_whatever_happens_readers_end_with_the_journaled_text(stage: Stage, seed: int):
    """Random plans, failures and crashes; readers that come late, leave, are slow, and come back."""
    chance = random.Random(seed)
    service, run = teller(chance)
    await stage.start(service)
    plan = [chance.choice(KINDS) for _ in range(chance.randrange(2, 6))]
    sent = await stage.client.service_send(run, plan)
    readers = [Listener() for _ in range(3)]

    async def restless(heard: Listener, own: random.Random) -> None:
        while heard.end is None:
            for _ in range(own.randrange(3)):
                await asyncio.sleep(0)
            if stage.running:
                events = stage.client.stream(sent.invocation_id, heard.after)
                await some(events, heard, own.choice((1, 2, 5, 50)))
            else:
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number, heard in enumerate(readers):
            group.create_task(restless(heard, random.Random(f"{seed}.{number}")))
        for _ in range(chance.randrange(4)):
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            await stage.restart()
    text_of_record = journaled(stage.journal(sent.invocation_id))
    for heard in readers:
        assert heard.said == text_of_record
        assert heard.end["status"] == "success"
    assert not stage.engine.machine.streams.live
    assert not stage.engine.machine.streams.channels


async def test_more_steps_than_an_id_can_name_are_void_when_the_reader_comes_back(stage: Stage):
    service, gate = Service("Many"), asyncio.Event()

    async def say(number: int) -> int:
        stream(f"{number}")
        await gate.wait()
        return number

    @service.handler()
    async def run(ctx: Context) -> None:
        await asyncio.gather(*(ctx.run("say", say, n) for n in range(40)))

    await stage.start(service)
    sent = await stage.client.service_send(run, None)
    ear = Ear(stage.client.stream(sent.invocation_id))
    await ear.until(*["chunk"] * 40)
    assert str(ear.heard.after).endswith(".*")
    await ear.stop()
    gate.set()
    await stage.until_status(sent.invocation_id, "completed")
    await some(stage.client.stream(sent.invocation_id, ear.heard.after), ear.heard, 1000)
    assert ear.heard.kinds.count("void") == 40
    assert ear.heard.said == journaled(stage.journal(sent.invocation_id))


async def test_a_reader_in_the_middle_of_a_step_that_ended_meanwhile_gets_it_from_the_journal(stage: Stage):
    speaker = Speaker()
    await stage.start(speaker.service)
    sent = await stage.client.service_send(speaker.talk, None)
    heard = Listener()
    speaker.let("half ")
    await some(stage.client.stream(sent.invocation_id), heard, 1)
    speaker.let("and half", None)
    await stage.until_status(sent.invocation_id, "completed")
    await some(stage.client.stream(sent.invocation_id, heard.after), heard, 100)
    assert heard.kinds == ["chunk", "void", "chunk", "commit", "end"]
    assert heard.of("talk") == [text("half and half")]
