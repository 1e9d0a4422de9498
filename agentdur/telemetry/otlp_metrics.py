"""Metrics in OTLP's protobuf, from the families of the registry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from struct import Struct, pack
from typing import Any

from prometheus_client.core import Metric

from agentdur.telemetry.families import Families
from agentdur.telemetry.metrics import Registry
from agentdur.telemetry.otlp import attributes_of, sized
from agentdur.wire.proto import varint

_double = Struct("<d").pack
_fixed = Struct("<Q").pack
_CUMULATIVE = b"\x10\x02"
_MONOTONIC = b"\x18\x01"


def metrics_of(registry: Registry, began_ms: int, now_ms: int) -> list[bytes]:
    """Each figure that has data points, as a field of its ScopeMetrics. `began_ms`: since when is counted."""
    times = b"\x11" + _fixed(began_ms * 1_000_000) + b"\x19" + _fixed(now_ms * 1_000_000)
    out = []
    for family in Families(registry).collect():
        if family.samples:
            head = sized(0x0A, family.name.encode()) + sized(0x12, family.documentation.encode())
            out.append(sized(0x12, head + _data(family, times)))
    return out


def _data(family: Metric, times: bytes) -> bytes:
    if family.type == "histogram":
        return sized(0x4A, b"".join(_histograms(family, times)) + _CUMULATIVE)
    points = b"".join(
        sized(0x0A, times + b"\x21" + _double(sample.value) + _labels(sample.labels, 0x3A))
        for sample in family.samples
        if not sample.name.endswith("_created")
    )
    if family.type == "counter":
        return sized(0x3A, points + _CUMULATIVE + _MONOTONIC)
    return sized(0x2A, points)


def _histograms(family: Metric, times: bytes) -> Iterable[bytes]:
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = defaultdict(lambda: {"buckets": []})
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            series[labels]["buckets"].append((float(sample.labels["le"]), int(sample.value)))
        else:
            series[labels][sample.name.rpartition("_")[2]] = sample.value
    for labels, found in series.items():
        buckets = sorted(found["buckets"])
        counts = [
            count - before for (_, count), before in zip(buckets, (0, *(c for _, c in buckets)), strict=False)
        ]
        bounds = [bound for bound, _ in buckets[:-1]]
        yield sized(
            0x0A,
            times + b"\x21" + _fixed(int(found["count"])) + b"\x29" + _double(found["sum"])
            + _packed(0x32, pack(f"<{len(counts)}Q", *counts)) + _packed(0x3A, pack(f"<{len(bounds)}d",
            *bounds))
            + _labels(dict(labels), 0x4A),
        )  # fmt: skip


def _packed(tag: int, body: bytes) -> bytes:
    return b"%c%b%b" % (tag, varint(len(body)), body)


def _labels(labels: dict[str, str], tag: int) -> bytes:
    return b"".join(attributes_of(tuple(labels.items()), tag))
