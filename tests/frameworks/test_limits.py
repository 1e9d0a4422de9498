"""A provider's limits hold for the agents of every framework, in one line with everybody else's calls."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.llm import completion, limits
from agentdur.llm.limiter import LIMITER
from agentdur.sdk.steps import RunOptions
from agentdur.testing.scripted_llm import ScriptedLLM, Status, requests
from tests.frameworks.world import MODEL, TRIP, Ask, Desk, models
from tests.support.stage import Stage, until

pytestmark = pytest.mark.parametrize("stage", ["memory"], indirect=True)
ONCE: RunOptions[Any] = RunOptions(max_attempts=1)


def desk_of(ask: Ask) -> Service:
    """A handler that asks the agent, and one that asks the model itself."""
    service = Service("Desk")

    @service.handler("ask")
    async def agent(ctx: Context, question: str) -> str:
        return await ask(question)

    @service.handler("bare")
    async def bare(ctx: Context, question: str) -> str:
        told = [{"role": "system", "content": "You lead."}, {"role": "user", "content": question}]
        return (await completion(ctx, MODEL, told)).message["tool_calls"][0]["function"]["name"]

    return service


@pytest.mark.parametrize("first", ["ask", "bare"])
async def test_two_invocations_wait_in_one_line(stage: Stage, llm: ScriptedLLM, desk: Desk, *, first: str):
    """The provider takes two requests a minute; whoever is third waits, whichever way it asks."""
    llm.replace(TRIP)
    limits("openai", requests_per_minute=2 if first == "ask" else 1)
    await stage.start(desk_of(desk.helper(ONCE)))
    await stage.client.generic_call("Desk", first, b'"go"')
    before = len(models(llm))
    sent = await stage.client.generic_send("Desk", "bare" if first == "ask" else "ask", b'"go"')
    await until(lambda: LIMITER._line, "the wait")
    assert len(models(llm)) == before
    await stage.engine.operate("cancel", sent.invocation_id)
    await stage.until_status(sent.invocation_id, "completed")


async def test_so_many_at_once_and_all_are_answered(stage: Stage, llm: ScriptedLLM, desk: Desk):
    """Three agents through a door for one."""
    llm.replace(TRIP)
    limits("openai", concurrent=1)
    at_once = 0

    def watch() -> None:
        nonlocal at_once
        at_once = max(at_once, LIMITER._limits["openai"].running)

    await stage.start(desk_of(desk.helper(ONCE)))
    asked = [stage.client.generic_call("Desk", "ask", b'"go"') for _ in range(3)]
    asking = asyncio.gather(*asked)
    while not asking.done():
        watch()
        await asyncio.sleep(0)
    assert await asking == [b'"Rain."'] * 3
    assert (at_once, len(models(llm))) == (1, 6)


async def test_tokens_are_those_that_the_framework_counted(stage: Stage, llm: ScriptedLLM, desk: Desk):
    """Guessed at a thousand each, they turn out to be ten."""
    llm.replace(TRIP)
    limits(MODEL, tokens_per_minute=5000)
    await stage.start(desk_of(desk.helper(ONCE)))
    await stage.client.generic_call("Desk", "ask", b'"go"')
    assert LIMITER._limits[MODEL]._spent == 20


async def test_a_provider_that_asks_for_patience_uses_up_no_attempt(
    stage: Stage, llm: ScriptedLLM, desk: Desk
):
    """Three times, although one attempt is all there is; and the wait is as long as it said."""
    llm.replace(TRIP)
    busy = Status(status=429, retry_after_s=0.05, times=3)
    llm.add_faults(busy, turn=1)
    await stage.start(desk_of(desk.helper(ONCE)))
    assert await stage.client.generic_call("Desk", "ask", b'"go"') == b'"Rain."'
    assert [entry.outcome for entry in requests(llm.ledger())] == [
        "answered",
        *["status_429"] * 3,
        "answered",
    ]
    assert {entry.retry_count for entry in requests(llm.ledger())} <= {0, None}


async def test_without_a_time_to_wait_attempts_are_used_up(stage: Stage, llm: ScriptedLLM, desk: Desk):
    llm.replace(TRIP)
    llm.add_faults(Status(status=429, times=None), turn=1)
    twice: RunOptions[Any] = RunOptions(max_attempts=2, initial_retry_interval=timedelta(milliseconds=1))
    await stage.start(desk_of(desk.helper(twice)))
    sent = await stage.client.generic_send("Desk", "ask", b'"go"')
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert shown["completion_result"] == "failure"
    assert [entry.outcome for entry in requests(llm.ledger())] == ["answered", *["status_429"] * 2]
