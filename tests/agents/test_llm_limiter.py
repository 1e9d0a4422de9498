"""What a provider allows, kept over all invocations: never too fast, first come first served, nobody
punished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.core.errors import BadDefinition
from agentdur.llm import ModelBusy, completion, limits
from agentdur.llm import limiter as module
from agentdur.llm.limiter import LIMITER, Limit, Limiter
from agentdur.testing.clock import SimLoop
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.agents.llm_world import HI, IN_MEMORY, MODEL, TWICE, outcomes
from tests.support.stage import Stage, until

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def unlimited() -> Iterator[None]:
    """Limits end with the story."""
    yield
    LIMITER.clear()


def in_virtual_time(story: Callable[[], Awaitable[Any]]) -> Any:
    """Run it on a loop whose minutes take no time."""
    loop = SimLoop(Random(7))
    task = loop.create_task(story())
    task.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    return task.result()


class Crowd:
    """Calls under limits: when each began, in which order, how many at once at most."""

    def __init__(self, *of: Limit) -> None:
        self.limiter = Limiter()
        for limit in of:
            self.limiter.set(limit)
        self.began: list[tuple[int, float]] = []
        self.running = self.most = 0

    async def call(
        self, number: int, model: str = MODEL, *, guess: int = 1, real: int | None = None, takes: float = 0.0
    ) -> None:
        """One call, from its place in line to its end."""
        while True:
            try:
                async with self.limiter.slot(model, guess, key=str(number), patience=DAY) as slot:
                    self.began.append((number, asyncio.get_running_loop().time()))
                    self.running += 1
                    self.most = max(self.most, self.running)
                    await asyncio.sleep(takes)
                    self.running -= 1
                    if slot is not None and real is not None:
                        slot.correct(real)
                    return
            except ModelBusy as busy:  # as the engine does: out of memory, and back when it may be time
                assert busy.retry_after is not None
                await asyncio.sleep(busy.retry_after.total_seconds())

    def most_within_a_minute(self) -> int:
        times = [at for _, at in self.began]
        return max(sum(1 for other in times if at <= other < at + 60) for at in times)


def test_no_span_of_a_minute_sees_more_requests_than_allowed():
    """Fifty calls at ten a minute take four minutes, in their order, though each leaves memory meanwhile."""
    crowd = Crowd(Limit("openai", requests=10))

    async def story() -> None:
        await asyncio.gather(*(crowd.call(number) for number in range(50)))

    in_virtual_time(story)
    assert [number for number, _ in crowd.began] == list(range(50))
    assert crowd.most_within_a_minute() == 10
    assert 240 <= crowd.began[-1][1] <= 302


def test_tokens_are_guessed_before_and_corrected_by_what_was_counted():
    """Guessed at 50 only two calls would fit into a minute's 100; they turn out to be 10, so ten do."""
    crowd = Crowd(Limit("openai", tokens=100))

    async def story() -> None:
        for number in range(10):
            await crowd.call(number, guess=50, real=10)

    in_virtual_time(story)
    assert [at for _, at in crowd.began if at < 60] == [0.0] * 6  # 60 + 50 would be too much
    dear = Crowd(Limit("openai", tokens=100))

    async def dear_story() -> None:
        for number in range(3):
            await dear.call(number, guess=10, real=90)

    in_virtual_time(dear_story)
    assert [at for _, at in dear.began] == [0.0, 0.0, 60.0]


def test_a_call_larger_than_the_limit_goes_when_nothing_else_does():
    crowd = Crowd(Limit("openai", tokens=100))

    async def story() -> None:
        await crowd.call(0, guess=50)
        await crowd.call(1, guess=5000, real=20)

    in_virtual_time(story)
    assert [at for _, at in crowd.began] == [0.0, 60.0]


