"""The folder of a table's Delta log: which versions it still holds, and since when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from pyarrow.fs import FileSelector

from pipeline.lake_files import filesystem_of
from pipeline.lake_location import LakeLocation


class DeltaLog(NamedTuple):
    """What the folder holds.

    Args:
        committed: when each version was committed, oldest first.
        checkpoint: the version of the newest checkpoint; -1 without one.
        entries: files in the folder.
    """

    committed: dict[int, datetime]
    checkpoint: int
    entries: int

    def version_at(self, when: datetime) -> int | None:
        """The newest version that was there at ``when`` (with a zone), as far back as the log goes."""
        return max((version for version, since in self.committed.items() if since <= when), default=None)


def delta_log(where: LakeLocation) -> DeltaLog:
    """List the log of the table at ``where``: one request, however long it is.

    Raises:
        OSError: the store failed.
    """
    infos = filesystem_of(where).get_file_info(FileSelector("_delta_log"))
    committed, checkpoint = {}, -1
    for info in infos:
        version, _, kind = info.base_name.partition(".")
        if not version.isdigit():
            continue
        if kind == "json":
            committed[int(version)] = datetime.fromtimestamp(info.mtime_ns / 1e9, UTC)
        elif kind.startswith("checkpoint"):
            checkpoint = max(checkpoint, int(version))
    return DeltaLog(dict(sorted(committed.items())), checkpoint, len(infos))
