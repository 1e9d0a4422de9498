"""W3C trace context: in by the ingress, out to deployments, and current while a step calls somebody."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentdur import App, Context, Service
from agentdur.core.journal import Success
from agentdur.core.ports import Request
from agentdur.core.target import Target
from agentdur.core.trace import below, is_sampled, span_of, span_of_entry
from agentdur.ingress.app import create_ingress
from agentdur.runtime.remote.deployments import Asked
from agentdur.sdk.carried import carry_on
from tests.http.serving import just, served
from tests.support.stage import Stage
from tests.telemetry.world import all_ended, by_id, keeping, shapes, shop

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def posted(stage: Stage, path: str, headers: dict[str, str]) -> httpx.Response:
    ingress = create_ingress(stage.engine)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ingress), base_url="http://in") as http:
        return await http.post(path, json="lamp", headers=headers)


async def test_the_caller_s_span_is_above_the_whole_run(stage: Stage):
    telemetry, kept = keeping()
    await stage.start(shop(), observer=telemetry)
    reply = await posted(stage, "/Shop/order", {"traceparent": CALLER, "tracestate": "vendor=1"})
    assert reply.status_code == 200
    await all_ended(stage)
    telemetry.drain()
    assert {span.trace_id for span in kept.spans} == {TRACE}
    (root,) = (span for span in kept.spans if span.name == "Shop/order")
    assert (root.parent_id, root.trace_state) == (CALLER[36:52], "vendor=1")
    (tree,) = shapes(kept.spans)
    assert tree[0] == "Shop/order"
    assert len(by_id(kept.spans)) == 9


async def test_who_does_not_sample_is_not_sampled(stage: Stage):
    telemetry, kept = keeping()
    await stage.start(shop(), observer=telemetry)
    await posted(stage, "/Shop/order", {"traceparent": f"{CALLER[:-2]}00"})
    await all_ended(stage)
    telemetry.drain()
    assert kept.spans == []


@pytest.mark.parametrize("wrong", ["nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"{CALLER}-x"])
async def test_a_context_that_is_none_begins_a_trace(stage: Stage, wrong: str):
    telemetry, kept = keeping()
    await stage.start(shop(), observer=telemetry)
    assert (await posted(stage, "/Shop/price", {"traceparent": wrong})).status_code == 200
    telemetry.drain()
    (root,) = (span for span in kept.spans if span.name == "Shop/price")
    assert (root.parent_id, root.trace_id == TRACE) == ("", False)


async def test_without_telemetry_nothing_is_kept_of_a_context(stage: Stage):
    await stage.start(shop())
    reply = await posted(stage, "/Shop/price", {"traceparent": CALLER})
    row = stage.store.invocation(reply.headers["x-restate-id"])
    assert row is not None
    assert row.spec.traceparent == ""


# -- while a step runs


class World:
    """What an instrumented client in a step would send, and the spans of the user's own SDK."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.headers: dict[str, dict[str, str]] = {}

    def call(self, name: str) -> None:
        headers: dict[str, str] = {}
        with self.provider.get_tracer("users").start_as_current_span(name):
            inject(headers)
        self.headers[name] = headers

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def calling(world: World) -> Service:
    service = Service("Calling")

    async def on_the_loop() -> None:
        await asyncio.gather(asyncio.to_thread(world.call, "thread of a step"), asyncio.sleep(0))
        world.call("step")

    @service.handler()
    async def go(ctx: Context) -> None:
        world.call("handler")
        await ctx.run_typed("first", on_the_loop)
        await ctx.run_typed("second", lambda: world.call("plain function"))

    return service


async def test_what_a_step_calls_is_below_the_step(stage: Stage):
    world, (telemetry, kept) = World(), keeping()
    service = calling(world)
    await stage.start(service, observer=telemetry)
    await stage.client.service_call(service.handlers["go"].fn, None)
    telemetry.drain()
    ours = {span.name: span for span in kept.spans}
    below_whom = {
        "handler": "Calling/go", "step": "first", "thread of a step": "first", "plain function": "second",
    }  # fmt: skip
    for name, above in below_whom.items():
        parent = world.spans[name].parent
        assert parent is not None
        assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (
            ours[above].trace_id, ours[above].span_id,
        ), name  # fmt: skip
        assert world.headers[name]["traceparent"].split("-")[1] == ours[above].trace_id
    assert not trace.get_current_span().get_span_context().is_valid, "nothing of it is left outside"


