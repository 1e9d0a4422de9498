"""A collector, and telemetry that is sent to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentdur.telemetry.options import METRICS, TRACES, Options, destinations
from agentdur.telemetry.pipeline import Telemetry
from tests.support.collector import Collector, collecting
from tests.support.fixtures import stage

__all__ = ["stage"]

Sending = Callable[..., Telemetry]


@pytest.fixture
def collector() -> Iterator[Collector]:
    yield from collecting()


@pytest.fixture
def sending(collector: Collector) -> Iterator[Sending]:
    """Telemetry to the collector; what still lives at the end of the test is stopped."""
    made: list[Telemetry] = []

    def make(metrics: bool = False, **more: Any) -> Telemetry:
        found = destinations({}, collector.url)
        options = Options(traces=found[TRACES], metrics=found[METRICS] if metrics else None, **more)
        made.append(Telemetry(options, "test"))
        return made[-1]

    yield make
    for telemetry in made:
        telemetry.stop()
