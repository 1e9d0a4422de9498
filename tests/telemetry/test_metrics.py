"""Metrics: counted once, read by Prometheus' own parser, and the same by OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from msgspec.json import encode
from prometheus_client.parser import text_string_to_metric_families

from agentdur import Context, Service, TerminalError
from agentdur.core.book import ACCOUNTS, Amounts, Book, Limits
from agentdur.core.target import ObjectAddress
from agentdur.ingress.app import create_ingress
from agentdur.sdk.note import note
from agentdur.telemetry import gauges
from agentdur.telemetry.families import Families
from agentdur.telemetry.http import metrics_routes
from agentdur.telemetry.metrics import OTHER, SERIES_MAX, Counter, Registry
from agentdur.telemetry.pipeline import Telemetry
from tests.support.collector import Collector, plain
from tests.support.stage import Stage, until_it_is
from tests.telemetry.conftest import Sending
from tests.telemetry.world import all_ended, keeping, shop

Read = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(telemetry: Telemetry) -> Read:
    """What Prometheus reads."""
    telemetry.drain()
    body, content_type = Families(telemetry.registry).text()
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(found: Read, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made, _ = keeping(expose=True)
    yield made
    made.stop()


async def test_a_run_is_counted_once_whatever_is_replayed(stage: Stage, telemetry: Telemetry):
    services = shop()
    await stage.start(services, observer=telemetry)
    await stage.client.service_call(services.handlers["order"].fn, "lamp")
    with pytest.raises(TerminalError):
        await stage.client.service_call(services.handlers["refuse"].fn, "lamp")
    await all_ended(stage)
    found = read(telemetry)
    order = {"service": "Shop", "handler": "order"}
    assert value(found, "agentdur_invocations_started_total", invoked_by="ingress", **order) == 1
    assert value(found, "agentdur_invocations_completed_total", outcome="success", **order) == 1
    refused = {"service": "Shop", "handler": "refuse", "outcome": "failure"}
    assert value(found, "agentdur_invocations_completed_total", **refused) == 1
    assert value(found, "agentdur_attempts_total", **order) == 1
    assert value(found, "agentdur_invocation_duration_seconds_count", **order) == 1
    steps = {"service": "Shop", "kind": "step"}
    assert value(found, "agentdur_step_duration_seconds_count", **steps) == 3
    assert value(found, "agentdur_step_duration_seconds_bucket", le="+Inf", **steps) == 3
    assert (
        value(found, "agentdur_commit_entries_count")
        == value(found, "agentdur_commit_duration_seconds_count")
        > 1
    )


async def test_failures_retries_and_pauses(stage: Stage, telemetry: Telemetry):
    flaky, tries = Service("Flaky"), iter(range(100))

    @flaky.handler()
    async def work(ctx: Context) -> None:
        if next(tries) < 2:
            raise ValueError("not yet")

    await stage.start(flaky, observer=telemetry)
    await stage.client.service_call(work, None)
    found, labels = read(telemetry), {"service": "Flaky", "handler": "work"}
    assert value(found, "agentdur_attempt_failures_total", **labels) == 2
    assert value(found, "agentdur_retries_total", **labels) == 2
    assert value(found, "agentdur_attempts_total", **labels) == 3


async def test_what_models_and_tools_note_is_counted_once_also_after_a_crash(stage: Stage):
    """The second process tells the first one's steps again, and does not count them again."""
    asking = Service("Asking")

    @asking.handler()
    async def go(ctx: Context) -> None:
        await ctx.run_typed("llm:poet", ask)
        await ctx.run_typed("tool:search", search)
        _, woken = ctx.awakeable()
        await woken

    def ask() -> None:
        note(model="gpt-5", prompt_tokens=100, completion_tokens=20, cost=0.25)

    def search() -> None:
        note(tool="search", tool_call_id="call_1")

    first, _ = keeping(expose=True)
    await stage.start(asking, observer=first)
    await stage.client.service_send(go, None)

    async def done() -> float:
        return value(read(first), "agentdur_tool_calls_total", tool="search", outcome="success")

    await until_it_is(done, 1)
    found = read(first)
    assert value(found, "agentdur_llm_calls_total", model="gpt-5") == 1
    assert value(found, "agentdur_llm_tokens_total", model="gpt-5", direction="input") == 100
    assert value(found, "agentdur_llm_tokens_total", model="gpt-5", direction="output") == 20
    assert value(found, "agentdur_llm_cost_dollars_total", model="gpt-5") == 0.25
    assert value(found, "agentdur_step_duration_seconds_count", service="Asking", kind="model") == 1
    second, kept = keeping(expose=True)
    await stage.restart(observer=second)

    async def begun() -> float:
        return value(read(second), "agentdur_attempts_total", service="Asking", handler="go")

    await until_it_is(begun, 1)
    found = read(second)
    assert [span.name for span in kept.spans] == ["chat gpt-5", "execute_tool search"]
    assert value(found, "agentdur_llm_calls_total", model="gpt-5") == 0