async def test_a_call_from_within_a_span_is_below_it(stage: Stage):
    """A program with an SDK of its own calls the engine in it; and so does a step."""
    world, (telemetry, kept) = World(), keeping()
    services, caller = shop(), Service("Caller")
    price = services.handlers["price"].fn

    @caller.handler()
    async def call(ctx: Context) -> int:
        async def action() -> int:
            return await stage.client.service_call(price, "lamp")

        return await ctx.run_typed("from outside", action)

    await stage.start(services, caller, observer=telemetry)
    with world.provider.get_tracer("users").start_as_current_span("request") as span:
        await stage.client.service_call(call, None)
    telemetry.drain()
    request = span.get_span_context()
    spans = {one.name: one for one in kept.spans}
    assert spans["Caller/call"].parent_id == f"{request.span_id:016x}"
    assert spans["Shop/price"].parent_id == spans["from outside"].span_id
    assert {one.trace_id for one in kept.spans} == {f"{request.trace_id:032x}"}


async def test_the_span_of_a_step_is_the_same_on_every_attempt(stage: Stage):
    seen: list[str] = []
    flaky = Service("Flaky")

    def ask() -> str:
        headers: dict[str, str] = {}
        inject(headers)
        seen.append(headers["traceparent"])
        if len(seen) < 3:
            raise ValueError("not yet")
        return headers["traceparent"]

    @flaky.handler()
    async def go(ctx: Context) -> str:
        return await ctx.run_typed("ask", ask)

    telemetry, kept = keeping()
    await stage.start(flaky, observer=telemetry)
    answer = await stage.client.service_call(go, None)
    telemetry.drain()
    (step,) = (span for span in kept.spans if span.name == "ask")
    assert set(seen) == {answer} == {f"00-{step.trace_id}-{step.span_id}-01"}


async def test_without_telemetry_a_step_has_no_context(stage: Stage):
    world = World()
    service = calling(world)
    await stage.start(service)
    await stage.client.service_call(service.handlers["go"].fn, None)
    assert all(span.parent is None for span in world.spans.values())


# -- deployments


async def test_a_deployment_is_told_the_invocation_s_span(stage: Stage):
    """The server elsewhere is an endpoint of ours; its handler finds the context current."""
    heard: list[dict[str, str]] = []
    far = Service("Far")

    @far.handler()
    async def go(ctx: Context) -> str:
        def ask() -> str:
            headers: dict[str, str] = {}
            inject(headers)
            return headers.get("traceparent", "")

        return await ctx.run_typed("ask", ask)

    endpoint = App([far]).endpoint()

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/invoke/"):
            heard.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await endpoint(scope, receive, send)

    telemetry, kept = keeping()
    await stage.start(observer=telemetry)
    with served(lambda: just(listening)) as port:
        await stage.engine.deployments.register(Asked(uri=f"http://127.0.0.1:{port}", http1=True))
        call = Request(target=stage.engine.catalog.target("Far", "go") or Target("Far", "go"))
        invocation, pending = stage.engine.call(call)
        result = (await pending).result
        await stage.stop()
    telemetry.drain()
    assert isinstance(result, Success)
    answer = json.loads(result.value)
    assert answer.startswith("00-")
    (headers,) = heard
    assert headers["traceparent"] == answer
    assert headers["traceparent"] == below("01", invocation)
    assert headers["tracestate"] == ""
    root = next(span for span in kept.spans if span.name == "Far/go")
    assert headers["traceparent"][36:52] == root.span_id == span_of(invocation)
    assert [span.span_id for span in kept.spans if span.name == "ask"] == [span_of_entry(invocation, 1)]
    assert is_sampled(headers["traceparent"])


def test_a_request_without_a_context_sets_none():
    carry_on({})
    assert not trace.get_current_span().get_span_context().is_valid
