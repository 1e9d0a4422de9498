"""`@step`: a function that is a journaled step wherever a handler calls it."""

from __future__ import annotations

import asyncio

import pytest

import agentdur
from agentdur import (
    Context,
    NotInHandler,
    RunOptions,
    Service,
    TerminalError,
    step,
)
from agentdur.core import journal as j
from tests.support.stage import Ledger, Stage, check_journal


def runs(stage: Stage, invocation: str) -> list[str]:
    return [entry.name for _, entry in stage.journal(invocation) if isinstance(entry, j.Run)]


async def test_a_decorated_function_is_a_step_wherever_a_handler_calls_it(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    @step
    async def fetch(city: str) -> str:
        return ledger.write(city)

    @step(name="named", options=RunOptions(max_attempts=1))
    def broken() -> str:
        raise ValueError("no")

    async def helper() -> str:
        return await fetch("Rome")

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        assert agentdur.current_context() is ctx
        out = [await fetch("Oslo"), await helper(), *await asyncio.gather(fetch("Bonn"), fetch("Graz"))]
        try:
            await broken()
        except TerminalError as error:
            out.append(error.message)
        return out

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    answer = await stage.client.attach(sent.invocation_id)
    assert answer == ["Oslo", "Rome", "Bonn", "Graz", "ValueError('no')"]
    assert sorted(runs(stage, sent.invocation_id)) == ["fetch"] * 4 + ["named"]
    check_journal(stage.journal(sent.invocation_id))


async def test_a_decorated_function_refuses_to_run_without_a_journal():
    @step
    async def fetch() -> None:
        raise AssertionError("it ran")

    with pytest.raises(NotInHandler):
        await fetch()
    with pytest.raises(NotInHandler):
        agentdur.current_context()
