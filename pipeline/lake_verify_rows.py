"""Checks of a table's rows: their date, their positions in the log, and the order of each key."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Final

import duckdb
from deltalake import DeltaTable

from pipeline.lake import application_id
from pipeline.tables import Table

MEMORY_LIMIT: Final = "512MB"
"""Of DuckDB; beyond it goes to disk."""

Problem = tuple[str, str]


def check_rows(table: Table, snapshot: DeltaTable) -> Iterator[Problem]:
    """(check, detail) of what is wrong with the rows.

    Positions are asked for only where the table was written from a log: a backfill has none.
    """
    with tempfile.TemporaryDirectory(prefix="hedgeflow-") as spill, connected(spill) as connection:
        columns = list(dict.fromkeys((*table.key, table.time, "topic_partition", "topic_offset", "topic_row", "date")))
        partitions = _partitions(connection, snapshot, columns)
        yield from _dates(connection, snapshot, columns, table)
        if any(snapshot.transaction_version(application_id(table.topic, partition)) for partition in partitions):
            yield from _positions(connection, snapshot, columns)
            if table.key:
                yield from _order(connection, snapshot, columns, table)
        elif table.key:
            yield from _keys(connection, snapshot, columns, table)


def connected(spill: str) -> duckdb.DuckDBPyConnection:
    """DuckDB with a bound on its memory, and a folder for what is beyond it."""
    return duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill})


def _ask(
    connection: duckdb.DuckDBPyConnection, snapshot: DeltaTable, columns: list[str], query: str
) -> list[tuple[int, ...]]:
    """The answer to a query over ``stored``, a stream of the snapshot's rows."""
    dataset = snapshot.to_pyarrow_dataset()
    scanner = dataset.scanner(columns=columns, batch_size=65_536, batch_readahead=2, fragment_readahead=1)
    connection.register("stored", scanner.to_reader())
    try:
        found: list[tuple[int, ...]] = connection.execute(query).fetchall()
    finally:
        connection.unregister("stored")
    return found


def _partitions(connection: duckdb.DuckDBPyConnection, snapshot: DeltaTable, columns: list[str]) -> list[int]:
    return [row[0] for row in _ask(connection, snapshot, columns, "SELECT DISTINCT topic_partition FROM stored")]


def _dates(
    connection: duckdb.DuckDBPyConnection, snapshot: DeltaTable, columns: list[str], table: Table
) -> Iterator[Problem]:
    query = (
        "SELECT date, count(*) FROM stored "
        f"WHERE date <> strftime(make_timestamp_ns({table.time}), '%Y-%m-%d') GROUP BY date ORDER BY date"
    )
    for date, rows in _ask(connection, snapshot, columns, query):
        yield "date", f"{rows} rows in date={date} have a {table.time} of another day"


def _positions(connection: duckdb.DuckDBPyConnection, snapshot: DeltaTable, columns: list[str]) -> Iterator[Problem]:
    query = (
        "SELECT topic_partition, count(*), min(topic_offset) FROM (SELECT topic_partition, topic_offset FROM stored "
        "GROUP BY topic_partition, topic_offset, topic_row HAVING count(*) > 1) GROUP BY 1 ORDER BY 1"
    )
    for partition, rows, offset in _ask(connection, snapshot, columns, query):
        yield "duplicate rows", f"{rows} positions of partition {partition} are there twice, from offset {offset} on"


def _order(
    connection: duckdb.DuckDBPyConnection, snapshot: DeltaTable, columns: list[str], table: Table
) -> Iterator[Problem]:
    key = ", ".join(table.key)
    query = (
        f"SELECT {key}, count(*), min({table.time}) FROM (SELECT {key}, {table.time}, lag({table.time}) OVER "
        f"(PARTITION BY {key} ORDER BY topic_partition, topic_offset, topic_row) AS before FROM stored) "
        f"WHERE before >= {table.time} GROUP BY ALL ORDER BY ALL"
    )
    for *name, rows, when in _ask(connection, snapshot, columns, query):
        shown = ", ".join(map(str, name))
        yield "order", f"{rows} rows of {shown} are not beyond the {table.time} before them, the first at {when}"


def _keys(
    connection: duckdb.DuckDBPyConnection, snapshot: DeltaTable, columns: list[str], table: Table
) -> Iterator[Problem]:
    key = ", ".join(table.key)
    query = (
        f"SELECT {key}, count(*), min({table.time}) FROM (SELECT {key}, {table.time} FROM stored "
        "GROUP BY ALL HAVING count(*) > 1) GROUP BY ALL ORDER BY ALL"
    )
    for *name, rows, when in _ask(connection, snapshot, columns, query):
        shown = ", ".join(map(str, name))
        yield "duplicate keys", f"{rows} times of {shown} are there twice, the first at {when}"
