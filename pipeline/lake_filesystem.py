"""The files of a lake as DuckDB reads them: from a disk by itself, from an object store through Delta Lake's client."""

from __future__ import annotations

from typing import Any, Final

import duckdb
import pyarrow.fs
from deltalake.fs import DeltaStorageHandler
from fsspec.implementations.arrow import ArrowFSWrapper

from pipeline.lake import Lake
from pipeline.tables import Table

SCHEME: Final = "lake"
"""Of the names that DuckDB knows a stored file by. Its own ``s3://`` would want an extension, and the secrets anew."""


class _StoredFiles(ArrowFSWrapper):
    """The files below a lake's URL."""

    protocol = SCHEME
    cachable = False
    """Two lakes with other secrets are not one."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{SCHEME}://")


def let_read(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Let ``connection`` read what :func:`readable_files` names."""
    if lake.path.remote:
        handler = DeltaStorageHandler(str(lake.path), lake.path.options)
        files: Any = _StoredFiles(pyarrow.fs.PyFileSystem(handler))
        connection.register_filesystem(files)


def readable_files(lake: Lake, table: Table) -> list[str]:
    """The Parquet files of the newest snapshot of a table, for ``read_parquet``; none if there was no table.

    Raises:
        LakeUnavailableError: the store failed.
    """
    files = lake.files(table)
    if not lake.path.remote:
        return files
    return [file.replace(str(lake.path), f"{SCHEME}:/", 1) for file in files]
