"""What every process measures: which code runs, whether it lives, what it could not use, and how late its data are."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from features.events import NANO
from pipeline.metric_series import STAGE, Count, Distribution, Level

MAX_REASONS: Final = 40
OTHER: Final = "other"
"""So many reasons of dead letters have a series of their own; what is no short word, or comes later, is ``other``."""

_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class ProcessMetrics:
    """The metrics of one process in a registry of their own; every one carries the label ``stage``.

    Args:
        stage: what the process runs; of a chain, the stages joined with ``-``.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self._dead_letters = self._count("hedgeflow_dead_letters", "Rows that became dead letters.", ["reason"])
        # A series that is there from the start shows its first step as a step.
        self._dead_letters.add(0, OTHER)
        self._reasons: set[str] = set()
        self._scraped = _AtScrape(self.registry, stage)
        ProcessCollector(registry=self.registry)

    @property
    def _count(self) -> Callable[..., Count]:
        return partial(Count, self.registry, self.stage)

    @property
    def _level(self) -> Callable[..., Level]:
        return partial(Level, self.registry, self.stage)

    @property
    def _spread(self) -> Callable[..., Distribution]:
        return partial(Distribution, self.registry, self.stage)

    def describe(self, catalogue: str) -> None:
        """Name what runs.

        Args:
            catalogue: hash of the features' catalogue.
        """
        self._scraped.catalogue = catalogue

    def answers(self, alive: Callable[[], bool], ready: Callable[[], bool]) -> None:
        """Ask at every scrape what the monitor answers at ``/healthz`` and ``/readyz``."""
        self._scraped.alive, self._scraped.ready = alive, ready

    def dead_letter(self, reason: str, rows: int = 1) -> None:
        """Count rows that could not be used; ``reason`` is a short word, and only so many have their own series."""
        self._dead_letters.add(rows, self._known(reason))

    def _known(self, reason: str) -> str:
        if reason in self._reasons:
            return reason
        if len(self._reasons) >= MAX_REASONS or not _WORD.fullmatch(reason):
            return OTHER
        self._reasons.add(reason)
        return reason

    def watermark(self, stream_ns: int) -> None:
        """Newest stream time seen, in ns; how far it lies behind the wall clock is computed at the scrape."""
        known = self._scraped.watermark_ns
        self._scraped.watermark_ns = stream_ns if known is None else max(stream_ns, known)

    def paused_s(self) -> float:
        """For how many seconds a slow sink has kept the process waiting; 0 when it takes messages."""
        return 0.0


class _AtScrape(Collector):
    """What depends on the time at which it is read, and what never changes."""

    def __init__(self, registry: CollectorRegistry, stage: str) -> None:
        self._stage = stage
        self.catalogue = ""
        self.watermark_ns: int | None = None
        self.covered_at: float | None = None
        self.alive: Callable[[], bool] | None = None
        self.ready: Callable[[], bool] | None = None
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """What the registry reads."""
        info = InfoMetricFamily("hedgeflow", "What runs.", labels=[STAGE])
        info.add_metric([self._stage], {"version": _version(), "catalogue": self.catalogue})
        yield info
        if self.covered_at is not None:
            age = time.monotonic() - self.covered_at
            yield self._gauge("hedgeflow_checkpoint_age_seconds", "Time since the last checkpoint or lake commit.", age)
        if self.watermark_ns is not None:
            behind = time.time() - self.watermark_ns / NANO
            yield self._gauge("hedgeflow_watermark_delay_seconds", "Wall clock minus newest stream time.", behind)
        if self.alive is not None and self.ready is not None:
            yield self._gauge("hedgeflow_alive", "1 while /healthz is good.", self.alive())
            yield self._gauge("hedgeflow_ready", "1 while /readyz is good.", self.ready())

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=[STAGE])
        family.add_metric([self._stage], value)
        return family


def _version() -> str:
    try:
        return version("hedgeflow")
    except PackageNotFoundError:
        return "unknown"
