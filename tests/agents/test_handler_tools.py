"""Handlers as tools: called once, described by their own types, failing towards the model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field

from agentdur import Context, ObjectContext, Service, TerminalError, VirtualObject
from agentdur.core.errors import BadDefinition
from agentdur.core.ports import Filter
from agentdur.tools import Tool, handler_tool
from tests.agents.test_tools import agent, calls
from tests.support.stage import Ledger, Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
shop = Service("Shop")
account = VirtualObject("Account")
ledger = Ledger()


class Order(BaseModel):
    """An order."""

    article: str = Field(description="what", min_length=2)
    count: int = 1


@dataclass
class Amount:
    euros: int


class Reading(msgspec.Struct):
    page: int


@shop.handler()
async def order(ctx: Context, order: Order) -> dict[str, Any]:
    """Order an article."""
    return {"ordered": await ctx.run("order", ledger.write, f"{order.count} {order.article}")}


@shop.handler()
async def price(ctx: Context, article: str) -> str:
    return f"{article} costs 7"


@shop.handler()
async def closed(ctx: Context) -> None:
    raise TerminalError("we are closed", 423)


@shop.handler()
async def slow(ctx: Context, reading: Reading) -> str:
    _, never = ctx.awakeable()
    ledger.write(f"reading {reading.page}")
    try:
        await never
    except TerminalError:
        ledger.write("stopped")
        raise
    return "never"


@account.handler()
async def add(ctx: ObjectContext, amount: Amount) -> int:
    """Add money."""
    total = (await ctx.get("total", type_hint=int) or 0) + amount.euros
    ctx.set("total", total)
    return total


@pytest.fixture(autouse=True)
def _new_ledger() -> None:
    ledger.lines.clear()


async def told(stage: Stage, tool: Tool, *wanted: Any) -> list[str]:
    run, service = agent([tool], calls(*((tool.name, arguments) for arguments in wanted)))
    await stage.start(service, shop, account)
    return [message["content"] for message in await stage.client.service_call(run)]


def test_a_handler_is_described_by_its_types():
    tool = handler_tool(order)
    assert (tool.name, tool.description) == ("order", "Order an article.")
    assert tool.schema["required"] == ["article"]
    assert tool.schema["properties"]["article"]["description"] == "what"
    assert handler_tool(price).schema["properties"] == {"input": {"type": "string"}}
    assert handler_tool(closed).schema["properties"] == {}
    keyed = handler_tool(add, key="account")
    assert keyed.schema["required"] == ["account", "euros"]
    assert list(keyed.schema["properties"]) == ["account", "euros"]
    assert list(handler_tool(slow).schema["properties"]) == ["page"]


async def test_a_handler_is_called_and_its_answer_told(stage: Stage):
    assert await told(stage, handler_tool(order), {"article": "desk", "count": 2}) == ['{"ordered":"2 desk"}']
    assert ledger.counts == {"2 desk": 1}


@IN_MEMORY
async def test_by_its_name_it_may_be_anywhere(stage: Stage):
    tool = handler_tool("Shop/price", input=str, name="what-it-costs", description="Prices.")
    assert await told(stage, tool, {"input": "desk"}) == ["desk costs 7"]


@IN_MEMORY
async def test_an_object_is_chosen_by_the_model(stage: Stage):
    tool = handler_tool(add, key="account")
    given = [{"account": who, "euros": n} for who, n in (("ann", 1), ("bob", 5), ("ann", 2))]
    one, bob, other = await told(stage, tool, *given)
    assert bob == "5"
    assert {one, other} in ({"1", "3"}, {"2", "3"})


@IN_MEMORY
@pytest.mark.parametrize(
    ("tool", "given", "why"),
    [
        (handler_tool(order), {"article": "d"}, "at least 2 characters"),
        (handler_tool(order), [1], "Input should be an object"),
        (handler_tool(order), "{", "Invalid JSON"),
        (handler_tool(price), {}, "input: Field required"),
        (handler_tool(price), {"input": 7}, "str"),
        (handler_tool(closed), {"now": True}, "now: nothing of that kind"),
        (handler_tool(add, key="account"), {"euros": 1}, "account: a text is required"),
        (handler_tool(slow), {"page": "x"}, "page"),
    ],
)
async def test_what_does_not_fit_is_told_before_the_call(stage: Stage, tool: Tool, given: Any, why: str):
    (answer,) = await told(stage, tool, given)
    assert answer.startswith("Error: these arguments do not fit.") and why in answer
    assert ledger.counts == {}


@IN_MEMORY
async def test_a_failure_is_told_to_the_model_or_ends_the_invocation(stage: Stage):
    assert await told(stage, handler_tool(closed), {}) == ["Error: we are closed"]
    await stage.crash()
    with pytest.raises(TerminalError) as ended:
        await told(stage, handler_tool(closed, terminal=True), {})
    assert (ended.value.message, ended.value.status_code) == ("we are closed", 423)


@IN_MEMORY
async def test_a_handler_that_takes_too_long_is_cancelled(stage: Stage):
    tool = handler_tool(slow, timeout=timedelta(milliseconds=50))
    assert await told(stage, tool, {"page": 3}) == ["Error: no answer within 0:00:00.050000"]
    await until(lambda: ledger.count("stopped"), "the cancellation")


async def test_a_cancelled_invocation_cancels_what_it_called_and_does_not_go_on(stage: Stage):
    run, service = agent([handler_tool(slow)], calls(("slow", {"page": 1})))
    await stage.start(service, shop, account)
    sent = await stage.client.service_send(run)
    await until(lambda: ledger.count("reading 1"), "the call")
    await stage.engine.operate("cancel", sent.invocation_id)
    with pytest.raises(TerminalError) as ended:
        await stage.client.attach(sent.invocation_id)
    assert ended.value.status_code == 409
    await until(lambda: ledger.count("stopped"), "the cancellation")


async def test_after_a_crash_the_call_goes_on(stage: Stage):
    """It is not made again: the answer comes to the one that was made."""
    run, service = agent([handler_tool(order), handler_tool(slow)], calls(("order", {"article": "desk"})))
    await stage.start(service, shop, account)
    sent = await stage.client.service_send(run)
    await until(lambda: ledger.counts, "the order")
    await stage.restart()
    await stage.client.attach(sent.invocation_id)
    assert len(await stage.engine.list(Filter(service="Shop"))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: handler_tool("order"),
        lambda: handler_tool(add),
        lambda: handler_tool(order, key="article"),
        lambda: handler_tool(order, input=Order),
        lambda: handler_tool(add, key="euros"),
        lambda: handler_tool(price, name="what it costs"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any):
    with pytest.raises(BadDefinition):
        wrong()
