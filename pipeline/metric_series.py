"""Counts, levels and distributions that cost a worker next to nothing, and become Prometheus metrics at the scrape.

The client library's own metrics take twice as long to add to; its registry and its text are used as they are.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

STAGE: Final = "stage"


class Level(Collector):
    """A number by labels that goes up and down, and is gone when it is forgotten.

    Args:
        registry: where it is read.
        stage: value of the label ``stage``, which comes first.
        name: without a suffix.
        text: what it says.
        labels: further labels; a metric without any is there from the start.
    """

    counts = False

    def __init__(
        self, registry: CollectorRegistry, stage: str, name: str, text: str, labels: Sequence[str] = ()
    ) -> None:
        self._stage, self._name, self._text, self._labels = stage, name, text, tuple(labels)
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        registry.register(self)

    def set(self, value: float, *labels: str) -> None:
        """The value now."""
        self._values[labels] = value

    def forget(self, *labels: str) -> None:
        """There is no such thing any more."""
        self._values.pop(labels, None)

    def collect(self) -> Iterable[Metric]:
        """What the registry reads."""
        make = CounterMetricFamily if self.counts else GaugeMetricFamily
        family = make(self._name, self._text, labels=(STAGE, *self._labels))
        for labels, value in self._values.copy().items():
            family.add_metric((self._stage, *labels), value)
        yield family


class Count(Level):
    """A number by labels that only grows; any thread may add to it."""

    counts = True

    def add(self, amount: float, *labels: str) -> None:
        """So much more."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0.0) + amount


class Distribution(Collector):
    """How values are distributed over buckets, by labels; any thread may add to it.

    Args:
        registry: where it is read.
        stage: value of the label ``stage``, which comes first.
        name: without a suffix.
        text: what it says.
        bounds: upper ends of the buckets, ascending; one without an end is added.
        labels: further labels; a metric without any is there from the start.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        stage: str,
        name: str,
        text: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
    ) -> None:
        self._stage, self._name, self._text, self._labels = stage, name, text, tuple(labels)
        self._bounds = tuple(bounds)
        self._ends = [*map(floatToGoString, bounds), "+Inf"]
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, ...], list[float]] = {}
        if not labels:
            self._buckets[()] = self._empty()
        registry.register(self)

    def observe(self, value: float, *labels: str) -> None:
        """One value more."""
        with self._lock:
            buckets = self._buckets.get(labels)
            if buckets is None:
                buckets = self._buckets[labels] = self._empty()
            buckets[bisect_left(self._bounds, value)] += 1
            buckets[-1] += value

    def _empty(self) -> list[float]:
        """The buckets' counts, each without those below it; then the sum of the values."""
        return [0.0] * (len(self._bounds) + 2)

    def collect(self) -> Iterable[Metric]:
        """What the registry reads."""
        with self._lock:
            found = {labels: list(buckets) for labels, buckets in self._buckets.items()}
        family = HistogramMetricFamily(self._name, self._text, labels=(STAGE, *self._labels))
        for labels, (*counts, total) in found.items():
            below, cumulated = 0.0, []
            for end, count in zip(self._ends, counts, strict=True):
                below += count
                cumulated.append((end, below))
            family.add_metric((self._stage, *labels), cumulated, total)
        yield family
