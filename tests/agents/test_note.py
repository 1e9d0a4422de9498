"""Facts a step notes about itself, and the key it has wherever it asks for it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, NotInHandler, RunOptions, Service, TerminalError, current_context
from agentdur.sdk.note import note
from tests.support.stage import Ledger, Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


async def meta_of(stage: Stage, action: Any, options: RunOptions[Any] | None = None) -> dict[str, Any] | None:
    """What is journaled beside the result of this action; failures are caught."""
    service = Service("Noting")

    @service.handler()
    async def run(ctx: Context) -> None:
        try:
            await ctx.run_typed("step", action, options or RunOptions())
        except TerminalError:
            return

    await stage.start(service)
    sent = await stage.client.service_send(run)
    shown = await stage.until_status(sent.invocation_id, "completed")
    (done,) = [e for e in shown["journal"] if e["kind"] == "Completion"]
    found = done.get("meta")
    assert found is None or isinstance(found, dict)
    return found


async def test_facts_are_journaled_beside_the_result_and_later_ones_win(stage: Stage):
    async def action() -> None:
        note(model="a", tokens=1)
        note(tokens=2, cost=None)

    assert await meta_of(stage, action) == {"model": "a", "tokens": 2, "cost": None}


@IN_MEMORY
async def test_a_plain_function_notes_from_its_thread(stage: Stage):
    assert await meta_of(stage, lambda: note(thread=True)) == {"thread": True}


@IN_MEMORY
async def test_a_task_of_the_step_notes_for_the_step(stage: Stage):
    async def helper(n: int) -> None:
        note(**{f"helper {n}": True})

    async def action() -> None:
        await asyncio.gather(helper(1), asyncio.create_task(helper(2)))

    assert await meta_of(stage, action) == {"helper 1": True, "helper 2": True}


@IN_MEMORY
async def test_a_terminal_failure_keeps_its_facts(stage: Stage):
    async def action() -> None:
        note(model="a")
        raise TerminalError("no")

    assert await meta_of(stage, action) == {"model": "a"}


@IN_MEMORY
async def test_a_try_that_is_retried_leaves_no_facts(stage: Stage):
    ledger = Ledger()

    async def action() -> None:
        ledger.write("try")
        if ledger.count("try") == 1:
            note(first=True)
            raise OSError("not now")
        note(second=True)

    quickly: RunOptions[Any] = RunOptions(initial_retry_interval=timedelta(milliseconds=1))
    assert await meta_of(stage, action, quickly) == {"second": True}


@IN_MEMORY
async def test_a_step_that_notes_nothing_has_none(stage: Stage):
    assert await meta_of(stage, lambda: None) is None


@IN_MEMORY
async def test_outside_of_a_step_there_is_nothing_to_note_about(stage: Stage):
    with pytest.raises(NotInHandler):
        note(x=1)
    service = Service("Noting")

    @service.handler()
    async def run(ctx: Context) -> str:
        try:
            note(x=1)
        except NotInHandler as refused:
            return refused.code
        return "noted"

    await stage.start(service)
    assert await stage.client.service_call(run) == "AD0030"


@IN_MEMORY
async def test_a_step_has_one_key_in_its_action_its_tasks_and_its_threads(stage: Stage):
    service = Service("Keys")
    seen = Ledger()

    async def ask() -> None:
        seen.write(current_context().idempotency_key)

    async def action() -> None:
        await asyncio.gather(ask(), ask())
        await asyncio.to_thread(lambda: seen.write(current_context().idempotency_key))
        await ask()

    @service.handler()
    async def run(ctx: Context) -> str:
        expected = ctx.idempotency_key
        await ctx.run("step", action)
        return expected

    await stage.start(service)
    expected = await stage.client.service_call(run)
    assert seen.counts == {expected: 4}
