"""``md.events`` in large messages: what a source with a backlog, or a merge of files, appends.

Rows of one kind are joined up to the 1,600 of a message, but never across a second of stream time, so the bars are the
same. The edge numbers and judges them as it does for every source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import pyarrow as pa

from benchmarks.recorded_like import KINDS, Base
from features.events import NANO, EventBatch, Kind
from pipeline.codec import MAX_ROWS
from pipeline.edge import Edge
from pipeline.kafka import partition_of
from pipeline.log import KafkaLog, MemoryLog
from pipeline.settings import Settings
from pipeline.topics import EVENTS


class Filled(NamedTuple):
    """What a log holds."""

    ends: dict[tuple[str, int], int]
    rows: int


def busier(base: Base, factor: int) -> Base:
    """The same rows in a ``factor``-th of the time, without heartbeats: a market that is so much more active."""
    start = min(int(batch.data.column(1).to_numpy().min()) for batch in base.batches)
    return Base([_sooner(batch, start, factor) for batch in base.batches if batch.kind is not Kind.HEARTBEAT])


def _sooner(batch: EventBatch, start: int, factor: int) -> EventBatch:
    data = batch.data
    for column in (1, 2):
        times = start + (data.column(column).to_numpy() - start) // factor
        data = data.set_column(column, data.schema.field(column), pa.array(times))
    return EventBatch(batch.kind, batch.underlying, data)


def joined(batches: Iterable[EventBatch]) -> Iterator[EventBatch]:
    """The rows of each underlying in larger batches; instruments and heartbeats cut them, as do seconds."""
    waiting: dict[str, dict[Kind, list[pa.RecordBatch]]] = {}
    latest: dict[str, int] = {}
    for batch in batches:
        kinds = waiting.setdefault(batch.underlying, {})
        before, events = latest.get(batch.underlying, 0), batch.data.column(1).to_numpy()
        latest[batch.underlying] = now = max(before, int(events.max()))
        if now // NANO > before // NANO or batch.kind in (Kind.INSTRUMENT, Kind.HEARTBEAT):
            yield from _flush(batch.underlying, kinds)
        found = kinds.setdefault(batch.kind, [])
        if sum(each.num_rows for each in found) + batch.data.num_rows > MAX_ROWS:
            yield from _flush(batch.underlying, {batch.kind: found})
        found.append(batch.data)
    for underlying, kinds in waiting.items():
        yield from _flush(underlying, kinds)


def _flush(underlying: str, kinds: dict[Kind, list[pa.RecordBatch]]) -> Iterator[EventBatch]:
    for kind in KINDS:
        if found := kinds.get(kind):
            table = pa.Table.from_batches(found).combine_chunks()
            yield EventBatch(kind, underlying, table.to_batches()[0])
            found.clear()


def balanced(underlying: str, copies: int, partitions: int) -> list[int]:
    """Numbers of copies whose keys fall into all partitions alike."""
    room = [copies // partitions + (number < copies % partitions) for number in range(partitions)]
    found: list[int] = []
    for number in count():
        at = partition_of(f"{underlying}.{number}", partitions)
        if room[at]:
            room[at] -= 1
            found.append(number)
        if not any(room):
            return found
    raise AssertionError("unreachable: numbers do not end")


def joined_base(base: Base) -> Base:
    """The base in large messages, numbered and judged by the edge."""
    out: list[EventBatch] = []
    edge = Edge(MemoryLog(out.append), "benchmark")
    for batch in joined(base.batches):
        edge.send(batch)
    return Base(out)


def log_of(base: Base, copies: Sequence[int], repetitions: int) -> Iterator[EventBatch]:
    """Copies of the base take turns, repetition by repetition."""
    for number in range(repetitions):
        for copy in copies:
            yield from base.repetition(number, copy, rename=True)


def fill_events(settings: Settings, events: Iterable[EventBatch]) -> Filled:
    """Append to ``md.events``; returns its ends and how many rows they are."""
    log = KafkaLog(settings)
    ends: dict[tuple[str, int], int] = {(EVENTS, number): 0 for number in range(settings.partitions)}
    rows = 0
    for batch in events:
        log.append(batch)
        rows += batch.data.num_rows
        ends[EVENTS, partition_of(batch.underlying, settings.partitions)] += 1
    log.flush()
    return Filled({position: end for position, end in ends.items() if end}, rows)
