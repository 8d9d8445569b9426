"""The files of a table, as one snapshot of its log lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.fs
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler

from pipeline.lake_location import LakeLocation
from pipeline.tables import Table

MEBI: Final = 1 << 20

TARGET_BYTES: Final = 64 * MEBI
"""Of a compacted file: a backfill sorts one file a table and partition at a time."""

_SMALL: Final = 0.75
"""A file below this share of the target is worth merging; those that a compaction fills lie above."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a table.

    Args:
        path: relative to the table.
        date: its partition.
        size: bytes.
        rows: as the log counts them.
        written_ms: when its rows were committed; a compacted file keeps that of its last rows.
        most_partition: the largest partition of the log among its rows.
    """

    path: str
    date: str
    size: int
    rows: int
    written_ms: int
    most_partition: int


def data_files(snapshot: DeltaTable) -> list[DataFile]:
    """The files of a snapshot by date, within a date in the order in which their rows were committed."""
    actions = pa.table(snapshot.get_add_actions(flatten=True))
    if not actions.num_rows:
        return []
    files = [
        DataFile(
            path=action["path"],
            date=action["partition.date"],
            size=action["size_bytes"],
            rows=action.get("num_records") or 0,
            written_ms=action["modification_time"],
            most_partition=action.get("max.topic_partition") or 0,
        )
        for action in actions.to_pylist()
    ]
    return sorted(files, key=lambda file: (file.date, file.written_ms, file.path))


def small(file: DataFile, target_bytes: int) -> bool:
    """Whether compaction may merge it with its neighbours."""
    return file.size < _SMALL * target_bytes


def filesystem_of(where: LakeLocation) -> pyarrow.fs.FileSystem:
    """The files below a table's place, by their relative paths."""
    if where.remote:
        return pyarrow.fs.PyFileSystem(DeltaStorageHandler(str(where), where.options))
    return pyarrow.fs.SubTreeFileSystem(str(where), pyarrow.fs.LocalFileSystem())


def log_order(table: Table) -> tuple[str, ...]:
    """The columns that a compacted file is sorted by.

    Raw rows and records stay in the order of the log, which a backfill reads file by file; computed rows lie by key
    and time, as queries ask for them.
    """
    position = ("topic_partition", "topic_offset", "topic_row")
    return (*table.key, table.time, *position) if table.key else position
