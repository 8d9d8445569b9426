"""A DuckDB view over one Delta snapshot: its columns from the Delta schema, its rows from the snapshot's files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from pipeline.lake_location import local_path

FILES: Final = "files"
"""The schema that holds the views with the file lists. A view of ``main`` stands on each, so that a comment, which
copies its view, does not copy a thousand paths."""

_DATE: Final = "date"
_PATH_DATE: Final = "CAST(regexp_extract(filename, 'date=([^/]+)', 1) AS DATE)"

_SQL_TYPES: Final = {
    "byte": "TINYINT",
    "short": "SMALLINT",
    "integer": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
}


def columns_of(schema: Any) -> dict[str, str]:
    """SQL types of the columns of a Delta schema; the date, which Delta keeps as text, is a ``DATE``."""
    types = {field.name: _SQL_TYPES[field.type.type] for field in schema.fields}
    return types | ({_DATE: "DATE"} if _DATE in types else {})


def select_files(snapshot: DeltaTable) -> str:
    """The rows of the local files of a snapshot; a column that an older file lacks is null there.

    The columns are told to DuckDB, which else would open every file to find them; and the date comes from the path,
    so that a condition on it leaves files unread.
    """
    columns = columns_of(snapshot.schema())
    stored = {name: type_ for name, type_ in columns.items() if name != _DATE}
    fields = ", ".join(
        f"{literal(name)}: {{name: {literal(name)}, type: '{type_}', default_value: NULL}}"
        for name, type_ in stored.items()
    )
    names = ", ".join(f"{_PATH_DATE} AS {_DATE}" if name == _DATE else quoted(name) for name in columns)
    files = ", ".join(literal(local_path(uri)) for uri in snapshot.file_uris())
    return f"SELECT {names} FROM read_parquet([{files}], schema = MAP {{{fields}}})"


def dataset_of(snapshot: DeltaTable) -> Any:
    """The same rows of a snapshot in an object store: pyarrow knows how to reach it and which files a filter needs."""
    stored = snapshot.to_pyarrow_dataset().schema
    typed = [pa.field(_DATE, pa.date32()) if field.name == _DATE else field for field in stored]
    return snapshot.to_pyarrow_dataset(schema=pa.schema(typed))


def create_view(connection: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str]) -> None:
    """The view ``name`` with these columns, and no rows yet.

    The rows come last (:func:`fill_view`): whatever names the view before, a comment or a macro, would otherwise read
    its thousand paths.
    """
    nothing = ", ".join(f"NULL::{type_} AS {quoted(each)}" for each, type_ in columns.items())
    connection.execute(f"CREATE VIEW {FILES}.{name} AS SELECT {nothing} WHERE false")
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {FILES}.{name}")


def fill_view(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    """The rows of the view ``name``: what ``select`` gives, with the columns that it was created with."""
    connection.execute(f"CREATE OR REPLACE VIEW {FILES}.{name} AS {select}")


def comment_view(
    connection: duckdb.DuckDBPyConnection, name: str, doc: str, columns: Iterable[str], docs: Mapping[str, str]
) -> None:
    """What the view and its columns mean, where that is known."""
    said = [f"COMMENT ON VIEW {name} IS {literal(doc)}"]
    said += [f"COMMENT ON COLUMN {name}.{quoted(each)} IS {literal(docs[each])}" for each in columns if each in docs]
    connection.execute("; ".join(said))


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
