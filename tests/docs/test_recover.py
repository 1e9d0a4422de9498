"""docs/how-to/recover.md: its three ways out of a journal that no longer fits its code, tried."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.core.errors import WrongStatus
from agentdur.core.ids import InvocationId
from tests.support.fixtures import stage
from tests.support.stage import Ledger, Stage, until

__all__ = ["stage"]


class Trip:
    """A handler in versions: each step leaves a line, and the last step waits until it may end."""

    def __init__(self) -> None:
        self.ledger, self.gate = Ledger(), asyncio.Event()

    def version(self, *steps: str) -> tuple[Any, Service]:
        service = Service("Trip")

        @service.handler()
        async def book(ctx: Context) -> list[str]:
            done = [await ctx.run(name, self.ledger.write, name) for name in steps]
            await ctx.run("wait", self.gate.wait)
            return done

        return book, service


async def stuck(stage: Stage, trip: Trip) -> str:
    """An invocation of the old code (flight, hotel), paused by new code that wants a train."""
    book, old = trip.version("flight", "hotel")
    await stage.start(old)
    sent = await stage.client.service_send(book)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 6, "two steps and the wait")
    await stage.restart(trip.version("flight", "train", "hotel")[1])
    shown = await stage.until_status(sent.invocation_id, "paused")
    message = shown["last_failure"]["message"]
    assert "AD0031" in message
    assert "Run 'hotel'" in message
    assert "Run 'train'" in message
    assert "test_recover.py" in message
    return str(sent.invocation_id)


async def test_the_old_code_finishes_old_work_and_no_step_runs_again(stage: Stage):
    trip = Trip()
    invocation = await stuck(stage, trip)
    book, old = trip.version("flight", "hotel")
    await stage.restart(old)
    trip.gate.set()
    await stage.engine.operate("resume", InvocationId(invocation))
    assert await stage.client.attach(invocation, book) == ["flight", "hotel"]
    assert trip.ledger.counts == {"flight": 1, "hotel": 1}


async def test_new_code_that_knows_the_old_path_goes_on_and_no_step_runs_again(stage: Stage):
    """The train comes at the end, where old invocations have not been yet."""
    trip = Trip()
    invocation = await stuck(stage, trip)
    service = Service("Trip")

    @service.handler()
    async def book(ctx: Context) -> list[str]:
        done = [await ctx.run(name, trip.ledger.write, name) for name in ("flight", "hotel")]
        await ctx.run("wait", trip.gate.wait)
        return [*done, await ctx.run("train", trip.ledger.write, "train")]

    await stage.restart(service)
    trip.gate.set()
    await stage.engine.operate("resume", InvocationId(invocation))
    assert await stage.client.attach(invocation, book) == ["flight", "hotel", "train"]
    assert trip.ledger.counts == {"flight": 1, "hotel": 1, "train": 1}


async def test_started_again_from_an_entry_both_agree_on_the_rest_runs_again(stage: Stage):
    """Entry 2 is the flight's result: it is kept, the train is taken, the hotel is booked a second time."""
    trip = Trip()
    invocation = await stuck(stage, trip)
    book, _ = trip.version("flight", "train", "hotel")
    with pytest.raises(WrongStatus):
        await stage.engine.restart_as_new(InvocationId(invocation), 2)
    await stage.engine.operate("kill", InvocationId(invocation))
    with pytest.raises(TerminalError):
        await stage.client.attach(invocation)
    new = await stage.engine.restart_as_new(InvocationId(invocation), 2)
    trip.gate.set()
    assert await stage.client.attach(new, book) == ["flight", "train", "hotel"]
    assert trip.ledger.counts == {"flight": 1, "hotel": 2, "train": 1}
