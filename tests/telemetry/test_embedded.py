"""An App in somebody's program: telemetry by the same settings and variables, and nothing without them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentdur import App
from agentdur.config import Settings
from agentdur.core.errors import BadTelemetry
from tests.support.collector import Collector
from tests.telemetry.world import shop


async def sold(settings: Settings | None = None) -> None:
    services = shop()
    app = App([services])
    async with app.running("memory://", settings=settings) as engine:
        assert await engine.client().service_call(services.handlers["price"].fn, "lamp") == 4
    assert app.telemetry is None


async def test_all_has_left_when_the_engine_has_stopped(collector: Collector):
    await sold(Settings(otel_endpoint=collector.url, otel_service_name="desk"))
    assert {span.name for span in collector.spans} == {"Shop/price", "look up"}
    assert collector.metric("agentdur_invocations_completed").sum.data_points[0].as_double == 1
    assert {one["service.name"] for one in collector.resources} == {"desk"}


async def test_the_standard_variables_are_enough(collector: Collector, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    await sold()
    assert len(collector.spans) == 2
    assert collector.metrics == []


async def test_what_does_not_fit_stops_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(BadTelemetry):
        await sold()


@pytest.mark.slow
def test_without_telemetry_nothing_of_it_is_even_imported():
    program = """
import asyncio, sys
from agentdur import App, Context, Service
s = Service("S")
@s.handler()
async def go(ctx: Context) -> int:
    return await ctx.run_typed("one", lambda: 1)
async def main():
    async with App([s]).running("memory://") as engine:
        assert await engine.client().service_call(go, None) == 1
asyncio.run(main())
print([name for name in sys.modules if name.startswith(("agentdur.telemetry", "prometheus_client"))])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
