"""What lies in a table of the lake, and what maintenance would do with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from pipeline.lake import Lake, application_id
from pipeline.lake_files import TARGET_BYTES, data_files, small
from pipeline.lake_log import delta_log
from pipeline.lake_plan import plan
from pipeline.tables import Table


class TableState(msgspec.Struct):
    """One table, as of its newest commit.

    Args:
        table: its name.
        rows: all.
        files: of the snapshot.
        small_files: of these, the ones that compaction may merge.
        bytes: of all files.
        dates: the first and the last, empty without rows.
        version: of the Delta log.
        committed: when the newest commit was made (ISO 8601, UTC).
        offsets: by ``topic/partition``, the next offset that the table lacks; none in a lake that was backfilled.
        commits_since_checkpoint: what a reader reads one by one.
        log_files: entries in the folder of the log, which each commit lists.
        compaction: (files, commits) that ``lake compact`` would merge, and make.
    """

    table: str
    rows: int
    files: int
    small_files: int
    bytes: int
    dates: tuple[str, ...]
    version: int
    committed: str
    offsets: dict[str, int]
    commits_since_checkpoint: int
    log_files: int
    compaction: tuple[int, int]


def describe(lake: Lake, tables: Mapping[str, Table], target_bytes: int = TARGET_BYTES) -> list[TableState]:
    """Every table that was ever written.

    Raises:
        LakeUnavailableError: the store failed.
    """
    return [_state(lake, table, target_bytes) for table in tables.values() if lake.exists(table)]


def _state(lake: Lake, table: Table, target_bytes: int) -> TableState:
    snapshot = lake.delta(table)
    files = data_files(snapshot)
    bins = plan(files, target_bytes)
    dates = sorted({file.date for file in files})
    log = delta_log(lake.path / table.name)
    partitions = range(1 + max((file.most_partition for file in files), default=0))
    offsets = {application_id(table.topic, p): lake.version(table, table.topic, p) for p in partitions}
    return TableState(
        table=table.name,
        rows=sum(file.rows for file in files),
        files=len(files),
        small_files=sum(small(file, target_bytes) for file in files),
        bytes=sum(file.size for file in files),
        dates=tuple(dict.fromkeys((dates[0], dates[-1]))) if dates else (),
        version=snapshot.version(),
        committed=_iso(snapshot.history(1)[0]["timestamp"]),
        offsets={name: offset for name, offset in offsets.items() if offset},
        commits_since_checkpoint=snapshot.version() - log.checkpoint,
        log_files=log.entries,
        compaction=(sum(map(len, bins)), len(bins)),
    )


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).isoformat(timespec="seconds")
