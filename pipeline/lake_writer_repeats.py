"""What the lake holds already: computed rows whose bar it has, and dead letters that were sent twice.

What is known is what is committed. Between two commits nothing is remembered, so a commit that failed, or rows that
were given up to the next owner, need no undoing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import Lake
from pipeline.tables import Table

MOST_KEYS: Final = 1_000_000
"""Keys that are kept in memory, unless one day has more; older ones are read from the lake again when asked for."""

_NEVER: Final = np.iinfo(np.int64).min


class Repeats(Protocol):
    """Which rows of a table are new."""

    def fresh(self, rows: pa.Table) -> pa.Table:
        """The rows that the table does not have, and that come once among these."""
        ...

    def committed(self, rows: pa.Table) -> None:
        """These rows are in the table now."""
        ...


class LastBars:
    """Drops rows that are not beyond the last time of their key.

    A row at time t can only be a repeat of rows at t or later, and those lie in the partitions of its own date and
    later ones. So only these are read: in a running system the newest day, however long the table is.
    """

    def __init__(self, lake: Lake, table: Table) -> None:
        self._lake = lake
        self._table = table
        self._key = list(table.key)
        self._last: pl.DataFrame | None = None
        self._since = ""

    def fresh(self, rows: pa.Table) -> pa.Table:
        """The rows beyond the last time of their key, in the table and among these rows."""
        if not rows.num_rows:
            return rows
        last, time = self._read(pc.min(rows["date"]).as_py()), self._table.time
        frame = _frame(rows.select([*self._key, time]))
        keep = frame.join(
            last.rename({time: "last"}), on=self._key, how="left", nulls_equal=True, maintain_order="left"
        ).select(
            pl.col(time)
            > pl.max_horizontal(
                pl.col("last").fill_null(_NEVER), pl.col(time).cum_max().shift(1).over(self._key).fill_null(_NEVER)
            )
        )
        kept = keep.to_series()
        return rows if kept.all() else rows.filter(kept.to_arrow())

    def committed(self, rows: pa.Table) -> None:
        """Remember the last times of these rows."""
        if self._last is None or not rows.num_rows:
            return
        time = self._table.time
        self._last = _latest(pl.concat([self._last, _frame(rows.select([*self._key, time]))]), self._key, time)
        if self._last.height > MOST_KEYS:
            self._forget_old_days()

    def _read(self, since: str) -> pl.DataFrame:
        """The last times, known at least from the date ``since`` on."""
        if self._last is None or since < self._since:
            self._last = _last_times(self._lake, self._table, since)
            self._since = since
        return self._last

    def _forget_old_days(self) -> None:
        assert self._last is not None
        day = pl.from_epoch(self._table.time, time_unit="ns").dt.date()
        newest = self._last.select(day.max()).item()
        self._last = self._last.filter(day == newest)
        self._since = max(self._since, str(newest))


def last_times(lake: Lake, table: Table, since: str = "") -> dict[tuple[Any, ...], int]:
    """The last ``time`` of every key that the table holds.

    Args:
        lake: where.
        table: one with a key.
        since: the first date (YYYY-MM-DD) that is read; without it, all are.
    """
    return {tuple(row[:-1]): int(row[-1]) for row in _last_times(lake, table, since).iter_rows()}


def _last_times(lake: Lake, table: Table, since: str) -> pl.DataFrame:
    files = [file for file in lake.files(table) if _date_of(file) >= since]
    columns = [*table.key, table.time]
    if not files:
        return _frame(table.columns.empty_table().select(columns))
    found = pl.scan_parquet(files, hive_partitioning=False, storage_options=lake.path.options).select(columns)
    return _latest(found, list(table.key), table.time)


def _latest(rows: pl.DataFrame | pl.LazyFrame, key: Sequence[str], time: str) -> pl.DataFrame:
    return rows.lazy().group_by(key).agg(pl.col(time).max()).collect(engine="streaming")


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _date_of(file: str) -> str:
    return file.rsplit("/date=", 1)[-1].split("/", 1)[0]
