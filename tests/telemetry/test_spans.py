"""Spans say what the journal says, in OpenTelemetry's words, as the official messages read them."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from agentdur import Context, ObjectContext, Service, TerminalError, VirtualObject
from agentdur.admin.app import create_admin
from agentdur.core.catalog import HandlerOptions
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Success
from agentdur.core.ports import Filter
from agentdur.core.trace import ROOT, span_of, trace_of
from tests.support.collector import Collector, attributes, names
from tests.support.stage import Stage
from tests.telemetry.conftest import Sending
from tests.telemetry.world import ORDER, all_ended, keeping, shapes, shop

NANOS_PER_MS = 1_000_000


async def test_a_run_is_one_tree_with_its_calls_and_sends(
    stage: Stage, collector: Collector, sending: Sending
):
    telemetry, services = sending(resource=(("service.name", "shop"),)), shop()
    await stage.start(services, observer=telemetry)
    order = services.handlers["order"].fn
    assert await stage.client.service_call(order, "lamp") == "lamp: 4"
    await all_ended(stage)
    assert telemetry.flush()
    (tree,) = collector.trees()
    assert names(tree) == ORDER
    assert collector.resources[0]["service.name"] == "shop"
    kinds = {span.name: span.kind for span in collector.spans}
    assert kinds["Shop/order"] == kinds["Shop/price"] == Span.SPAN_KIND_SERVER
    assert kinds["call Shop/price"] == Span.SPAN_KIND_CLIENT
    assert (kinds["send Shop/thank"], kinds["Shop/thank"]) == (
        Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER,
    )  # fmt: skip
    assert kinds["charge"] == kinds["sleep"] == Span.SPAN_KIND_INTERNAL


async def test_ids_and_times_are_those_of_the_journal(stage: Stage, collector: Collector, sending: Sending):
    telemetry, services = sending(), shop()
    await stage.start(services, observer=telemetry)
    sent = await stage.client.service_send(services.handlers["price"].fn, "lamp")
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert telemetry.flush()
    root, step = collector.one("Shop/price"), collector.one("look up")
    assert root.trace_id.hex() == step.trace_id.hex() == trace_of(ROOT, sent.invocation_id)
    assert root.span_id.hex() == step.parent_span_id.hex() == span_of(sent.invocation_id)
    assert not root.parent_span_id
    assert root.flags & 1 == step.flags & 1 == 1
    row = stage.store.invocation(sent.invocation_id)
    assert row is not None
    times = dict(stage.store.times(row.seq))
    assert (step.start_time_unix_nano, step.end_time_unix_nano) == (
        times[1] * NANOS_PER_MS, times[2] * NANOS_PER_MS,
    )  # fmt: skip
    assert root.start_time_unix_nano == row.spec.created_at * NANOS_PER_MS
    assert root.end_time_unix_nano == (row.head.completed_at or 0) * NANOS_PER_MS
    about = attributes(root)
    assert about.pop("agentdur.invocation.id") == shown["id"]
    assert about == {
        "agentdur.service": "Shop", "agentdur.handler": "price", "agentdur.service.kind": "Service",
        "agentdur.invoked_by": "ingress", "agentdur.outcome": "success", "agentdur.attempts": 1,
    }  # fmt: skip


async def test_failed_attempts_are_events_and_a_terminal_error_is_a_status(
    stage: Stage, collector: Collector, sending: Sending
):
    flaky, tries = Service("Flaky"), iter(range(100))

    @flaky.handler()
    async def work(ctx: Context) -> None:
        if next(tries) < 2:
            raise ValueError("not yet")
        await ctx.run_typed("refused", refuse)

    async def refuse() -> None:
        raise TerminalError("the bank says no", 402)

    telemetry = sending()
    await stage.start(flaky, observer=telemetry)
    with pytest.raises(TerminalError):
        await stage.client.service_call(work, None)
    assert telemetry.flush()
    root, step = collector.one("Flaky/work"), collector.one("refused")
    for span in (root, step):
        assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "the bank says no")
        assert attributes(span)["error.type"] == "402"
    assert attributes(root)["agentdur.outcome"] == "failure"
    assert attributes(root)["agentdur.attempts"] == 3
    assert [event.name for event in root.events] == ["exception", "exception"]
    first, second = map(attributes, root.events)
    assert (first["agentdur.attempt"], second["agentdur.attempt"]) == (1, 2)
    assert "not yet" in first["exception.message"]
    assert "work" in first["exception.stacktrace"]
    assert first["agentdur.retry_in_ms"] >= 0


async def test_killed_and_cancelled_are_told_apart(stage: Stage):
    waiting = Service("Waiting")

    @waiting.handler()
    async def wait(ctx: Context) -> None:
        await ctx.sleep(timedelta(hours=1))

    telemetry, kept = keeping()
    await stage.start(waiting, observer=telemetry)
    for action in ("kill", "cancel"):
        sent = await stage.client.service_send(wait, None)
        await stage.engine.operate(action, sent.invocation_id)  # type: ignore[arg-type]  # one of them
        await stage.until_status(sent.invocation_id, "completed")
    telemetry.drain()
    ended = [dict(span.attributes) for span in kept.spans if span.name == "Waiting/wait"]
    assert [one["agentdur.outcome"] for one in ended] == ["killed", "cancelled"]


async def test_a_restarted_run_tells_what_it_does_itself_and_where_it_comes_from(stage: Stage):
    telemetry, kept = keeping()
    services = shop()
    await stage.start(services, observer=telemetry)
    sent = await stage.client.service_send(services.handlers["price"].fn, "lamp")
    await stage.until_status(sent.invocation_id, "completed")
    again = await stage.engine.restart_as_new(sent.invocation_id, from_entry=2)
    await stage.until_status(again, "completed")
    telemetry.drain()
    first, second = (span.trace_id for span in kept.spans if span.name == "Shop/price")
    assert first != second
    assert [span.trace_id for span in kept.spans if span.name == "look up"] == [first]
    (link,) = next(span.links for span in kept.spans if span.span_id == span_of(again))
    assert (link.trace_id, link.span_id) == (trace_of(ROOT, sent.invocation_id), span_of(sent.invocation_id))


async def test_objects_say_their_key_and_a_person_s_decision_is_a_span(stage: Stage):
    desk = VirtualObject("Desk")

    @desk.handler()
    async def publish(ctx: ObjectContext, text: str) -> bool:
        return bool(await ctx.approval("publish?", payload=text))

    telemetry, kept = keeping()
    await stage.start(desk, observer=telemetry)
    sent = await stage.client.object_send(publish, "north", "draft")
    await stage.decide(True)
    await stage.until_status(sent.invocation_id, "completed")
    telemetry.drain()
    spans = {span.name: span for span in kept.spans}
    assert dict(spans["Desk/publish"].attributes)["agentdur.key"] == "north"
    asked = spans["approval"]
    assert asked.parent_id == spans["Desk/publish"].span_id
    assert dict(asked.attributes)["agentdur.approval.approved"] is True
    assert not [span.name for span in kept.spans if "agentdur.Approval" in span.name], "ours stay inside"


async def test_what_is_not_sampled_leaves_nothing_and_says_so_to_its_callees(stage: Stage):
    telemetry, kept = keeping(sample_ratio=0.0)
    services = shop()
    await stage.start(services, observer=telemetry)
    await stage.client.service_call(services.handlers["order"].fn, "lamp")
    await all_ended(stage)
    telemetry.drain()
    assert kept.spans == []
    flags = set()
    for row in await stage.engine.list(Filter()):
        stored = stage.store.invocation(row["id"])
        assert stored is not None
        flags.add(stored.spec.traceparent[-2:])
    assert flags == {"00"}


async def test_parked_for_long_it_is_still_the_same_span(stage: Stage):
    """What left memory is found in the journal again: the sleep began when it began, and is told once."""
    napping = Service("Napping")

    @napping.handler()
    async def nap(ctx: Context) -> None:
        await ctx.run_typed("before", lambda: None)
        _, woken = ctx.awakeable()
        await woken
        await ctx.run_typed("after", lambda: None)

    telemetry, kept = keeping()
    await stage.start(napping, observer=telemetry, defaults=HandlerOptions(inactivity_timeout_ms=10))
    sent = await stage.client.service_send(nap, None)
    await stage.until_status(sent.invocation_id, "suspended")
    await stage.engine.signal(InvocationId("inv_0"), 17, Success(b""))  # a commit later
    telemetry.drain()
    assert not telemetry.followed, "it costs nothing"
    await stage.engine.signal(sent.invocation_id, 17, Success(b"null"))
    await stage.until_status(sent.invocation_id, "completed")
    telemetry.drain()
    assert shapes(kept.spans) == [("Napping/nap", ["after", "before"])]
    assert len(kept.spans) == 3
    assert not telemetry.followed


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
async def test_sql_tells_the_trace(stage: Stage):
    telemetry, kept = keeping()
    services = shop()
    await stage.start(services, observer=telemetry)
    await stage.client.service_call(services.handlers["order"].fn, "lamp")
    await all_ended(stage)
    telemetry.drain()
    question = {"query": "SELECT DISTINCT trace_id FROM sys_invocation"}
    admin = httpx.ASGITransport(create_admin(stage.engine))
    async with httpx.AsyncClient(transport=admin, base_url="http://admin") as http:
        reply = await http.post("/query", json=question, headers={"accept": "application/json"})
    assert reply.json()["rows"] == [{"trace_id": kept.spans[0].trace_id}]
