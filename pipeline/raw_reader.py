"""The log, read back from the lake: raw rows in the very order in which Kafka held them, in bounded memory.

A table's files are read one after another, not sorted as a whole: the lake writer appends in the order of the log, so
the offsets of one underlying in a file hardly ever overlap with those in another. Files that do overlap (after a
compaction, say) are read as one group.
"""

from __future__ import annotations

import heapq
import tempfile
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from features.events import SCHEMAS, EventBatch, Kind
from pipeline.lake import Lake, require_lake
from pipeline.lake_filesystem import let_read
from pipeline.lake_location import Place
from pipeline.raw_files import BEGIN, RAW_TABLES, Position, UnderlyingLog, listed, logs_of, quoted
from pipeline.tables import Table

BATCH_ROWS: Final = 65_536

MEMORY_LIMIT: Final = "256MB"
"""Of DuckDB while it sorts one group of files; beyond it goes to disk."""


class Logged(NamedTuple):
    """Rows of the log, with the offset of each and its row in the message."""

    batch: EventBatch
    offsets: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]


def read_log(path: Place, underlyings: Collection[str] | None = None) -> Iterator[EventBatch]:
    """All raw events of the lake at ``path``, each underlying in log order.

    Underlyings are interleaved by ``ts_recv``, so that a stage over several of them waits for none for long.

    Args:
        path: the lake.
        underlyings: only these.

    Raises:
        LakeError: there is no lake.
    """
    lake = require_lake(path)
    with connected(lake) as connection:
        logs = logs_of(connection, lake, underlyings=underlyings)
        streams = [read_underlying(connection, log) for log in logs.values()]
        merged = heapq.merge(
            *(_timed(stream, order) for order, stream in enumerate(streams)), key=lambda item: item[:2]
        )
        for _, _, batch in merged:
            yield batch


def read_underlying(
    connection: duckdb.DuckDBPyConnection, log: UnderlyingLog, position: Position = BEGIN
) -> Iterator[Logged]:
    """The rows of one underlying from ``position`` on: its tables merged by offset, in runs of one kind as long as the
    log allows."""
    cursors = [_Cursor(connection, table, log, position) for table in RAW_TABLES]
    cursors = [cursor for cursor in cursors if cursor.offset is not None]
    while cursors:
        cursors.sort(key=lambda cursor: cursor.offset or 0)
        first = cursors[0]
        until = cursors[1].offset if len(cursors) > 1 else None
        yield from first.take(until)
        if first.offset is None:
            cursors.remove(first)


@contextmanager
def connected(lake: Lake, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that reads the lake's files; it sorts in bounded memory, and beyond it on disk.

    Args:
        lake: wherever it is.
        threads: of DuckDB; as many as there are cores.
    """
    with tempfile.TemporaryDirectory(prefix="hedgeflow-") as spill:
        config = {"memory_limit": MEMORY_LIMIT, "temp_directory": spill}
        if threads is not None:
            config["threads"] = str(threads)
        with duckdb.connect(config=config) as connection:
            let_read(connection, lake)
            yield connection


def _timed(stream: Iterator[Logged], order: int) -> Iterator[tuple[int, int, EventBatch]]:
    """Key batches by the largest ``ts_recv`` so far, which never decreases."""
    latest = 0
    for batch, _, _ in stream:
        latest = max(latest, int(batch.data.column(2)[0].as_py()))
        yield latest, order, batch


class _Cursor:
    """A table's rows of one underlying, in order of offset."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: Table, log: UnderlyingLog, position: Position
    ) -> None:
        self._kind = Kind(table.kind)
        self._underlying = log.underlying
        # A cursor of its own: DuckDB holds one open result a connection.
        self._connection = connection.cursor()
        self._where = (
            f"underlying = {quoted(log.underlying)} AND topic_partition = {log.partition} "
            f"AND topic_offset >= {position[0]} AND (topic_offset > {position[0]} OR topic_row >= {position[1]})"
        )
        self._groups = deque(log.groups.get(table.name, []))
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._data: pa.RecordBatch | None = None
        self._at = 0
        self._load()

    @property
    def offset(self) -> int | None:
        """The offset of the next row; ``None`` at the end."""
        return None if self._data is None else int(self._offsets[self._at])

    def take(self, until: int | None) -> Iterator[Logged]:
        """All rows before offset ``until``."""
        while self._data is not None and (until is None or self._offsets[self._at] < until):
            end = len(self._offsets) if until is None else int(np.searchsorted(self._offsets, until))
            part = slice(self._at, end)
            batch = EventBatch(self._kind, self._underlying, self._data.slice(self._at, end - self._at))
            yield Logged(batch, self._offsets[part], self._rows[part])
            self._at = end
            if end == len(self._offsets):
                self._load()

    def _load(self) -> None:
        self._at = 0
        self._data = None
        read = next(self._batches, None)
        while (read is None or read.num_rows == 0) and self._groups:
            self._batches = iter(self._read(self._groups.popleft()))
            read = next(self._batches, None)
        if read is None or read.num_rows == 0:
            self._connection.close()
            return
        # Whole batches at once: the pieces that the merge takes are small, and then only slices.
        schema = SCHEMAS[self._kind]
        columns = [_wire(read.column(field.name), field.type) for field in schema]
        self._data = pa.RecordBatch.from_arrays(columns, schema=schema)
        self._offsets = read.column("topic_offset").to_numpy()
        self._rows = read.column("topic_row").to_numpy()

    def _read(self, files: list[str]) -> pa.RecordBatchReader:
        names = ", ".join([*SCHEMAS[self._kind].names, "topic_offset", "topic_row"])
        return self._connection.sql(
            f"SELECT {names} FROM read_parquet({listed(files)}) WHERE {self._where} ORDER BY topic_offset, topic_row"
        ).to_arrow_reader(BATCH_ROWS)


def _wire(column: pa.Array, type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return column.cast(pa.utf8()).dictionary_encode()
    return column.cast(type_)
