"""Vacuum: delete the files that no snapshot of the last days needs."""

from __future__ import annotations

from typing import Final

from deltalake.exceptions import DeltaError

from features.errors import ConfigError
from pipeline.lake import Lake, LakeUnavailableError, one_line
from pipeline.tables import Table

RETENTION_HOURS: Final = 168

SHORTEST_HOURS: Final = 24
"""A backfill or a training that began this long ago may still read the files of its snapshot."""


def vacuum(
    lake: Lake, table: Table, retention_hours: int = RETENTION_HOURS, *, delete: bool = False, force: bool = False
) -> list[str]:
    """The files that are in no snapshot younger than ``retention_hours``; with ``delete`` they are gone afterwards.

    These are files that a compaction replaced, and files of commits that never came about. Entries of the log that
    are older than its retention go, too.

    Args:
        lake: holds the table.
        table: to clean; one that was never written is left alone.
        retention_hours: how long a reader may hold a snapshot.
        delete: whether to delete them.
        force: allow a retention below ``SHORTEST_HOURS``: only when nothing reads or writes the lake.

    Raises:
        ConfigError: the retention is too short.
        LakeUnavailableError: the store failed.
    """
    if retention_hours < SHORTEST_HOURS and not force:
        raise ConfigError(
            f"Readers may still need files that were replaced {retention_hours} hours ago.",
            f"Keep {SHORTEST_HOURS} hours or more; --force when nothing reads or writes this lake.",
        )
    if not lake.exists(table):
        return []
    snapshot = lake.delta(table)
    try:
        # Full: files that no commit ever named are found by listing, not from the log.
        files = snapshot.vacuum(
            retention_hours=retention_hours, dry_run=not delete, enforce_retention_duration=False, full=True
        )
        if delete:
            snapshot.cleanup_metadata()
    except (DeltaError, OSError) as error:
        raise LakeUnavailableError(
            f"{lake.path / table.name} cannot be cleaned: {one_line(error)}.", "Check the store and its rights."
        ) from error
    return sorted(files)