def test_so_many_at_once_and_no_more():
    crowd = Crowd(Limit("openai", concurrent=3))

    async def story() -> None:
        await asyncio.gather(*(crowd.call(number, takes=5.0) for number in range(10)))

    in_virtual_time(story)
    assert crowd.most == 3
    assert [number for number, _ in crowd.began] == list(range(10))


def test_who_left_memory_meanwhile_keeps_its_place_in_line():
    """The second has been away and back when the third comes; its turn is first."""
    crowd = Crowd(Limit("openai", concurrent=1))

    async def story() -> None:
        first = asyncio.ensure_future(crowd.call(0, takes=50.0))
        await asyncio.sleep(1)
        second = asyncio.ensure_future(crowd.call(1))
        await asyncio.sleep(34)
        third = asyncio.ensure_future(crowd.call(2))
        await asyncio.gather(first, second, third)

    in_virtual_time(story)
    assert [number for number, _ in crowd.began] == [0, 1, 2]


def test_the_limits_of_a_model_and_of_its_provider_hold_together():
    """The model's line does not keep the provider's other models waiting."""
    crowd = Crowd(Limit("openai", requests=4), Limit("openai/small", requests=1))

    async def story() -> None:
        names = ["openai/small", "openai/small", "openai/large", "openai/large", "other/one"]
        await asyncio.gather(*(crowd.call(number, name) for number, name in enumerate(names)))

    in_virtual_time(story)
    assert dict(crowd.began) == {0: 0.0, 2: 0.0, 3: 0.0, 4: 0.0, 1: pytest.approx(60.0, abs=2)}


def test_who_leaves_the_line_is_not_waited_for_and_gives_back_its_turn():
    crowd = Crowd(Limit("openai", concurrent=1))

    async def story() -> list[int]:
        first = asyncio.ensure_future(crowd.call(0, takes=10.0))
        await asyncio.sleep(1)
        second = asyncio.ensure_future(crowd.call(1))
        third = asyncio.ensure_future(crowd.call(2))
        await asyncio.sleep(1)
        second.cancel()
        first.cancel()
        await asyncio.wait([first, second, third])
        return [number for number, _ in crowd.began]

    assert in_virtual_time(story) == [0, 2]


@IN_MEMORY
async def test_waiting_for_a_limit_costs_no_attempt_and_no_timeout(
    stage: Stage, llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch
):
    """Eight invocations through a door for one, each allowed two attempts and a tenth of a second's time to
    answer: all leave memory on the way, and all are answered."""
    monkeypatch.setattr(module, "IN_MEMORY_SECONDS_MAX", 0.03)
    monkeypatch.setattr(module, "AWAY_SECONDS_MAX", 0.02)
    limits("openai", concurrent=1)
    llm.replace([Turn(text="hello", delay_ms=30)])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, options=TWICE, timeout=timedelta(seconds=5))).text

    await stage.start(service)
    answers = await asyncio.gather(*(stage.client.service_call(ask) for _ in range(8)))
    assert answers == ["hello"] * 8
    assert outcomes(llm) == ["answered"] * 8


@IN_MEMORY
async def test_an_invocation_that_waits_for_a_limit_can_be_cancelled(stage: Stage, llm: ScriptedLLM):
    limits("openai", requests_per_minute=1)
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI)).text

    await stage.start(service)
    assert await stage.client.service_call(ask) == "hello"
    sent = await stage.client.service_send(ask)
    await until(lambda: LIMITER._line, "the wait")
    await stage.engine.operate("cancel", sent.invocation_id)
    assert (await stage.until_status(sent.invocation_id, "completed"))["completion_result"] == "failure"
    assert outcomes(llm) == ["answered"]


@pytest.mark.parametrize("given", [{"requests_per_minute": 0}, {"tokens_per_minute": -1}, {"concurrent": 0}])
def test_a_limit_that_lets_nobody_through_is_refused(given: dict[str, int]):
    with pytest.raises(BadDefinition, match="at least 1"):
        limits("openai", **given)
