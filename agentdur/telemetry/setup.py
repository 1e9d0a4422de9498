"""Telemetry from settings and the environment, for the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentdur.telemetry.options import METRICS, TRACES, Options, destinations, resource_of
from agentdur.telemetry.pipeline import Telemetry


def set_up(settings: Any, environ: Mapping[str, str], version: str, *, expose: bool) -> Telemetry | None:
    """None when nothing is wanted. `settings` have the `otel_…` fields of `agentdur.config.Settings`;
    `expose`: somebody can come and ask for metrics. BadTelemetry when something does not fit."""
    found = destinations(environ, settings.otel_endpoint, settings.otel_headers)
    options = Options(
        traces=found.get(TRACES), metrics=found.get(METRICS), expose=expose and settings.metrics,
        content=settings.otel_content, content_bytes=settings.otel_content_limit,
        sample_ratio=settings.otel_sample_ratio, share=settings.otel_loop_share_limit,
        queue=settings.otel_queue_limit,
        metric_interval_ms=int(settings.otel_metric_interval.total_seconds() * 1000),
        resource=resource_of(environ, version, settings.otel_service_name),
    )  # fmt: skip
    return Telemetry(options, version) if options.wanted else None
