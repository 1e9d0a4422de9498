"""Metrics as families of Prometheus' own library."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from agentdur.telemetry.metrics import Counter, Figure, Gauge, Histogram, Registry


class Families(Collector):
    """The families of a registry, made anew whenever somebody asks."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._library = CollectorRegistry(auto_describe=False)
        self._library.register(self)

    def collect(self) -> Iterator[Metric]:
        """As the figures are now."""
        return map(family_of, self._registry.figures())

    def text(self) -> tuple[bytes, str]:
        """(what Prometheus reads, its content type)."""
        return generate_latest(self._library), CONTENT_TYPE_PLAIN_0_0_4


def family_of(figure: Figure) -> Metric:
    """One figure with all its series."""
    match figure:
        case Counter():
            counter = CounterMetricFamily(figure.name, figure.text, labels=figure.labels)
            for labels, value in dict(figure.values).items():
                counter.add_metric(labels, value)
            return counter
        case Gauge():
            gauge = GaugeMetricFamily(figure.name, figure.text, labels=figure.labels)
            for labels, value in figure.values.items():
                gauge.add_metric(labels, value)
            return gauge
        case Histogram():
            return _histogram(figure)


def _histogram(figure: Histogram) -> Metric:
    """Its buckets are cumulative."""
    family = HistogramMetricFamily(figure.name, figure.text, labels=figure.labels)
    for labels, (counts, total) in dict(figure.values).items():
        buckets, so_far = [], 0
        for bound, count in zip((*figure.bounds, float("inf")), tuple(counts), strict=True):
            so_far += count
            buckets.append(("+Inf" if bound == float("inf") else f"{bound:g}", so_far))
        family.add_metric(labels, buckets, total[0])
    return family
