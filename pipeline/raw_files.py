"""Which files of a lake hold the log of which underlying, and in what order they are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import duckdb
import msgspec

from features.events import Kind
from pipeline import topics
from pipeline.lake import Lake, LakeError
from pipeline.lake_filesystem import readable_files
from pipeline.tables import TABLES, Table

RAW_TABLES: Final = tuple(table for table in TABLES.values() if table.topic == topics.EVENTS)

Position = tuple[int, int]
"""(offset, row) of the next row in an underlying's partition: what lies before was read."""

BEGIN: Final[Position] = (0, 0)


class UnderlyingLog(msgspec.Struct):
    """Where the rows of one underlying lie.

    Args:
        underlying: its name.
        partition: of the log that holds it.
        groups: by table, groups of files whose offsets follow one another; files of one group overlap.
        rows: in these files.
    """

    underlying: str
    partition: int
    groups: dict[str, list[list[str]]] = {}
    rows: int = 0


def raw_tables(names: Collection[str] = ()) -> tuple[Table, ...]:
    """The raw tables of these names, and those without which no other can be read; all, if none is named."""
    always = (Kind.INSTRUMENT.value, Kind.HEARTBEAT.value)
    return tuple(table for table in RAW_TABLES if not names or table.name in names or table.kind in always)


def logs_of(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    after: Mapping[str, Position] | None = None,
    underlyings: Collection[str] | None = None,
    tables: Collection[str] = (),
) -> dict[str, UnderlyingLog]:
    """The logs that the lake holds, by underlying.

    Args:
        connection: of ``connected(lake)``; DuckDB reads the positions of the rows, two narrow columns, once.
        lake: whose raw tables are read.
        after: files that lie before these positions are left out.
        underlyings: only these.
        tables: names of raw tables, of which alone the log is to be; all without.

    Raises:
        LakeError: an underlying lies in two partitions, so its rows have no order.
    """
    found: dict[str, UnderlyingLog] = {}
    for table in raw_tables(tables):
        reached: dict[str, int] = {}
        for underlying, partition, first, last, rows, file in _extents(connection, lake, table):
            if underlyings is not None and underlying not in underlyings:
                continue
            if after and last < after.get(underlying, BEGIN)[0]:
                continue
            log = found.setdefault(underlying, UnderlyingLog(underlying, partition))
            _require_one_partition(log, partition, lake)
            groups = log.groups.setdefault(table.name, [])
            if first > reached.get(underlying, -1):
                groups.append([file])
            else:
                groups[-1].append(file)
            reached[underlying] = max(last, reached.get(underlying, -1))
            log.rows += rows
    return dict(sorted(found.items()))


def listed(files: Collection[str]) -> str:
    """A list of files as SQL."""
    return "[" + ", ".join(quoted(file) for file in files) + "]"


def quoted(text: str) -> str:
    """A string as SQL."""
    return "'" + text.replace("'", "''") + "'"


def _extents(connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table) -> list[tuple[Any, ...]]:
    """(underlying, partition, first offset, last offset, rows, file), in the order of the log."""
    files = readable_files(lake, table)
    if not files:
        return []
    found: list[tuple[Any, ...]] = connection.execute(
        "SELECT underlying, topic_partition, min(topic_offset), max(topic_offset), count(*), filename "
        f"FROM read_parquet({listed(files)}, filename = true) GROUP BY ALL ORDER BY underlying, 3, 4, filename"
    ).fetchall()
    return found


def _require_one_partition(log: UnderlyingLog, partition: int, lake: Lake) -> None:
    if partition != log.partition:
        raise LakeError(
            f"{log.underlying} lies in partitions {log.partition} and {partition} of {lake.path}: it has no one order.",
            "The number of partitions was changed under a running log; backfill the recordings instead.",
        )
