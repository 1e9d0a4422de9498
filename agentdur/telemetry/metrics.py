"""Metrics: counted here; `families` shows them to Prometheus and to collectors.

Rules of this file:
1. Counting is an addition in a dict. What a library makes of it is made when somebody asks, and so is the
   library loaded.
2. Label values come from names in code, never from payloads or keys; a label with too many values says
   `other`.
3. A counter is written by one thread, and read by any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

Labels: TypeAlias = tuple[str, ...]

SERIES_MAX = 2_000
"""Label combinations of one metric; further ones are counted as `other`."""
OTHER = "other"
SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
)
"""Bounds of durations: from a commit to a person's decision."""
ENTRIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Counter:
    """Grows."""

    __slots__ = ("labels", "name", "text", "values")

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self.name, self.text, self.labels = name, text, labels
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """So much more."""
        try:
            self.values[labels] += amount
        except KeyError:
            if len(self.values) >= SERIES_MAX:
                labels = (OTHER,) * len(labels)
            self.values[labels] = self.values.get(labels, 0) + amount


class Histogram:
    """How often a value was within which bounds."""

    __slots__ = ("bounds", "labels", "name", "text", "values")

    def __init__(self, name: str, text: str, labels: Labels = (), bounds: Sequence[float] = SECONDS) -> None:
        self.name, self.text, self.labels, self.bounds = name, text, labels, tuple(bounds)
        self.values: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        """One more."""
        found = self.values.get(labels)
        if found is None:
            if len(self.values) >= SERIES_MAX:
                labels = (OTHER,) * len(labels)
            found = self.values.setdefault(labels, ([0] * (len(self.bounds) + 1), [0.0]))
        found[0][bisect_left(self.bounds, value)] += 1
        found[1][0] += value


class Gauge(NamedTuple):
    """What is so now."""

    name: str
    text: str
    values: dict[Labels, float]
    labels: Labels = ()


Figure: TypeAlias = Counter | Histogram | Gauge
Gauges: TypeAlias = Callable[[], Iterable[Gauge]]


class Registry:
    """All metrics of one engine. `gauges`: asked when somebody looks."""

    def __init__(self) -> None:
        self._counted: list[Counter | Histogram] = []
        self.gauges: list[Gauges] = []

    def counter(self, name: str, text: str, labels: Labels = ()) -> Counter:
        """A new one."""
        made = Counter(name, text, labels)
        self._counted.append(made)
        return made

    def histogram(
        self, name: str, text: str, labels: Labels = (), bounds: Sequence[float] = SECONDS
    ) -> Histogram:
        """A new one."""
        made = Histogram(name, text, labels, bounds)
        self._counted.append(made)
        return made

    def figures(self) -> Iterator[Figure]:
        """All of them, as they are now."""
        yield from tuple(self._counted)
        for gauges in self.gauges:
            yield from gauges()
