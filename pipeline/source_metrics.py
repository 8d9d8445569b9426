"""What a source measures about itself, for Prometheus; told once a second by the source's own thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from features.events import NANO
from pipeline.health import Health
from pipeline.monitor import Monitor
from pipeline.process_metrics import ProcessMetrics
from pipeline.settings import Settings
from pipeline.topics import EVENTS

TELL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source's totals since its start.

    Args:
        rows: appended to the log.
        rejected: rows that became dead letters, by reason.
        newest_ns: largest venue time that was appended.
        counts: connections opened, gaps, requests and what else the source counts.
        clock_offset_ns: our clock less the venue's.
    """

    rows: int
    rejected: Mapping[str, int]
    newest_ns: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    clock_offset_ns: int | None = None


class SourceMetrics(ProcessMetrics):
    """The metrics of one source.

    Args:
        stage: ``source.`` and its name.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self._sent_rows = self._count("hedgeflow_sent_rows", "Rows sent.", ["topic"])
        self._events = self._count("hedgeflow_source_events", "What a source counts beside rows.", ["what"])
        self._clock_offset = self._level("hedgeflow_clock_offset_seconds", "Our clock less the venue's.")
        self._clock_offset.forget()  # until it is known

    def tell(self, state: SourceState) -> None:
        """Take over a source's totals."""
        self._sent_rows.set(state.rows, EVENTS)
        for what, number in state.counts.items():
            self._events.set(number, what)
        for reason, rows in state.rejected.items():
            self._dead_letters.set(rows, self._known(reason))
        if state.newest_ns is not None:
            self.watermark(state.newest_ns)
        if state.clock_offset_ns is not None:
            self._clock_offset.set(state.clock_offset_ns / NANO)


class Teller:
    """Tells health and metrics what a source's loop knows; called at its turns, by the loop's own thread.

    Args:
        metrics: take the totals once a second.
        health: hears of every turn.
        state: the totals now.
    """

    def __init__(self, metrics: SourceMetrics, health: Health, state: Callable[[], SourceState]) -> None:
        self._metrics, self._health, self._state = metrics, health, state
        self._told = -TELL_S

    def __call__(self) -> None:
        """The loop turned."""
        self._health.beat()
        self._health.ready(True, "following")
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            self._metrics.tell(self._state())

    async def forever(self) -> None:
        """Turn with the event loop until cancelled: one that hangs is heard of no more."""
        while True:
            self()
            await asyncio.sleep(TELL_S)


@contextmanager
def watched(settings: Settings, stage: str, state: Callable[[], SourceState]) -> Iterator[Teller]:
    """Serve a source's metrics and health while the block runs.

    Raises:
        ConfigError: the monitor's address cannot be taken.
    """
    metrics, health = SourceMetrics(stage), Health()
    with Monitor(settings, metrics, health) as monitor:
        structlog.get_logger().info("started", monitor=monitor.address)
        yield Teller(metrics, health, state)
