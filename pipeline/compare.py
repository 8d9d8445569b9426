"""Are two lakes equal to the bit? What "the same numbers live and backfilled" is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from pipeline.lake import Lake
from pipeline.tables import DATE, POSITION, TABLES, Table

_ELSEWHERE: Final = {field.name for field in POSITION} | {DATE.name}
"""Columns that say where a row lies, not what it is."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows on each side, and how many of them have no equal on the other."""

    table: str
    left: int
    right: int
    differing: int


def compare(left: Lake, right: Lake, name: str, until: int | None = None, since: int | None = None) -> Comparison:
    """Compare a computed table of two lakes row by row: floats by their bits, null only equal to null.

    Args:
        until: only rows whose time is not beyond it (nanoseconds).
        since: only rows whose time is beyond it.
    """
    table = TABLES[name]
    a, b = _bits(left, table, until, since), _bits(right, table, until, since)
    # Rows as a multiset: a repeated row must be repeated on the other side, too.
    counted_a, counted_b = a.group_by(a.columns).len("here"), b.group_by(b.columns).len("there")
    both = counted_a.join(counted_b, on=a.columns, how="inner", nulls_equal=True)
    same = int(both.select(pl.min_horizontal("here", "there").sum()).item() or 0)
    return Comparison(name, a.height, b.height, max(a.height, b.height) - same)


def _bits(lake: Lake, table: Table, until: int | None, since: int | None) -> pl.DataFrame:
    files = lake.files(table)
    if not files:
        return pl.DataFrame(schema=dict.fromkeys([*table.key, table.time], pl.Int64))
    frame = pl.read_parquet(files, hive_partitioning=True, storage_options=lake.path.options)
    if until is not None:
        frame = frame.filter(pl.col(table.time) <= until)
    if since is not None:
        frame = frame.filter(pl.col(table.time) > since)
    frame = frame.select(name for name in table.schema.names if name not in _ELSEWHERE)
    return frame.with_columns(_as_integers(frame[name]) for name in frame.columns if frame[name].dtype == pl.Float64)


def _as_integers(column: pl.Series) -> pl.Series:
    bits: np.ndarray[Any, Any] = column.fill_null(0.0).to_numpy().view(np.int64)
    unknown = column.is_null()
    return (
        pl.Series(column.name, bits)
        .to_frame()
        .select(pl.when(pl.lit(unknown)).then(None).otherwise(pl.col(column.name)).alias(column.name))[column.name]
    )
