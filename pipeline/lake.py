"""The lake: one Delta table a kind of row, appended exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from features.errors import HedgeflowError
from pipeline.tables import TABLES, Table

Offsets = Mapping[tuple[str, int], int]

_WRITER: Final = {"compression": "ZSTD"}
_CONFIGURATION: Final = {"delta.checkpointInterval": "50"}


class LakeError(HedgeflowError):
    """The lake is missing, damaged, or ahead of the log."""

    exit_code = 7


class Lake:
    """The Delta tables under one folder.

    Every append carries the log offsets that it covers as Delta application transactions, one a (topic, partition),
    in the same commit and through the handle that read the last one. A second writer therefore fails instead of
    duplicating.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handles: dict[str, DeltaTable] = {}

    def append(self, table: Table, data: pa.Table, offsets: Offsets) -> None:
        """Append rows and the next offsets that they bring the table to, in one commit.

        Raises:
            LakeError: another writer has committed the same offsets, or the folder cannot be written.
        """
        transactions = [Transaction(application_id(*key), version) for key, version in sorted(offsets.items())]
        try:
            write_deltalake(
                self._handle(table),
                data.select(table.schema.names).cast(table.schema),
                mode="append",
                # A catalogue with more features than the table has columns adds them; older rows have nulls there.
                schema_mode="merge",
                writer_properties=WriterProperties(**_WRITER),
                commit_properties=CommitProperties(app_transactions=transactions),
            )
        except CommitFailedError as error:
            raise LakeError(
                f"Another writer committed to {self.path / table.name}.", "Run one lake writer per partition."
            ) from error
        except (DeltaError, OSError) as error:
            raise LakeError(
                f"{self.path / table.name} cannot be written: {error}.", "Check space and rights."
            ) from error

    def version(self, table: Table, topic: str, partition: int) -> int:
        """The next offset of (topic, partition) that ``table`` lacks."""
        version = self._handle(table).transaction_version(application_id(topic, partition))
        return 0 if version is None else int(version)

    def files(self, table: Table) -> list[str]:
        """The Parquet files of the table's newest version; none if there is no table."""
        if not DeltaTable.is_deltatable(str(self.path / table.name)):
            return []
        return list(DeltaTable(self.path / table.name).file_uris())

    def _handle(self, table: Table) -> DeltaTable:
        if table.name not in self._handles:
            where = self.path / table.name
            try:
                self._handles[table.name] = DeltaTable(where)
            except TableNotFoundError:
                where.mkdir(parents=True, exist_ok=True)
                self._handles[table.name] = DeltaTable.create(
                    where,
                    schema=table.schema,
                    partition_by=["date"],
                    description=table.doc,
                    configuration=_CONFIGURATION,
                )
        return self._handles[table.name]


def require_lake(path: Path) -> Lake:
    """The lake at ``path``.

    Raises:
        LakeError: there is none.
    """
    if not any(DeltaTable.is_deltatable(str(path / name)) for name in TABLES):
        raise LakeError(f"There is no lake at {path}.", "`hedgeflow demo` makes one; or check --lake.")
    return Lake(path)


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
