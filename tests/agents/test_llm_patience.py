"""Waiting for a provider costs no attempt, has an end, and nobody below the engine retries."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentdur import Context, NotInHandler, RunOptions, Service, TerminalError
from agentdur.llm import ModelUnavailable, completion
from agentdur.testing.scripted_llm import ScriptedLLM, Status, Turn, requests
from tests.agents.llm_world import HI, IN_MEMORY, MODEL, TWICE, outcomes
from tests.support.stage import Stage

ONCE = RunOptions[object](max_attempts=1)


@IN_MEMORY
async def test_patience_that_was_asked_for_uses_up_no_attempt(stage: Stage, llm: ScriptedLLM):
    """Two attempts are allowed; five times the provider asks to wait, once it breaks, then it answers."""
    busy = Status(status=429, retry_after_s=0.01, times=5)
    llm.replace([Turn(text="hello", faults=(busy, Status(status=500)))])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, options=TWICE)).text

    await stage.start(service)
    assert await stage.client.service_call(ask) == "hello"
    assert outcomes(llm) == ["status_429"] * 5 + ["status_500", "answered"]
    assert {entry.retry_count for entry in requests(llm.ledger())} == {0}


@IN_MEMORY
async def test_a_busy_answer_without_a_time_is_a_failure_like_another(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="hello", faults=(Status(status=429, times=None),))])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, options=TWICE)).text

    await stage.start(service)
    with pytest.raises(TerminalError) as failed:
        await stage.client.service_call(ask)
    assert (failed.value.status_code, (failed.value.metadata or {})["agentdur_code"]) == (429, "AD0101")
    assert outcomes(llm) == ["status_429"] * 2


@IN_MEMORY
async def test_patience_has_an_end_and_a_wait_beyond_it_is_not_begun(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="hello", faults=(Status(status=429, retry_after_s=3600, times=None),))])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, patience=timedelta(minutes=1))).text

    await stage.start(service)
    with pytest.raises(TerminalError) as failed:
        await stage.client.service_call(ask)
    assert (failed.value.metadata or {})["failure"] == "ModelBusy"
    assert outcomes(llm) == ["status_429"]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_no_client_below_us_retries(llm: ScriptedLLM, status: int):
    """One request on the wire for each try, and the client says it is its first."""
    llm.replace([Turn(text="hello", faults=(Status(status=status),))])
    for stream in (False, True):
        llm.add_faults(Status(status=status))
        with pytest.raises(ModelUnavailable):
            await completion(None, MODEL, HI, stream=stream, allow_ephemeral=True)
    assert {(entry.outcome, entry.retry_count) for entry in requests(llm.ledger())} == {
        (f"status_{status}", 0)
    }
    assert len(requests(llm.ledger())) == 2


async def test_outside_of_a_handler_a_call_must_say_that_it_is_not_journaled(llm: ScriptedLLM):
    llm.replace([Turn(text="hello")])
    with pytest.raises(NotInHandler):
        await completion(None, MODEL, HI)
    assert outcomes(llm) == []
    assert (await completion(None, MODEL, HI, allow_ephemeral=True)).text == "hello"
    assert (await completion(None, MODEL, HI, allow_ephemeral=True, stream=True)).text == "hello"


async def test_within_a_handler_allowing_the_ephemeral_changes_nothing(stage: Stage, llm: ScriptedLLM):
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await completion(None, MODEL, HI, allow_ephemeral=True)).text

    await stage.start(service)
    sent = await stage.client.service_send(ask)
    await stage.until_status(sent.invocation_id, "completed")
    assert [getattr(entry, "name", "") for _, entry in stage.journal(sent.invocation_id)][1] == "llm:Chat"
