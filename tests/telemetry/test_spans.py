"""Spans are a projection of the journal."""

from __future__ import annotations

import asyncio

from agentdur import Context, Service
from tests.support.collector import Collector, attributes, names
from tests.support.stage import Stage
from tests.telemetry.conftest import Sending

shop = Service("Shop")


@shop.handler()
async def price(ctx: Context, article: str) -> int:
    return await ctx.run_typed("look up", lambda: len(article))


@shop.handler()
async def order(ctx: Context, article: str) -> str:
    cost = await ctx.service_call(price, article)
    ctx.service_send(thank, article)
    return await ctx.run_typed("charge", lambda: f"{article}: {cost}")


@shop.handler()
async def thank(ctx: Context, article: str) -> None:
    await ctx.run_typed("mail", lambda: None)


async def test_a_run_is_one_tree_with_its_calls_and_sends(
    stage: Stage, collector: Collector, sending: Sending
):
    telemetry = sending()
    await stage.start(shop, observer=telemetry)
    assert await stage.client.service_call(order, "lamp") == "lamp: 4"
    for row in await stage.engine.list(__import__("agentdur.core.ports").core.ports.Filter()):
        await stage.until_status(row["id"], "completed")
    assert await asyncio.to_thread(telemetry.flush)
    (tree,) = collector.trees()
    assert names(tree) == (
        "Shop/order",
        [
            ("call Shop/price", [("Shop/price", ["look up"])]),
            "charge",
            ("send Shop/thank", [("Shop/thank", ["mail"])]),
        ],
    )
    print([attributes(s) for s in collector.spans])
