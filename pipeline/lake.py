"""The lake: one Delta table a kind of row, appended exactly once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError, DeltaProtocolError, SchemaMismatchError, TableNotFoundError

from pipeline.lake_errors import (
    LakeError,
    LakeSchemaError,
    LakeUnavailableError,
    NoSuchVersionError,
    one_line,
    store_errors,
)
from pipeline.lake_location import LakeLocation, Place, local_path
from pipeline.lake_travel import AsOf, travel
from pipeline.tables import TABLES, Table

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

Offsets = Mapping[tuple[str, int], int]

__all__ = [
    "AsOf",
    "Lake",
    "LakeError",
    "LakeSchemaError",
    "LakeUnavailableError",
    "NoSuchVersionError",
    "application_id",
    "dates",
    "one_line",
    "positioned",
    "require_lake",
    "statistics_columns",
]

_COMMIT: Final = "hedgeflow.commit"
_RECENT: Final = 20
"""Commits in which ours is looked for after an error."""

_WRITER: Final = {"compression": "ZSTD"}
_CONFIGURATION: Final = {
    "delta.checkpointInterval": "50",
    # A commit lists the folder of the log: 40,000 old entries, a day of them, make it 15 times slower.
    "delta.logRetentionDuration": "interval 6 hours",
    "delta.enableExpiredLogCleanup": "true",
}
_FILTERED: Final = ("underlying", "instrument", "portfolio", "ts_event", "ts_recv", "ts_known", "ts_available")


class Lake:
    """The Delta tables in one folder, or under one URL.

    Every append carries the log offsets that it covers as Delta application transactions, one a (topic, partition),
    in the same commit and through the handle that read the last one. A second writer therefore fails instead of
    duplicating.

    Args:
        place: a folder, a URL, or ``settings.lake``, which brings its storage options along.
        storage_options: what opens the store of a URL, as deltalake takes it (``AWS_REGION`` ...).
    """

    def __init__(self, place: Place, storage_options: Mapping[str, str] | None = None) -> None:
        self.path = LakeLocation.of(place, storage_options)
        self._handles: dict[str, DeltaTable] = {}
        # By (table, application): reading one from a handle replays the log, which takes milliseconds.
        self._versions: dict[tuple[str, str], int] = {}

    def append(self, table: Table, data: pa.Table, offsets: Offsets) -> None:
        """Append rows and the next offsets that they bring the table to, in one commit.

        An error leaves the handle as it was, so the same call can be made again: it is refused when a commit of
        another writer came between.

        Raises:
            LakeUnavailableError: the store failed or is full; nothing was committed, try again.
            LakeSchemaError: a column has another type than in the table.
            LakeError: another writer has committed these partitions' offsets.
        """
        named = {application_id(*key): version for key, version in sorted(offsets.items())}
        for key in offsets:
            self.version(table, *key)
        ours = uuid.uuid4().hex
        try:
            write_deltalake(
                self._handle(table),
                data.select(table.schema.names).cast(table.schema),
                mode="append",
                # A catalogue with more features than the table has columns adds them; older rows have nulls there.
                schema_mode="merge",
                writer_properties=WriterProperties(**_WRITER),
                commit_properties=CommitProperties(
                    custom_metadata={_COMMIT: ours}, app_transactions=list(starmap(Transaction, named.items()))
                ),
            )
        except (SchemaMismatchError, DeltaProtocolError) as error:
            raise LakeSchemaError(
                f"{self.path / table.name} cannot take these rows: {one_line(error)}.", "Use another lake for them."
            ) from error
        except (DeltaError, OSError) as error:
            self._settle(table, ours, error)
        for name, version in named.items():
            self._versions[table.name, name] = version

    def _settle(self, table: Table, ours: str, error: Exception) -> None:
        """What became of an append that failed: an answer that was lost is no failure."""
        try:
            now = self.delta(table)
        except LakeUnavailableError:
            now = None
        if now is None:
            raise LakeUnavailableError(
                f"{self.path / table.name} cannot be reached: {one_line(error)}.", "Check the store."
            ) from error
        if any(commit.get(_COMMIT) == ours for commit in now.history(_RECENT)):
            # The commit is in the log, and only what came after it (the answer, a checkpoint) was lost.
            self._handles[table.name] = now
            return
        _refuse_other_types(now, table, self.path / table.name, error)
        known = {name: version for (each, name), version in self._versions.items() if each == table.name}
        if any((now.transaction_version(name) or 0) != version for name, version in known.items()):
            raise LakeError(
                f"Another writer committed to {self.path / table.name}.", "Run one lake writer per partition."
            ) from error
        # Nobody moved what we know, so the newest snapshot is as good: a changed setting refuses the old one for ever.
        self._handles[table.name] = now
        raise LakeUnavailableError(
            f"{self.path / table.name} cannot be written: {one_line(error)}.", "Check space and rights."
        ) from error

    def version(self, table: Table, topic: str, partition: int) -> int:
        """The next offset of (topic, partition) that ``table`` lacks.

        Raises:
            LakeUnavailableError: the store failed.
        """
        key = (table.name, application_id(topic, partition))
        if key not in self._versions:
            handle = self._handle(table)
            with store_errors(self.path / table.name):
                self._versions[key] = int(handle.transaction_version(key[1]) or 0)
        return self._versions[key]

    def exists(self, table: Table) -> bool:
        """Whether the table was ever written.

        Raises:
            LakeUnavailableError: the store failed.
        """
        where = self.path / table.name
        with store_errors(where):
            return bool(DeltaTable.is_deltatable(str(where), where.options))

    def delta(self, table: Table, as_of: AsOf = None) -> DeltaTable:
        """One snapshot of the table, which later commits do not change.

        Args:
            table: which.
            as_of: a version of this table, or a time (without a zone: UTC); the newest without.

        Raises:
            LakeUnavailableError: the store failed.
            LakeError: there is no such table, or none of that version or time.
        """
        where = self.path / table.name
        with store_errors(where):
            try:
                snapshot = DeltaTable(str(where), storage_options=where.options)
            except TableNotFoundError:
                raise LakeError(f"There is no table {where}.", "`hedgeflow lake describe` lists them.") from None
            if as_of is not None:
                travel(snapshot, as_of, where)
            return snapshot

    def files(self, table: Table, as_of: AsOf = None) -> list[str]:
        """The Parquet files of one snapshot of the table, as paths or URLs; none if there was no table.

        Raises:
            LakeUnavailableError: the store failed.
        """
        if not self.exists(table):
            return []
        try:
            files = self.delta(table, as_of).file_uris()
            return files if self.path.remote else [local_path(file) for file in files]
        except NoSuchVersionError:
            return []

    def dataset(self, table: Table, as_of: AsOf = None) -> Dataset:
        """One snapshot as a pyarrow dataset, which knows how to reach its store and which files a filter needs.

        Raises:
            LakeUnavailableError: the store failed.
            LakeError: as of :meth:`delta`.
        """
        return self.delta(table, as_of).to_pyarrow_dataset()

    def _handle(self, table: Table) -> DeltaTable:
        if table.name not in self._handles:
            where = self.path / table.name
            with store_errors(where):
                self._handles[table.name] = _opened(table, where)
        return self._handles[table.name]


def _opened(table: Table, where: LakeLocation) -> DeltaTable:
    try:
        return DeltaTable(str(where), storage_options=where.options)
    except TableNotFoundError:
        if not where.remote:
            Path(where).mkdir(parents=True, exist_ok=True)
        return DeltaTable.create(
            str(where),
            schema=table.schema,
            # Two that create it at once: the second takes what the first made.
            mode="ignore",
            partition_by=["date"],
            description=table.doc,
            configuration={
                **_CONFIGURATION,
                "delta.dataSkippingStatsColumns": ",".join(statistics_columns(table)),
            },
            storage_options=where.options,
        )


def statistics_columns(table: Table) -> list[str]:
    """The columns by which queries and readers choose files; statistics of a hundred floats would slow each commit."""
    wanted = {*_FILTERED, *table.key, table.time, "topic_partition", "topic_offset"}
    return [name for name in table.schema.names if name in wanted]


def _refuse_other_types(snapshot: DeltaTable, table: Table, where: LakeLocation, error: Exception) -> None:
    stored = pa.schema(snapshot.schema().to_arrow())
    for field in table.schema:
        if field.name in stored.names and stored.field(field.name).type != field.type:
            types = f"{stored.field(field.name).type}, not {field.type}"
            raise LakeSchemaError(
                f"{where} holds {field.name} as {types}.", "Use another lake for these rows."
            ) from error


def require_lake(place: Place, storage_options: Mapping[str, str] | None = None) -> Lake:
    """The lake at ``place``.

    Raises:
        LakeUnavailableError: the store failed.
        LakeError: there is none.
    """
    lake = Lake(place, storage_options)
    if not any(lake.exists(table) for table in TABLES.values()):
        raise LakeError(f"There is no lake at {lake.path}.", "`hedgeflow demo` makes one; or check --lake.")
    return lake


def application_id(topic: str, partition: int) -> str:
    """Delta's name for our position in a partition of the log."""
    return f"{topic}/{partition}"


def positioned(
    table: Table, columns: Mapping[str, Any], partition: int, offset: int, rows: Sequence[int] | np.ndarray
) -> pa.Table:
    """Rows of one message as the table stores them: with position and date."""
    count = len(rows)
    arrays = {
        **columns,
        "topic_partition": pa.array(np.full(count, partition, np.int32)),
        "topic_offset": pa.array(np.full(count, offset, np.int64)),
        "topic_row": pa.array(np.asarray(rows, dtype=np.int32)),
    }
    arrays["date"] = dates(arrays[table.time])
    return pa.table({name: arrays[name] for name in table.schema.names})


def dates(nanoseconds: Any) -> pa.Array:
    """The UTC date of each time, as the partition column wants it."""
    days = np.asarray(nanoseconds).astype("datetime64[ns]").astype("datetime64[D]")
    if len(days) and (days == days[0]).all():
        return pa.array([str(days[0])] * len(days), pa.utf8())
    return pa.array(days.astype(str), pa.utf8())
