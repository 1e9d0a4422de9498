"""What may leave: nothing of what users say, unless a setting says so."""

from __future__ import annotations

import json

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.telemetry.span import Span
from tests.support.collector import Collector
from tests.support.stage import Stage
from tests.telemetry.conftest import Sending
from tests.telemetry.world import keeping

SECRET = "4111-1111-1111-1111"
bank = Service("Bank")


@bank.handler()
async def pay(ctx: Context, card: str) -> str:
    await ctx.run_typed("check", lambda: f"checked {card}")
    await ctx.service_call(charge, card)
    return card


@bank.handler()
async def charge(ctx: Context, card: str) -> str:
    return card


@bank.handler()
async def refuse(ctx: Context, card: str) -> None:
    raise TerminalError(f"not {card}", 402)


@pytest.mark.parametrize("content", ["none", "errors"])
async def test_payloads_stay_at_home(stage: Stage, collector: Collector, sending: Sending, content: str):
    telemetry = sending(content=content, metrics=True)
    await stage.start(bank, observer=telemetry)
    await stage.client.service_call(pay, SECRET)
    telemetry.push_metrics()
    assert telemetry.flush()
    assert len(collector.spans) == 4
    assert collector.metrics
    assert not [body for body in collector.bodies if SECRET.encode() in body]


@pytest.mark.parametrize(("content", "leaves"), [("none", False), ("errors", True)])
async def test_messages_of_errors_leave_when_they_may(
    stage: Stage, collector: Collector, sending: Sending, content: str, leaves: bool
):
    telemetry = sending(content=content)
    await stage.start(bank, observer=telemetry)
    with pytest.raises(TerminalError):
        await stage.client.service_call(refuse, SECRET)
    assert telemetry.flush()
    assert collector.one("Bank/refuse").status.code == 2
    assert any(SECRET.encode() in body for body in collector.bodies) is leaves


async def test_all_leaves_when_it_is_asked_for_and_no_more_than_the_limit(stage: Stage):
    telemetry, kept = keeping(content="all", content_bytes=12)
    await stage.start(bank, observer=telemetry)
    await stage.client.service_call(pay, SECRET)
    telemetry.drain()
    spans: dict[str, Span] = {span.name: span for span in kept.spans}
    said = json.dumps(SECRET)[:12] + "…"
    whole = dict(spans["Bank/pay"].attributes)
    assert (whole["agentdur.input"], whole["agentdur.output"]) == (said, said)
    assert (
        dict(spans["check"].attributes)["agentdur.step.result"] == json.dumps(f"checked {SECRET}")[:12] + "…"
    )
    assert dict(spans["call Bank/charge"].attributes)["agentdur.input"] == said
