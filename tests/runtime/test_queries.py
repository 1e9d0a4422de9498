"""Questions in SQL beside a running engine: how many, for how long, and what is seen of its memory."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.config import Settings
from agentdur.core.errors import NotRunning, QueriesBusy, TooManyRows
from agentdur.core.query import QueryLimits
from agentdur.runtime.owner import Knobs
from agentdur.server.parts import knobs_of
from tests.support.stage import Stage, until

MANY = "information_schema.columns"
LONG = f"SELECT COUNT(*) FROM {MANY} a, {MANY} b, {MANY} c"


def services() -> tuple[Service, VirtualObject]:
    """One that waits, and an object that keeps a value."""
    waiter, shelf = Service("Waiter"), VirtualObject("Shelf")

    @waiter.handler()
    async def wait(ctx: Context) -> str:
        _, future = ctx.awakeable()
        answer: str = await future
        return answer

    @shelf.handler()
    async def put(ctx: ObjectContext, value: Any) -> None:
        ctx.set("value", value)

    return waiter, shelf


async def test_an_attempt_in_memory_is_running_and_a_parked_one_is_not(stage: Stage):
    engine = await stage.start(*services())
    sent = await stage.client.generic_send("Waiter", "wait", b"")
    await stage.until_status(sent.invocation_id, "running")
    table = await engine.query("SELECT status, waiting_on FROM sys_invocation")
    assert table.rows == [["running", "awakeable 17"]]
    assert (await engine.query("SELECT in_flight, retry_count FROM sys_invocation_state")).rows == [[True, 1]]
    await engine.operate("pause", sent.invocation_id)
    await stage.until_status(sent.invocation_id, "paused")
    assert (await engine.query("SELECT status FROM sys_invocation")).rows == [["paused"]]
    assert (await engine.query("SELECT 1 FROM sys_invocation_state")).rows == []


async def test_what_was_acknowledged_is_seen_by_the_next_question(stage: Stage):
    engine = await stage.start(*services())
    for number in range(5):
        await stage.client.generic_call("Shelf", "put", b"%d" % number, "k")
        table = await engine.query("SELECT value_utf8 FROM state WHERE service_name = 'Shelf'")
        assert table.rows == [[str(number)]]


async def test_too_many_questions_are_refused_and_the_others_are_answered(stage: Stage):
    limits = QueryLimits(running=1, waiting=1, seconds=30)
    engine = await stage.start(*services(), knobs=Knobs(queries=limits))
    running = asyncio.ensure_future(engine.query(LONG))
    waiting = asyncio.ensure_future(engine.query("SELECT 1"))
    await asyncio.sleep(0)
    with pytest.raises(QueriesBusy):
        await engine.query("SELECT 1")
    running.cancel()
    assert (await waiting).rows == [[1]]


async def test_a_question_nobody_waits_for_is_ended(stage: Stage):
    engine = await stage.start(*services(), knobs=Knobs(queries=QueryLimits(running=1, seconds=60)))
    running = asyncio.ensure_future(engine.query(LONG))
    await asyncio.sleep(0.05)
    running.cancel()
    async with asyncio.timeout(10):
        assert (await engine.query("SELECT 1")).rows == [[1]]


async def test_an_engine_that_stops_ends_its_questions(stage: Stage):
    engine = await stage.start(*services(), knobs=Knobs(queries=QueryLimits(seconds=60, running=1)))
    asked = [asyncio.ensure_future(engine.query(LONG)) for _ in range(3)]  # one runs, two wait
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        await stage.stop()
    for one in asked:
        with pytest.raises(NotRunning):
            await one
    with pytest.raises(NotRunning):
        await engine.query("SELECT 1")


async def test_an_answer_has_no_more_rows_than_it_may(stage: Stage):
    engine = await stage.start(*services(), knobs=Knobs(queries=QueryLimits(rows=3)))
    names = "SELECT column_name FROM information_schema.columns"
    assert len((await engine.query(f"{names} LIMIT 3")).rows) == 3
    with pytest.raises(TooManyRows):
        await engine.query(names)


async def test_questions_go_on_after_the_store_came_back(stage: Stage):
    """The engine opens the store anew; connections of before are not used again."""
    engine = await stage.start(*services())
    await stage.client.generic_call("Shelf", "put", b"1", "k")
    assert (await engine.query("SELECT COUNT(*) FROM state")).rows == [[1]]
    await stage.restart()
    await until(lambda: stage.running)
    assert (await stage.engine.query("SELECT COUNT(*) FROM state")).rows == [[1]]


def test_each_limit_has_its_setting():
    settings = Settings(
        query_timeout=timedelta(seconds=2), query_rows_limit=3, query_size_limit=4096, query_concurrency=1,
        query_queue_limit=5, search_timeout=timedelta(seconds=1),
    )  # fmt: skip
    told = knobs_of(settings).queries
    assert told == QueryLimits(seconds=2.0, rows=3, bytes=4096, running=1, waiting=5, search_seconds=1.0)
