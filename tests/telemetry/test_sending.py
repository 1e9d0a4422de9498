"""Telemetry leaves when it can, is counted when it cannot, and never stands in anybody's way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentdur.core.errors import BadTelemetry
from agentdur.telemetry import send
from agentdur.telemetry.options import METRICS, TRACES, Options, destinations, resource_of
from agentdur.telemetry.pipeline import Share, Telemetry
from tests.support.collector import Collector
from tests.support.stage import Stage
from tests.telemetry.conftest import Sending
from tests.telemetry.world import keeping, shop

OTLP = "OTEL_EXPORTER_OTLP_"


def spans_left(telemetry: Telemetry) -> dict[str, float]:
    """By what became of them."""
    return {labels[0]: count for labels, count in telemetry.left.values.items()}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "PAUSE_SECONDS_FIRST", 0.01)


async def sold(stage: Stage, telemetry: Telemetry) -> None:
    services = shop()
    await stage.start(services, observer=telemetry)
    await stage.client.service_call(services.handlers["price"].fn, "lamp")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_may_be_tried_again_is(
    stage: Stage, collector: Collector, sending: Sending, status: int, caplog: pytest.LogCaptureFixture
):
    collector.answer = lambda number: status if number < 3 else 200
    telemetry = sending()
    await sold(stage, telemetry)
    assert telemetry.flush()
    assert len(collector.headers) == 3
    assert len(collector.spans) == 2
    assert spans_left(telemetry) == {"sent": 2}
    told = [record.message for record in caplog.records if record.name == "agentdur.telemetry"]
    assert len(told) == 2
    assert told[0].startswith("[AD0221]")
    assert told[1].startswith("telemetry is sent again")


@pytest.mark.usefixtures("hasty")
async def test_what_is_refused_is_dropped_and_counted(stage: Stage, collector: Collector, sending: Sending):
    collector.answer = lambda number: 400
    telemetry = sending()
    await sold(stage, telemetry)
    assert telemetry.flush()
    assert len(collector.headers) == 1
    assert spans_left(telemetry) == {"failed": 2}


@pytest.mark.usefixtures("hasty")
async def test_without_a_collector_the_engine_goes_on(
    stage: Stage, collector: Collector, sending: Sending, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(send, "TRY_SECONDS_MAX", 0.2)
    telemetry = sending()
    collector.close()
    await sold(stage, telemetry)
    assert telemetry.flush()
    assert spans_left(telemetry) == {"failed": 2}


async def test_headers_and_compression_are_as_the_variables_say(stage: Stage, collector: Collector):
    environ = {f"{OTLP}HEADERS": "authorization=Bearer%20abc,x-tenant=a", f"{OTLP}COMPRESSION": "gzip"}
    found = destinations(environ, collector.url)
    telemetry = Telemetry(Options(traces=found[TRACES]), "test")
    await sold(stage, telemetry)
    telemetry.stop()
    (headers,) = collector.headers
    assert headers["authorization"] == "Bearer abc"
    assert (headers["x-tenant"], headers["content-encoding"]) == ("a", "gzip")
    assert len(collector.spans) == 2


async def test_more_than_may_wait_is_left_out_and_counted(stage: Stage):
    telemetry, kept = keeping(queue=3)
    services = shop()
    await stage.start(services, observer=telemetry)
    calls = (stage.client.service_call(services.handlers["price"].fn, f"{n}") for n in range(20))
    assert await asyncio.gather(*calls) == [1] * 10 + [2] * 10
    telemetry.drain()
    assert telemetry.lost.values[()] > 0
    assert len(kept.spans) < 40
    await stage.client.service_call(services.handlers["price"].fn, "lamp")
    telemetry.drain()
    assert {span.name for span in kept.spans[-2:]} == {"look up", "Shop/price"}, "then it goes on"
    assert not telemetry.followed, "what was open then is forgotten"


def test_above_its_share_fewer_traces_begin_and_then_all_again():
    share = Share(0.1)
    clock = 100.0
    for _ in range(200):  # 2 of 10 ms
        share.took(0.002, clock)
        clock += 0.01
    assert share.room < 0.5
    for _ in range(2000):
        share.took(0.0001, clock)
        clock += 0.01
    assert share.room == 1.0


# -- what it is told


def test_the_setting_comes_before_the_variables():
    environ = {f"{OTLP}ENDPOINT": "http://variable:4318/", f"{OTLP}HEADERS": "a=1"}
    found = destinations(environ)
    assert {signal: one.url for signal, one in found.items()} == {
        TRACES: "http://variable:4318/v1/traces", METRICS: "http://variable:4318/v1/metrics",
    }  # fmt: skip
    assert found[TRACES].headers == (("a", "1"),)
    ours = destinations(environ, "http://setting:4318", "b=2")
    assert ours[TRACES].url == "http://setting:4318/v1/traces"
    assert ours[TRACES].headers == (("b", "2"),)


def test_a_signal_s_own_variables_come_before_the_common_ones():
    environ = {
        f"{OTLP}ENDPOINT": "http://both", f"{OTLP}TRACES_ENDPOINT": "https://traces/path",
        f"{OTLP}TIMEOUT": "5000",
        f"{OTLP}METRICS_TIMEOUT": "7000", f"{OTLP}TRACES_PROTOCOL": "http/protobuf",
    }  # fmt: skip
    found = destinations(environ)
    assert (found[TRACES].url, found[TRACES].timeout_ms) == ("https://traces/path", 5000)
    assert (found[METRICS].url, found[METRICS].timeout_ms) == ("http://both/v1/metrics", 7000)


@pytest.mark.parametrize(
    ("environ", "signals"),
    [
        ({}, set()),
        ({f"{OTLP}TRACES_ENDPOINT": "http://a"}, {TRACES}),
        ({f"{OTLP}ENDPOINT": "http://a", "OTEL_METRICS_EXPORTER": "none"}, {TRACES}),
        ({f"{OTLP}ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"}, set()),
    ],
)
def test_what_is_not_wanted_is_not_sent(environ: dict[str, str], signals: set[str]):
    assert set(destinations(environ)) == signals


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({f"{OTLP}PROTOCOL": "grpc"}, "4318"),
        ({f"{OTLP}COMPRESSION": "zip"}, "COMPRESSION"),
        ({f"{OTLP}TIMEOUT": "10s"}, "TIMEOUT"),
        ({f"{OTLP}HEADERS": "token"}, "HEADERS"),
        ({f"{OTLP}ENDPOINT": "localhost:4318"}, "localhost:4318"),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "jaeger"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(environ: dict[str, str], names: str):
    with pytest.raises(BadTelemetry, match=names) as caught:
        destinations({f"{OTLP}ENDPOINT": "http://a", **environ})
    assert caught.value.code == "AD0220"


def test_a_token_is_not_repeated_when_it_does_not_fit():
    with pytest.raises(BadTelemetry) as caught:
        destinations({}, "http://a", "secrettoken")
    assert "secrettoken" not in str(caught.value)


def test_who_sends_is_said_as_the_variables_say():
    environ = {"OTEL_SERVICE_NAME": "desk", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,zone=eu%2Fa"}
    found: dict[str, Any] = dict(resource_of(environ, "1.0"))
    assert (found["service.name"], found["zone"]) == ("desk", "eu/a")
    assert dict(resource_of(environ, "1.0", "ours"))["service.name"] == "ours"
    assert dict(resource_of({}, "1.0"))["service.name"] == "agentdur"
