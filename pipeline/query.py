"""DuckDB over the lake: a view per table, each over one snapshot of its Delta log, and the macros of a researcher."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import duckdb
from deltalake import DeltaTable, Schema

from features.catalog import STANDARD, Catalogue
from pipeline.lake import Lake, require_lake
from pipeline.lake_location import Place
from pipeline.query_comments import column_comments
from pipeline.query_macros import create_macros
from pipeline.query_time import AsOf, moment, versions
from pipeline.query_views import (
    FILES,
    columns_of,
    comment_view,
    create_view,
    dataset_of,
    fill_view,
    quoted,
    select_files,
)
from pipeline.tables import Table, tables_of

__all__ = ["AsOf", "open_lake"]

_OPENERS: Final = 4
"""Tables that are opened at once: reading a log is waiting, most of all for an object store."""

# Files of a Delta table never change, so what was read of one once is still true.
_SETTINGS: Final = """
SET TimeZone = 'UTC';
SET parquet_metadata_cache = true;
SET validate_external_file_cache = 'NO_VALIDATION';
"""


def open_lake(
    place: Place,
    *,
    as_of: AsOf | None = None,
    storage_options: Mapping[str, str] | None = None,
    catalogue: Catalogue = STANDARD,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with a view per table of the lake at ``place``.

    The views stand on the Delta snapshots of this moment, or of ``as_of``; open again to see later rows. A table
    without rows is an empty view with its columns, so that a query never fails for lack of data. Views and columns
    carry what they mean, and their units, as comments (``duckdb_columns()``); ``docs/queries.md`` has the macros.
    Of a lake at a URL the views belong to this connection: open the lake again instead of taking a cursor.

    Args:
        place: a folder, a URL such as ``s3://bucket/lake``, or ``settings.lake``, which brings its options along.
        as_of: a commit time for all tables (ISO 8601 text, ns since 1970 UTC or a datetime), or versions by table.
        storage_options: what opens the store of a URL, as deltalake takes it (``AWS_REGION`` ...).
        catalogue: says what features mean; a user's own are told by ``catalogue_of(settings)``. The columns are
            those of the lake, whatever it says.

    Raises:
        LakeError: there is no lake, or no such snapshot.
        BadInputError: ``as_of`` names no time or an unknown table.
    """
    lake = require_lake(place, storage_options)
    tables = tables_of(catalogue)
    at = _when_by_table(tables, as_of)
    with ThreadPoolExecutor(_OPENERS) as pool:
        snapshots = dict(
            zip(tables, pool.map(lambda table: _snapshot(lake, table, at[table.name]), tables.values()), strict=True)
        )
    connection = duckdb.connect()
    connection.execute(f"{_SETTINGS} CREATE SCHEMA {FILES};")
    for name, table in tables.items():
        snapshot = snapshots[name]
        columns = columns_of(Schema.from_arrow(table.schema) if snapshot is None else snapshot.schema())
        create_view(connection, name, columns)
        comment_view(connection, name, table.doc, columns, column_comments(name, catalogue))
    create_macros(connection)
    for name, snapshot in snapshots.items():
        if snapshot is not None and snapshot.file_uris():
            _fill(connection, name, snapshot, lake.path.remote)
    return connection


def _when_by_table(tables: Mapping[str, Table], as_of: AsOf | None) -> Mapping[str, int | datetime | None]:
    if as_of is None or isinstance(as_of, Mapping):
        given = versions(as_of or {})
        return {name: given.get(name) for name in tables}
    return dict.fromkeys(tables, moment(as_of))


def _snapshot(lake: Lake, table: Table, at: int | datetime | None) -> DeltaTable | None:
    """``None``: there is no such table, or there was none yet."""
    if not lake.exists(table):
        return None
    newest = lake.delta(table)
    if at is None:
        return newest
    created = datetime.fromtimestamp(newest.metadata().created_time / 1_000, UTC)
    if isinstance(at, datetime) and created > at:
        return None
    return lake.delta(table, at)


def _fill(connection: duckdb.DuckDBPyConnection, name: str, snapshot: DeltaTable, remote: bool) -> None:
    if not remote:
        fill_view(connection, name, select_files(snapshot))
        return
    connection.register(f"{name}_files", dataset_of(snapshot))
    columns = ", ".join(map(quoted, columns_of(snapshot.schema())))
    fill_view(connection, name, f"SELECT {columns} FROM {name}_files")
