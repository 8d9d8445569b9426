"""A source's events as the log would have them, without a log: what a backfill from files reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from features.events import EventBatch
from pipeline.edge import Edge
from pipeline.log import MemoryLog
from pipeline.sources.base import Source


def stamped(source: Source, rejected: Counter[str]) -> Iterator[EventBatch]:
    """Pass ``source`` through the edge.

    Args:
        source: yields events with empty edge columns.
        rejected: where the rows that the edge refuses are counted by reason; the source counts its own.
    """
    waiting: list[EventBatch] = []
    log = MemoryLog(waiting.append)
    edge = Edge(log, source.name)
    for batch in source.batches():
        edge.send(batch)
        yield from waiting
        waiting.clear()
    rejected.update(log.rejected)
