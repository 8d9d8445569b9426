"""DuckDB over the lake: a view per table, each over one snapshot of its Delta log."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import Lake, require_lake
from pipeline.tables import TABLES, Table

_SQL_TYPES: Final = {
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "string": "VARCHAR",
    "binary": "BLOB",
}


def open_lake(path: str | Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with a view per table of the lake at ``path``.

    The views stand on the Delta snapshots of this moment; open again to see later rows. A table without rows is an
    empty view with its columns, so that a query never fails for lack of data.

    Raises:
        LakeError: there is no lake.
    """
    lake = require_lake(path)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table in TABLES.values():
        connection.execute(f"CREATE VIEW {table.name} AS {_select(lake, table)}")
        comment = table.doc.replace("'", "''")
        connection.execute(f"COMMENT ON VIEW {table.name} IS '{comment}'")
    return connection


def _select(lake: Lake, table: Table) -> str:
    files = lake.files(table)
    if files:
        listed = ", ".join("'" + local_path(file).replace("'", "''") + "'" for file in files)
        return f"SELECT * FROM read_parquet([{listed}], hive_partitioning = true, union_by_name = true)"
    columns = ", ".join(f"NULL::{_sql_type(field.type)} AS {field.name}" for field in table.schema)
    return f"SELECT {columns} WHERE false"


def local_path(uri: str) -> str:
    """The path of a file URI."""
    return uri.removeprefix("file://")


def _sql_type(type_: pa.DataType) -> str:
    return _SQL_TYPES[str(type_)]
