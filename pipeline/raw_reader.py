"""The log, read back from the lake: raw rows in the very order in which Kafka held them, in bounded memory.

A table's files are read one after another, not sorted as a whole: the lake writer appends in the order of the log, so
the offsets of one partition in a file hardly ever overlap with those in another. Files that do overlap (after a
compaction, say) are read as one group.
"""

from __future__ import annotations

import heapq
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from features.events import SCHEMAS, EventBatch, Kind
from pipeline import topics
from pipeline.lake import Lake, require_lake
from pipeline.query import local_path
from pipeline.tables import TABLES, Table

BATCH_ROWS: Final = 65_536

MEMORY_LIMIT: Final = "256MB"
"""Of DuckDB while it sorts one group of files; beyond it goes to disk."""

RAW_TABLES: Final = tuple(table for table in TABLES.values() if table.topic == topics.EVENTS)


def read_log(path: str | Path) -> Iterator[EventBatch]:
    """All raw events of the lake at ``path``, each partition in log order.

    Partitions are interleaved by ``ts_recv``, so that a stage over several of them waits for none for long.

    Raises:
        LakeError: there is no lake.
    """
    lake = require_lake(Path(path))
    with tempfile.TemporaryDirectory(prefix="hedgeflow-") as spill, _connect(spill) as connection:
        groups = {table.name: _groups(connection, lake, table) for table in RAW_TABLES}
        partitions = sorted({partition for by_partition in groups.values() for partition in by_partition})
        streams = [
            _partition([_Cursor(connection, table, p, groups[table.name].get(p, [])) for table in RAW_TABLES])
            for p in partitions
        ]
        merged = heapq.merge(
            *(_timed(stream, order) for order, stream in enumerate(streams)), key=lambda item: item[:2]
        )
        for _, _, batch in merged:
            yield batch


def _connect(spill: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill})


def _timed(stream: Iterator[EventBatch], order: int) -> Iterator[tuple[int, int, EventBatch]]:
    """Key batches by the largest ``ts_recv`` so far, which never decreases."""
    latest = 0
    for batch in stream:
        latest = max(latest, int(batch.data.column(2)[0].as_py()))
        yield latest, order, batch


def _groups(connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table) -> dict[int, list[list[str]]]:
    """By partition, the table's files in groups whose offsets follow one another."""
    files = [local_path(uri) for uri in lake.files(table)]
    if not files:
        return {}
    ranges = connection.execute(
        "SELECT topic_partition, min(topic_offset), max(topic_offset), filename "
        f"FROM read_parquet({_listed(files)}, filename = true) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    groups: dict[int, list[list[str]]] = {}
    reached: dict[int, int] = {}
    for partition, first, last, file in ranges:
        mine = groups.setdefault(partition, [])
        if first > reached.get(partition, -1):
            mine.append([file])
        else:
            mine[-1].append(file)
        reached[partition] = max(last, reached.get(partition, -1))
    return groups


def _listed(files: list[str]) -> str:
    return "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"


def _partition(cursors: list[_Cursor]) -> Iterator[EventBatch]:
    """One partition: its tables merged by offset, in runs of one kind as long as the log allows."""
    cursors = [cursor for cursor in cursors if cursor.offset is not None]
    while cursors:
        cursors.sort(key=lambda cursor: cursor.offset or 0)
        first = cursors[0]
        until = cursors[1].offset if len(cursors) > 1 else None
        yield from first.take(until)
        if first.offset is None:
            cursors.remove(first)


class _Cursor:
    """A table's rows of one partition, in order of offset."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: Table, partition: int, groups: list[list[str]]
    ) -> None:
        self._kind = Kind(table.kind)
        # A cursor of its own: DuckDB holds one open result a connection.
        self._connection = connection.cursor()
        self._partition = partition
        self._groups = deque(groups)
        self._batches: Iterator[pa.RecordBatch] = iter(())
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
            yield from self._events(self._rows, self._at, end)
            self._at = end
            if end == len(self._offsets):
                self._load()

    def _load(self) -> None:
        self._at = 0
        self._rows = None
        rows = next(self._batches, None)
        while rows is None and self._groups:
            self._batches = iter(self._read(self._groups.popleft()))
            rows = next(self._batches, None)
        if rows is None:
            self._connection.close()
            return
        # Whole batches at once: the pieces that the merge takes are small, and then only slices.
        schema = SCHEMAS[self._kind]
        columns = [_wire(rows.column(field.name), field.type) for field in schema]
        self._rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        underlying = rows.column("underlying").dictionary_encode()
        self._underlyings = underlying.dictionary.to_pylist()
        self._underlying = underlying.indices.to_numpy()
        self._offsets = rows.column("topic_offset").to_numpy()

    def _read(self, files: list[str]) -> pa.RecordBatchReader:
        names = ", ".join(["underlying", *SCHEMAS[self._kind].names, "topic_offset"])
        return self._connection.sql(
            f"SELECT {names} FROM read_parquet({_listed(files)}) WHERE topic_partition = {self._partition} "
            "ORDER BY topic_offset, topic_row"
        ).to_arrow_reader(BATCH_ROWS)

    def _events(self, rows: pa.RecordBatch, start: int, end: int) -> Iterator[EventBatch]:
        """Rows from ``start`` to ``end``, a batch an underlying."""
        code = self._underlying[start:end]
        if (code == code[0]).all():
            yield EventBatch(self._kind, self._underlyings[code[0]], rows.slice(start, end - start))
            return
        for each in dict.fromkeys(code.tolist()):
            mine = pa.array(start + np.flatnonzero(code == each))
            yield EventBatch(self._kind, self._underlyings[each], rows.take(mine))


def _wire(column: pa.Array, type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return column.cast(pa.utf8()).dictionary_encode()
    return column.cast(type_)
