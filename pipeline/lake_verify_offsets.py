"""Is every message of the log in the lake? What can be said of it, and no more.

The raw tables share the topic ``md.events``: each message is in one of them, or was refused and is a dead letter. So
their offsets together have no hole up to where the newest commit began; what lies beyond is being written, or is read
again when the writer starts. The topics of our own stages have holes:
rows that a worker sent twice are stored once, and transactions take offsets of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Final

import duckdb
from deltalake import DeltaTable

from pipeline import topics
from pipeline.lake import Lake, application_id
from pipeline.lake_files import data_files
from pipeline.lake_verify_rows import connected
from pipeline.tables import Table

_RAW, _REFUSED = "raw tables", "refused messages"
_EXPLAINED: Final = (_RAW, _REFUSED)

Offsets = Mapping[tuple[str, int], tuple[int, int]]

Problem = tuple[str, str, str]
"""Table or topic, check, detail."""


def completed(lake: Lake, tables: Mapping[str, Table]) -> dict[int, int]:
    """By partition of ``md.events``, the offset before which all raw tables hold everything.

    To be asked before the snapshots are taken that are checked against it.

    Raises:
        LakeUnavailableError: the store failed.
    """
    ends: dict[int, int] = {}
    for table in tables.values():
        if table.topic != topics.EVENTS or not lake.exists(table):
            continue
        snapshot = lake.delta(table)
        for partition in range(1 + max((file.most_partition for file in data_files(snapshot)), default=0)):
            begun = _named(snapshot, f"{topics.EVENTS}/from", partition)
            held = _named(snapshot, topics.EVENTS, partition) or 0
            ends[partition] = max(ends.get(partition, 0), held if begun is None else begun)
    return ends


def _named(snapshot: DeltaTable, topic: str, partition: int) -> int | None:
    version: int | None = snapshot.transaction_version(application_id(topic, partition))
    return version


def check_offsets(
    tables: Mapping[str, Table],
    snapshots: Mapping[str, DeltaTable],
    ends: Mapping[int, int],
    topic_offsets: Offsets | None,
) -> Iterator[Problem]:
    """What is wrong with the offsets.

    Args:
        tables: by name.
        snapshots: of those that are there and readable.
        ends: of :func:`completed`.
        topic_offsets: by (topic, partition), the first and the next offset that the broker holds.
    """
    with tempfile.TemporaryDirectory(prefix="hedgeflow-") as spill, connected(spill) as connection:
        connection.execute("CREATE TABLE seen (source VARCHAR, p INTEGER, o BIGINT)")
        for name, snapshot in snapshots.items():
            _collect(connection, tables[name], snapshot)
        yield from _beyond(connection, tables, snapshots)
        yield from _holes(connection, ends, topic_offsets)
    yield from _ahead(tables, snapshots, topic_offsets)


def _collect(connection: duckdb.DuckDBPyConnection, table: Table, snapshot: DeltaTable) -> None:
    """The offsets that a table holds; a dead letter also explains the one that it was made from."""
    columns = ["topic_partition", "topic_offset"]
    if table.topic == topics.DEAD_LETTER:
        columns += ["source_topic", "source_partition", "source_offset"]
    scanner = snapshot.to_pyarrow_dataset().scanner(columns=columns, batch_readahead=2, fragment_readahead=1)
    connection.register("stored", scanner.to_reader())
    connection.execute("CREATE OR REPLACE TEMP TABLE positions AS SELECT DISTINCT * FROM stored")
    connection.unregister("stored")
    insert = "INSERT INTO seen SELECT DISTINCT ?, topic_partition, topic_offset FROM positions"
    connection.execute(insert, [table.name])
    if table.topic == topics.EVENTS:
        connection.execute(insert, [_RAW])
    if table.topic == topics.DEAD_LETTER:
        refused = "SELECT DISTINCT ?, source_partition, source_offset FROM positions WHERE source_topic = ?"
        connection.execute(f"INSERT INTO seen {refused}", [_REFUSED, topics.EVENTS])


def _beyond(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Table], snapshots: Mapping[str, DeltaTable]
) -> Iterator[Problem]:
    """Rows beyond what the table's own commits say it holds."""
    query = "SELECT p, max(o) FROM seen WHERE source = ? GROUP BY p ORDER BY p"
    for name, snapshot in snapshots.items():
        topic = tables[name].topic
        found = connection.execute(query, [name]).fetchall()
        claimed = {partition: _named(snapshot, topic, partition) or 0 for partition, _ in found}
        for partition, last in found if any(claimed.values()) else ():
            if last >= claimed[partition]:
                detail = f"holds offset {last} of {topic}/{partition}, its commits end before {claimed[partition]}"
                yield name, "offsets", detail


def _holes(
    connection: duckdb.DuckDBPyConnection, ends: Mapping[int, int], topic_offsets: Offsets | None
) -> Iterator[Problem]:
    """Messages of ``md.events`` that are neither in a raw table nor a dead letter."""
    for partition, end in ends.items():
        first = connection.execute("SELECT min(o) FROM seen WHERE source IN (?, ?) AND p = ?", [*_EXPLAINED, partition])
        lowest = first.fetchall()[0][0]
        begin = end if lowest is None else lowest
        held = (topic_offsets or {}).get((topics.EVENTS, partition))
        # Without the broker nobody knows what the log had thrown away before the lake began.
        if held is not None and held[0] < end:
            begin = min(begin, held[0])
        for low, high in _gaps(connection, partition, begin, end):
            detail = f"{high - low} messages of partition {partition}, offsets {low} to {high - 1}, are in no table"
            yield topics.EVENTS, "offsets", f"{detail} and no dead letter"


def _gaps(connection: duckdb.DuckDBPyConnection, partition: int, begin: int, end: int) -> list[tuple[int, int]]:
    """Runs of offsets in [begin, end) that no source has."""
    found: list[tuple[int, int]] = connection.execute(
        "WITH known AS (SELECT ? - 1 AS o UNION SELECT o FROM seen WHERE source IN (?, ?) AND p = ? "
        "AND o >= ? AND o < ? UNION SELECT ?), steps AS (SELECT o, lead(o) OVER (ORDER BY o) AS following FROM known) "
        "SELECT o + 1, following FROM steps WHERE following > o + 1 ORDER BY 1",
        [begin, *_EXPLAINED, partition, begin, end, end],
    ).fetchall()
    return found


def _ahead(
    tables: Mapping[str, Table], snapshots: Mapping[str, DeltaTable], topic_offsets: Offsets | None
) -> Iterator[Problem]:
    """A lake that knows more than the broker was written from another log."""
    for (topic, partition), (_, end) in (topic_offsets or {}).items():
        for name, snapshot in snapshots.items():
            known = _named(snapshot, topic, partition) or 0 if tables[name].topic == topic else 0
            if known > end:
                yield name, "log", f"ends before offset {known} of {topic}/{partition}, the broker's before {end}"