async def test_what_is_so_now_is_asked_when_somebody_looks(stage: Stage, telemetry: Telemetry):
    desk = Service("Desk")

    @desk.handler()
    async def ask(ctx: Context) -> None:
        await ctx.approval("publish?")

    @desk.handler()
    async def later(ctx: Context) -> None:
        await ctx.sleep(timedelta(hours=1))

    await stage.start(desk, observer=telemetry)
    telemetry.measure(stage.engine)
    await stage.client.service_send(ask, None)
    await stage.client.service_send(later, None)
    await stage.questions()
    found = read(telemetry)
    assert value(found, "agentdur_approvals_pending", service="Desk") == 1
    assert value(found, "agentdur_approvals_asked_total", service="Desk") == 1
    assert value(found, "agentdur_attempts_in_memory", state="live") >= 2
    assert value(found, "agentdur_invocations", status="running") >= 2


async def test_shared_budgets_say_what_is_left(
    stage: Stage, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gauges, "KEEP_SECONDS", 0.0)
    await stage.start(shop(), observer=telemetry)
    telemetry.measure(stage.engine)
    spent_some = Amounts(calls=3, tokens=40, cost=0.5)
    book = encode(Book(Limits(cost=2.0), spent=spent_some, raised={"cost": 1.0}))
    await stage.engine.edit_state(ObjectAddress(ACCOUNTS, "team"), {"book": book}, None)
    await stage.engine.edit_state(ObjectAddress(ACCOUNTS, "odd"), {"book": b"no book"}, None)

    async def spent() -> float:
        return value(read(telemetry), "agentdur_budget_spent", budget="team", unit="cost")

    await until_it_is(spent, 0.5)
    found = read(telemetry)
    assert value(found, "agentdur_budget_limit", budget="team", unit="cost") == 3, "with what was granted"
    assert value(found, "agentdur_budget_spent", budget="team", unit="tokens") == 40
    assert not [labels for name, labels in found if ("budget", "odd") in labels]


async def test_the_ingress_counts_its_requests(stage: Stage, telemetry: Telemetry):
    await stage.start(shop(), observer=telemetry)
    ingress = create_ingress(stage.engine, observer=telemetry)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ingress), base_url="http://in") as http:
        assert (await http.post("/Shop/price", json="lamp")).status_code == 200
        assert (await http.post("/Shop/price/send", json="lamp")).status_code == 202
        assert (await http.post("/Shop/refuse", json="lamp")).status_code == 422
        assert (await http.post("/Shop/price", content=b"{")).status_code in (200, 400)
        assert (await http.put("/Shop/price", json="lamp")).status_code == 405
        assert (await http.post("/Nobody/price", json="lamp")).status_code == 404
    found = read(telemetry)
    call = {"service": "Shop", "type": "call"}
    name = "agentdur_ingress_requests_total"
    assert value(found, name, status="admitted", service="Shop", type="send") == 1
    assert value(found, name, status="completed", service="Shop", type="send") == 1
    assert value(found, name, status="invocation_error", **call) == 1
    assert value(found, name, status="request_error", **call) >= 1
    assert value(found, "agentdur_ingress_request_duration_seconds_count", **call) == 4


async def test_a_collector_gets_the_same_metrics(stage: Stage, collector: Collector, sending: Sending):
    telemetry = sending(metrics=True, expose=True)
    services = shop()
    await stage.start(services, observer=telemetry)
    for _ in range(3):
        await stage.client.service_call(services.handlers["price"].fn, "lamp")
    found = read(telemetry)
    telemetry.push_metrics()
    assert telemetry.flush()
    counted = collector.metric("agentdur_invocations_completed").sum
    assert (counted.is_monotonic, counted.aggregation_temporality) == (True, 2)
    (point,) = counted.data_points
    assert point.as_double == 3
    assert plain(point.attributes) == {"service": "Shop", "handler": "price", "outcome": "success"}
    assert 0 < point.start_time_unix_nano <= point.time_unix_nano
    (steps,) = collector.metric("agentdur_step_duration_seconds").histogram.data_points
    assert (steps.count, sum(steps.bucket_counts)) == (3, 3)
    assert len(steps.bucket_counts) == len(steps.explicit_bounds) + 1
    labels = {"service": "Shop", "kind": "step"}
    assert steps.sum == value(found, "agentdur_step_duration_seconds_sum", **labels)
    assert collector.metric("agentdur_telemetry_traces_room").gauge.data_points[0].as_double == 1


async def test_metrics_are_pushed_again_and_again(collector: Collector, sending: Sending):
    telemetry = sending(metrics=True, metric_interval_ms=10)
    pushing = asyncio.create_task(telemetry.push_regularly())
    async with asyncio.timeout(10):
        while len(collector.headers) < 2:
            await asyncio.sleep(0.005)
    pushing.cancel()


async def test_the_route_is_prometheus_text(telemetry: Telemetry):
    app = FastAPI()
    app.include_router(metrics_routes(telemetry.registry), prefix="/metrics")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as http:
        reply = await http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name for family in text_string_to_metric_families(reply.text)}
    assert {"agentdur_invocations_started", "agentdur_commit_duration_seconds"} <= families


def test_a_label_with_too_many_values_says_other():
    registry = Registry()
    counter: Counter = registry.counter("c", "", ("tool",))
    for n in range(SERIES_MAX + 10):
        counter.add((f"tool {n}",))
    assert len(counter.values) == SERIES_MAX + 1
    assert counter.values[(OTHER,)] == 10
