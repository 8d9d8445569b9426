"""Snapshots of the past: by version, or by time."""

from __future__ import annotations

from datetime import UTC, datetime

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipeline.lake_errors import NoSuchVersionError, one_line
from pipeline.lake_location import LakeLocation
from pipeline.lake_log import delta_log

AsOf = int | datetime | None
"""A version of a table, a time, or the newest."""


def travel(snapshot: DeltaTable, as_of: int | datetime, where: LakeLocation) -> None:
    """Bring a snapshot of the table at ``where`` to a version, or to a time (without a zone: UTC).

    Raises:
        NoSuchVersionError: there is none, or it is gone.
    """
    version = _version_at(as_of, where) if isinstance(as_of, datetime) else as_of
    if not 0 <= version <= snapshot.version():
        raise NoSuchVersionError(f"{where} has no version {version}.", f"Its newest is {snapshot.version()}.")
    try:
        snapshot.load_as_version(version)
    except DeltaError as error:
        raise NoSuchVersionError(
            f"Version {version} of {where} is gone: {one_line(error)}.", "Old logs are deleted; name a later one."
        ) from error


def _version_at(when: datetime, where: LakeLocation) -> int:
    # Asked of the log itself: Delta answers with its oldest version when the time lies before it.
    log = delta_log(where)
    version = log.version_at(when if when.tzinfo else when.replace(tzinfo=UTC))
    if version is None:
        oldest = next(iter(log.committed.values()), None)
        raise NoSuchVersionError(f"{where} cannot be read as of {when}.", f"Its log begins at {oldest}.")
    return version
