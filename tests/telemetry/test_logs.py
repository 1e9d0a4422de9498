"""Log lines of handlers say whose they are, and a replay says nothing again."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.core.trace import ROOT, span_of, span_of_entry, trace_of
from agentdur.observe.logs import JsonLines, TextLines
from agentdur.sdk.logged import HandlerLines
from tests.support.stage import Stage
from tests.telemetry.world import keeping

log = logging.getLogger("shop")


class Lines:
    """What a handler of the standard library writes."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.handler = logging.StreamHandler(self.text)
        self.handler.setFormatter(JsonLines())
        self.handler.addFilter(HandlerLines())

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.all if line["logger"].startswith("shop")]


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines()
    root = logging.getLogger()
    before, root.level = root.level, logging.INFO
    root.addHandler(made.handler)
    yield made
    root.removeHandler(made.handler)
    root.setLevel(before)


def selling() -> Service:
    shop = Service("Shop")

    async def charge() -> str:
        log.info("charging")
        return "charged"

    def ship() -> None:
        log.info("shipping, in a thread")

    async def aside(ctx: Context) -> None:
        log.info("aside")
        await ctx.run_typed("note", lambda: None)

    @shop.handler()
    async def sell(ctx: Context, article: str) -> None:
        log.info("selling %s", article)
        await ctx.run_typed("charge", charge)
        log.info("charged")
        await asyncio.gather(aside(ctx), ctx.sleep(timedelta(milliseconds=60)))
        log.info("awake")
        await ctx.run_typed("ship", ship)
        log.info("sold")

    return shop


SAID = ["selling lamp", "charging", "charged", "aside", "awake", "shipping, in a thread", "sold"]


async def test_lines_say_whose_they_are(stage: Stage, lines: Lines):
    telemetry, _ = keeping()
    shop = selling()
    await stage.start(shop, observer=telemetry)
    sent = await stage.client.service_send(shop.handlers["sell"].fn, "lamp")
    await stage.until_status(sent.invocation_id, "completed")
    log.info("outside")
    *inside, outside = [line for line in lines.all if line["logger"] == "shop"]
    invocation = sent.invocation_id
    assert lines.messages == [*SAID, "outside"]
    for line in inside:
        assert (line["invocation"], line["handler"], line["attempt"]) == (invocation, "Shop/sell", 1)
        assert line["trace_id"] == trace_of(ROOT, invocation)
        assert line["level"] == "info"
    assert inside[0]["span_id"] == span_of(invocation)
    assert inside[1]["span_id"] == span_of_entry(invocation, 1), "the step's"
    assert not {"invocation", "handler", "attempt", "trace_id"} & set(outside)


async def test_a_replay_says_nothing_again(stage: Stage, lines: Lines):
    shop = selling()
    await stage.start(shop)
    sent = await stage.client.service_send(shop.handlers["sell"].fn, "lamp")
    while "aside" not in lines.messages:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)  # the sleep is in the journal
    await stage.restart()
    await stage.until_status(sent.invocation_id, "completed")
    assert lines.messages == SAID
    assert {line["attempt"] for line in lines.all if line["message"] == "sold"} == {2}


async def test_a_step_that_runs_again_says_so_again(stage: Stage, lines: Lines):
    shop, tries = Service("Shop"), iter(range(9))

    @shop.handler()
    async def sell(ctx: Context) -> None:
        log.info("before")
        await ctx.run_typed("first", lambda: None)

        def charge() -> None:
            log.info("charging")
            if next(tries) < 2:
                raise ValueError("not yet")

        await ctx.run_typed("charge", charge)

    await stage.start(shop)
    await stage.client.service_call(sell, None)
    assert lines.messages == ["before", "charging", "charging", "charging"]
    assert [line["attempt"] for line in lines.all if line["message"] == "charging"] == [1, 2, 3]


async def test_a_step_is_heard_also_while_another_branch_replays(stage: Stage, lines: Lines):
    """The child's step has no result when the process dies; its parent has gone on meanwhile."""
    shop, gate = Service("Shop"), asyncio.Event()

    async def work() -> None:
        log.info("working")
        await gate.wait()

    async def child(ctx: Context) -> None:
        await ctx.run_typed("work", work)

    @shop.handler()
    async def sell(ctx: Context) -> None:
        task = asyncio.create_task(child(ctx))
        await ctx.run_typed("a", lambda: None)
        await ctx.run_typed("b", lambda: log.info("b"))
        await task

    await stage.start(shop)
    sent = await stage.client.service_send(sell, None)
    while lines.messages != ["working", "b"]:
        await asyncio.sleep(0.001)
    while len(stage.journal(sent.invocation_id)) < 6:
        await asyncio.sleep(0.001)
    await stage.restart()
    gate.set()
    await stage.until_status(sent.invocation_id, "completed")
    assert lines.messages == ["working", "b", "working"]


async def test_agentdur_s_own_lines_pass_also_from_a_replay(stage: Stage, lines: Lines):
    shop, tries = Service("Shop"), iter(range(9))

    @shop.handler()
    async def sell(ctx: Context) -> None:
        if next(tries) == 0:
            await ctx.run_typed("first", lambda: None)
            raise ValueError("not yet")
        await ctx.run_typed("another", lambda: None)

    await stage.start(shop)
    sent = await stage.client.service_send(sell, None)
    await stage.until_status(sent.invocation_id, "paused")
    told = [line for line in lines.all if line["logger"] == "agentdur.runtime"]
    assert [line["attempt"] for line in told] == [1, 2]
    assert "another" in told[1]["error"]


def test_lines_for_people_name_the_invocation():
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "sold\nall", (), None)
    record.facts = {"invocation": "inv_1", "handler": "Shop/sell", "attempt": 2}
    assert TextLines("%(message)s").format(record) == "sold [inv_1 #2]\nall"
    assert TextLines("%(message)s").format(logging.makeLogRecord({"msg": "sold"})) == "sold"
