"""What a worker measures about itself, as Prometheus metrics in a registry of its own.

Calls come once a micro-batch from the worker's thread, and from those that write its tables.
"""

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

BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
DECISION_BUCKETS: Final = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.010, 0.0125, 0.015, 0.020, 0.025, 0.030, 0.040, 0.050),
    *(0.075, 0.100, 0.150, 0.250, 0.500, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
DURATION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REPLAY_S: Final = 86_400.0

MAX_REASONS: Final = 40
OTHER: Final = "other"
"""So many reasons of dead letters have a series of their own; what is no short word, or comes later, is ``other``."""

_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class WorkerMetrics:
    """The metrics of one worker; every one carries the label ``stage``.

    Args:
        stage: the worker's stage, or stages joined with ``-``.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self._declare_flow()
        self._declare_state()
        self._declare_lake()
        self._reasons: set[str] = set()
        self._paused_since: float | None = None
        # A series that is there from the start shows its first step as a step.
        self._dead_letters.add(0, OTHER)
        for what in ("assigned", "revoked", "lost"):
            self._rebalances.add(0, what)
        self._scraped = _AtScrape(self.registry, stage)
        ProcessCollector(registry=self.registry)

    def _declare_flow(self) -> None:
        count, level, spread = self._kinds()
        self._messages = count("hedgeflow_messages", "Messages taken.", ["topic"])
        self._bytes = count("hedgeflow_bytes", "Bytes of the messages taken.", ["topic"])
        self._rows = count("hedgeflow_rows", "Rows decoded.", ["topic"])
        self._sent_rows = count("hedgeflow_sent_rows", "Rows sent.", ["topic"])
        self._dead_letters = count("hedgeflow_dead_letters", "Rows that became dead letters.", ["reason"])
        self._batch = spread("hedgeflow_batch_messages", "Messages taken at once.", BATCH_BUCKETS)
        self._lag = level("hedgeflow_lag_messages", "Messages not taken yet.", ["topic", "partition"])
        self._paused = level("hedgeflow_paused", "1 while a slow sink keeps the worker from taking messages.")
        self._queue = level("hedgeflow_queue_messages", "Messages sent that the broker has not acknowledged.")
        self._decision = spread(
            "hedgeflow_event_to_decision_seconds",
            "From the edge's receiving what completes a bar to its decision.",
            DECISION_BUCKETS,
        )

    def _declare_state(self) -> None:
        count, level, spread = self._kinds()
        self._state = level("hedgeflow_state_bytes", "Size of a task's state at its last checkpoint.", ["task"])
        self._checkpoint = spread("hedgeflow_checkpoint_seconds", "How long a checkpoint took.", DURATION_BUCKETS)
        self._rebalances = count("hedgeflow_rebalances", "Partitions assigned, revoked or lost.", ["what"])
        self._refused = count("hedgeflow_commits_refused", "Commits of offsets that the broker refused.")

    def _declare_lake(self) -> None:
        count, level, spread = self._kinds()
        self._lake_seconds = spread(
            "hedgeflow_lake_commit_seconds", "How long a commit took.", DURATION_BUCKETS, ["table"]
        )
        self._lake_rows = count("hedgeflow_lake_rows", "Rows committed to the lake.", ["table"])
        self._lake_failures = count("hedgeflow_lake_failures", "Commits to the lake that failed.", ["table"])
        self._lake_waiting = level("hedgeflow_lake_waiting_rows", "Rows that wait for their commit to the lake.")

    def _kinds(self) -> tuple[Callable[..., Count], Callable[..., Level], Callable[..., Distribution]]:
        return (
            partial(Count, self.registry, self.stage),
            partial(Level, self.registry, self.stage),
            partial(Distribution, self.registry, self.stage),
        )

    def describe(self, catalogue: str) -> None:
        """Name what runs.

        Args:
            catalogue: hash of the features' catalogue.
        """
        self._scraped.catalogue = catalogue

    def answers(self, alive: Callable[[], bool], ready: Callable[[], bool]) -> None:
        """Ask at every scrape what the monitor answers at ``/healthz`` and ``/readyz``."""
        self._scraped.alive, self._scraped.ready = alive, ready

    # -- the flow ------------------------------------------------------------------------------------------------------

    def took(self, topic: str, messages: int, size: int) -> None:
        """Count messages of ``topic`` and their ``size`` in bytes."""
        self._messages.add(messages, topic)
        self._bytes.add(size, topic)

    def batch(self, messages: int) -> None:
        """Messages that one turn of the loop took."""
        self._batch.observe(messages)

    def rows(self, topic: str, rows: int) -> None:
        """Count rows decoded."""
        self._rows.add(rows, topic)

    def sent(self, topic: str, rows: int) -> None:
        """Count rows sent."""
        self._sent_rows.add(rows, topic)

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

    # -- time ----------------------------------------------------------------------------------------------------------

    def lag(self, topic: str, partition: int, messages: int) -> None:
        """Messages of a partition that wait to be taken."""
        self._lag.set(messages, topic, str(partition))

    def released(self, topic: str, partition: int) -> None:
        """A partition is no longer ours: its lag is the next owner's to tell."""
        self._lag.forget(topic, str(partition))

    def watermark(self, stream_ns: int) -> None:
        """Newest stream time seen, in ns; how far it lies behind the wall clock is computed at the scrape."""
        known = self._scraped.watermark_ns
        self._scraped.watermark_ns = stream_ns if known is None else max(stream_ns, known)

    def event_to_decision(self, seconds: float) -> None:
        """From the edge's receiving what completes a bar to its decision; a replay of another day says nothing."""
        if seconds < REPLAY_S:
            self._decision.observe(seconds)

    # -- state ---------------------------------------------------------------------------------------------------------

    def checkpoint(self, task: str, size: int, seconds: float) -> None:
        """A task's state of ``size`` bytes became durable; the age of the checkpoint counts from here."""
        self._state.set(size, task)
        self._checkpoint.observe(seconds)
        self._scraped.covered_at = time.monotonic()

    def forgot(self, task: str) -> None:
        """A task's state is no longer ours."""
        self._state.forget(task)

    def rebalance(self, what: str) -> None:
        """Partitions were ``assigned``, ``revoked`` or ``lost``."""
        self._rebalances.add(1, what)

    def commit_refused(self) -> None:
        """The broker refused offsets."""
        self._refused.add(1)

    def paused(self, paused: bool) -> None:
        """Whether a slow sink keeps the worker from taking messages."""
        if paused != (self._paused_since is not None):
            self._paused_since = time.monotonic() if paused else None
            self._paused.set(paused)

    def paused_s(self) -> float:
        """For how many seconds the worker has been paused; 0 when it takes messages."""
        since = self._paused_since
        return 0.0 if since is None else time.monotonic() - since

    def queue(self, messages: int) -> None:
        """Messages sent that are not acknowledged yet."""
        self._queue.set(messages)

    # -- the lake ------------------------------------------------------------------------------------------------------

    def lake_commit(self, table: str, rows: int, seconds: float) -> None:
        """Rows of a table became durable."""
        self._lake_rows.add(rows, table)
        self._lake_seconds.observe(seconds, table)
        self._scraped.covered_at = time.monotonic()

    def lake_failure(self, table: str) -> None:
        """A commit failed; it is tried again."""
        self._lake_failures.add(1, table)

    def lake_waiting(self, rows: int) -> None:
        """Rows that wait for a commit."""
        self._lake_waiting.set(rows)


class _AtScrape(Collector):
    """What depends on the time at which it is read, and what never changes."""

    def __init__(self, registry: CollectorRegistry, stage: str) -> None:
        self._stage = stage
        self.catalogue = ""
        self.watermark_ns: int | None = None
        self.covered_at = time.monotonic()
        self.alive: Callable[[], bool] | None = None
        self.ready: Callable[[], bool] | None = None
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """What the registry reads."""
        info = InfoMetricFamily("hedgeflow", "What runs.", labels=[STAGE])
        info.add_metric([self._stage], {"version": _version(), "catalogue": self.catalogue})
        yield info
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
