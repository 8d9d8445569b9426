"""Compaction: the small files that commits leave become few large ones, beside a running writer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from pipeline.lake import Lake, LakeError, LakeUnavailableError, one_line
from pipeline.lake_files import TARGET_BYTES, DataFile, data_files
from pipeline.lake_plan import Bin, plan
from pipeline.lake_rewrite import rewritten
from pipeline.tables import Table

APPLICATION: Final = "hedgeflow.compaction"
"""Two compactions at once would keep both copies of the rows: Delta refuses the second one's number."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did with one table: files and bytes that it read, and that it wrote instead."""

    table: str
    commits: int = 0
    rows: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    def with_bin(self, files: Bin, added: list[AddAction]) -> Compacted:
        """And one commit more."""
        return Compacted(
            self.table,
            self.commits + 1,
            self.rows + sum(file.rows for file in files),
            self.files_before + len(files),
            self.files_after + len(added),
            self.bytes_before + sum(file.size for file in files),
            self.bytes_after + sum(action.size for action in added),
        )


def compact(
    lake: Lake, table: Table, target_bytes: int = TARGET_BYTES, step: Callable[[Compacted], None] = lambda done: None
) -> Compacted:
    """Merge small files of each date, until there is nothing left to merge.

    Each bin is one commit that removes the old files and adds the new ones, so a reader sees the one or the other,
    and a compaction that is killed leaves files that no snapshot names (vacuum takes them). Appends go on meanwhile.

    Args:
        lake: holds the table.
        table: to compact; one that was never written is left alone.
        target_bytes: size of a new file.
        step: told after each commit.

    Raises:
        LakeUnavailableError: the store failed.
        LakeError: another compaction runs, or a file does not hold what the log says.
    """
    done = Compacted(table.name)
    if not lake.exists(table):
        return done
    # Ends: of a bin's small files at most one is small afterwards.
    while True:
        snapshot = lake.delta(table)
        bins = plan(data_files(snapshot), target_bytes)
        if not bins:
            return done
        added = _merge(lake, table, snapshot, bins[0], target_bytes)
        done = done.with_bin(bins[0], added)
        step(done)


def _merge(lake: Lake, table: Table, snapshot: DeltaTable, files: Bin, target_bytes: int) -> list[AddAction]:
    where = lake.path / table.name
    turn = int(snapshot.transaction_version(APPLICATION) or 0) + 1
    try:
        added = rewritten(table, snapshot, where, files, target_bytes)
    except (DeltaError, OSError) as error:
        raise LakeUnavailableError(
            f"{where} cannot be compacted: {one_line(error)}.", "`hedgeflow lake verify` names files that are damaged."
        ) from error
    _require_all_rows(added, files, where.url)
    try:
        snapshot.create_write_transaction(
            [*added, *_removals(files)],
            mode="append",
            schema=snapshot.schema(),
            partition_by=["date"],
            commit_properties=CommitProperties(app_transactions=[Transaction(APPLICATION, turn)]),
        )
    except (DeltaError, OSError) as error:
        _settle(lake, table, added, turn, error)
    return added


def _require_all_rows(added: list[AddAction], files: Bin, where: str) -> None:
    written = sum(msgspec.json.decode(action.stats)["numRecords"] for action in added)
    expected = sum(file.rows for file in files)
    if written != expected:
        raise LakeError(
            f"{len(files)} files of {where} hold {written} rows, their log says {expected}.",
            "Nothing was changed. `hedgeflow lake verify` names the damaged ones.",
        )


def _removals(files: tuple[DataFile, ...]) -> list[RemoveAction]:
    now_ms = int(time.time() * 1_000)
    return [RemoveAction(file.path, False, now_ms, file.size, {"date": file.date}) for file in files]


def _settle(lake: Lake, table: Table, added: list[AddAction], turn: int, error: Exception) -> None:
    """What became of a commit that failed: only its answer may have been lost."""
    now = lake.delta(table)
    paths = {file.path for file in data_files(now)}
    if all(action.path in paths for action in added):
        return
    where = lake.path / table.name
    if (now.transaction_version(APPLICATION) or 0) >= turn:
        raise LakeError(
            f"Another compaction of {where} was faster.", "Nothing was changed; run one at a time."
        ) from error
    raise LakeUnavailableError(f"{where} cannot be written: {one_line(error)}.", "Check space and rights.") from error
