"""Many that wait: they are rows, and the engine has nothing of them in memory."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from agentdur import Context, Service
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.runtime.owner import Knobs
from agentdur.runtime.slots import Slot
from agentdur.sdk.attempt import Attempt
from tests.support.stage import Stage, until

pytestmark = pytest.mark.slow

MANY = 20_000
AT_ONCE = 500
LIVE = 50
FIRST_AWAKEABLE = 17


class Memory:
    """How many objects of a kind were made since the story began and are still there, those included that
    only the garbage collector would find: it does not run."""

    def __init__(self) -> None:
        gc.collect()
        gc.disable()
        self._before = self._all()

    def _all(self) -> Counter[type]:
        return Counter(type(thing) for thing in gc.get_objects() if type(thing) in (Attempt, Slot))

    def count(self, kind: type) -> int:
        """Those of this story."""
        return self._all()[kind] - self._before[kind]


@pytest.fixture
def memory() -> Iterator[Memory]:
    """What is not freed at once stays."""
    try:
        yield Memory()
    finally:
        gc.enable()


def waiting() -> Service:
    """A handler that waits for somebody outside."""
    svc = Service("Waiting")

    @svc.handler(inactivity_timeout=timedelta(milliseconds=20))
    async def wait(ctx: Context, number: int) -> int:
        _, answer = ctx.awakeable(type_hint=int)
        return number + await answer

    return svc


async def send(stage: Stage, svc: Service, count: int) -> list[InvocationId]:
    """Start that many, some at a time."""
    handler, sent = svc.handlers["wait"].fn, []
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        handles = await asyncio.gather(*(stage.client.service_send(handler, number) for number in numbers))
        sent += [InvocationId(handle.invocation_id) for handle in handles]
    return sent


async def wake(stage: Stage, invocation: InvocationId, value: int) -> int:
    """Answer what it waits for; its result."""
    await stage.client.resolve_awakeable(awakeable_id(invocation, FIRST_AWAKEABLE), value)
    return int(await stage.client.attach(invocation))


def assert_nothing_in_memory(stage: Stage, memory: Memory) -> None:
    """Neither by name nor as objects that nobody refers to."""
    assert stage.engine.driver.live == {}
    assert stage.engine.machine.slots.invocations == {}
    assert stage.engine.machine.waiting == {}
    assert memory.count(Attempt) <= 0
    assert memory.count(Slot) <= 0


async def test_many_wait_and_none_of_them_is_in_memory(stage: Stage, memory: Memory):
    svc = waiting()
    await stage.start(svc, knobs=Knobs(live_attempts=LIVE))
    sent = await send(stage, svc, MANY)
    assert len(stage.engine.driver.live) <= LIVE
    assert memory.count(Attempt) <= 2 * LIVE  # a task that was cancelled ends in the next turn of the loop
    await until(lambda: not stage.engine.driver.live and not stage.engine.machine.slots.invocations)
    assert_nothing_in_memory(stage, memory)
    assert stage.store.count() == {"suspended": MANY}

    await stage.restart()
    assert_nothing_in_memory(stage, memory)
    chosen = random.Random(7).sample(range(MANY), 100)
    assert await asyncio.gather(*(wake(stage, sent[n], 1) for n in chosen)) == [n + 1 for n in chosen]
    await until(lambda: not stage.engine.machine.slots.invocations)
    assert_nothing_in_memory(stage, memory)
    assert stage.store.count() == {"suspended": MANY - 100, "completed": 100}


@pytest.mark.parametrize(
    "ending", ["returns", "fails", "is parked", "has steps", "is killed", "has branches"]
)
async def test_an_attempt_that_is_over_leaves_nothing_to_the_garbage_collector(
    stage: Stage, memory: Memory, ending: str
):
    svc = Service("Ending")

    @svc.handler(inactivity_timeout=timedelta(milliseconds=5))
    async def work(ctx: Context) -> str:
        if ending == "has steps":
            await ctx.run("step", asyncio.sleep, 0)
            await ctx.run("plain step", lambda: None)
        if ending == "has branches":
            await asyncio.gather(*(ctx.run(f"step {n}", asyncio.sleep, 0) for n in range(3)))
        if ending == "fails" and len(attempts) < 3:
            attempts.append(1)
            raise ValueError("not yet")
        if ending in ("is parked", "is killed"):
            _, answer = ctx.awakeable()
            await answer
        return "done"

    attempts: list[int] = []
    await stage.start(svc)
    sent = await stage.client.service_send(work)
    if ending == "is killed":
        await until(lambda: len(stage.engine.driver.live) == 1)
        await stage.engine.operate("kill", InvocationId(sent.invocation_id))
    await stage.until_status(sent.invocation_id, "suspended" if ending == "is parked" else "completed")
    await until(lambda: not stage.engine.machine.slots.invocations)
    await asyncio.sleep(0.01)
    assert_nothing_in_memory(stage, memory)


async def test_a_long_invocation_has_no_more_in_memory_than_a_short_one(stage: Stage):
    svc, found = Service("Long"), []

    @svc.handler()
    async def child(ctx: Context, number: int) -> int:
        return number

    @svc.handler()
    async def work(ctx: Context) -> None:
        for number in range(601):
            await ctx.run("step", asyncio.sleep, 0)
            await ctx.service_call(child, number)
            if number in (5, 600):
                (attempt,) = (a for a in stage.engine.driver.live if a.target.handler == "work")
                recorded = attempt.recorded
                kept = (
                    attempt.pending,
                    attempt.buffer,
                    attempt.signals,
                    attempt.branches,
                    attempt.slot.entries,
                )
                found.append([len(thing or ()) for thing in (*kept, recorded.completions, recorded.branches)])

    await stage.start(svc)
    await stage.client.service_call(work)
    early, late = found
    assert late == early
