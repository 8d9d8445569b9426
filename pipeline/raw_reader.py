"""The log, read back from the lake: raw rows in the very order in which Kafka held them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.events import SCHEMAS, EventBatch, Kind
from pipeline import topics
from pipeline.query import open_lake
from pipeline.tables import TABLES, Table

BATCH_ROWS: Final = 65_536

RAW_TABLES: Final = tuple(table for table in TABLES.values() if table.topic == topics.EVENTS)


def read_log(path: Any) -> Iterator[EventBatch]:
    """All raw events of the lake at ``path``, each partition in log order.

    Partitions are interleaved by ``ts_recv``, so that a stage over several of them waits for none for long. Memory
    is bounded: DuckDB sorts each table and streams it.
    """
    with open_lake(path) as connection:
        partitions = _partitions(connection)
        streams = [_partition(path, partition) for partition in partitions]
        merged = heapq.merge(
            *(_timed(stream, order) for order, stream in enumerate(streams)), key=lambda item: item[:2]
        )
        for _, _, batch in merged:
            yield batch


def _timed(stream: Iterator[EventBatch], order: int) -> Iterator[tuple[int, int, EventBatch]]:
    """Key batches by the largest ``ts_recv`` so far, which never decreases."""
    latest = 0
    for batch in stream:
        latest = max(latest, int(batch.data.column(2)[0].as_py()))
        yield latest, order, batch


def _partitions(connection: Any) -> list[int]:
    union = " UNION ".join(f"SELECT DISTINCT topic_partition FROM {table.name}" for table in RAW_TABLES)
    return sorted(row[0] for row in connection.execute(union).fetchall())


def _partition(path: Any, partition: int) -> Iterator[EventBatch]:
    """One partition: its tables merged by offset, in runs of one kind as long as the log allows."""
    cursors = [cursor for table in RAW_TABLES if (cursor := _Cursor(path, table, partition)).offset is not None]
    while cursors:
        cursors.sort(key=lambda cursor: cursor.offset or 0)
        first = cursors[0]
        until = cursors[1].offset if len(cursors) > 1 else None
        yield from first.take(until)
        if first.offset is None:
            cursors.remove(first)


class _Cursor:
    """A table's rows of one partition, in order of offset."""

    def __init__(self, path: Any, table: Table, partition: int) -> None:
        self._kind = Kind(table.kind)
        # Each cursor streams over a connection of its own: DuckDB holds one open result a connection.
        self._connection = open_lake(path)
        names = ", ".join(["underlying", *SCHEMAS[self._kind].names, "topic_offset"])
        self._reader = self._connection.sql(
            f"SELECT {names} FROM {table.name} WHERE topic_partition = {partition} ORDER BY topic_offset, topic_row"
        ).to_arrow_reader(BATCH_ROWS)
        self._rows: pa.RecordBatch | None = None
        self._at = 0
        self._load()

    @property
    def offset(self) -> int | None:
        """The offset of the next row; ``None`` at the end."""
        return None if self._rows is None else int(self._offsets[self._at])

    def take(self, until: int | None) -> Iterator[EventBatch]:
        """All rows before offset ``until``."""
        while self._rows is not None and (until is None or self._offsets[self._at] < until):
            end = len(self._offsets) if until is None else int(np.searchsorted(self._offsets, until))
            yield from self._batches(self._rows.slice(self._at, end - self._at))
            self._at = end
            if end == len(self._offsets):
                self._load()

    def _load(self) -> None:
        self._at = 0
        self._rows = next(iter(self._reader), None)
        if self._rows is None:
            self._connection.close()
            return
        self._offsets = self._rows.column("topic_offset").to_numpy()

    def _batches(self, rows: pa.RecordBatch) -> Iterator[EventBatch]:
        schema = SCHEMAS[self._kind]
        for underlying in pc.unique(rows.column("underlying")).to_pylist():
            mine = rows.filter(pc.equal(rows.column("underlying"), underlying))
            columns = [_wire(mine.column(field.name), field.type) for field in schema]
            yield EventBatch(self._kind, underlying, pa.RecordBatch.from_arrays(columns, schema=schema))


def _wire(column: pa.Array, type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return column.cast(pa.utf8()).dictionary_encode()
    return column.cast(type_)
