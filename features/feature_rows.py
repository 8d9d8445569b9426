"""Kernel outputs as rows of the catalogue's schema: NaN becomes null, and it does so only here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from features import bar_kernels as k
from features.catalog import Catalogue
from features.row_form import RowForm, row_form

Array = np.ndarray[Any, Any]

FORM_ROWS: Final = 16

_FLAGS: Final = {"book_valid": k.I_VALID, "book_crossed": k.I_CROSSED}
_NUMBERS: Final = {
    "bar_ts": k.I_BAR_TS,
    "ts_known": k.I_TS_KNOWN,
    "late_rows": k.I_LATE,
    "lost_rows": k.I_LOST,
    "corrected_rows": k.I_CORRECTED,
}


class Room(NamedTuple):
    """Room for feature rows: integers (rows, INTEGERS), floats (rows, columns)."""

    integers: Array
    floats: Array


def room_for(rows: int, columns: int) -> Room:
    """Room for at most ``rows`` rows."""
    return Room(np.empty((rows, k.INTEGERS), dtype=np.int64), np.empty((rows, columns)))


def feature_rows(
    catalogue: Catalogue, underlying: str, version: str, instruments: Sequence[str], names: Sequence[str], room: Room
) -> pa.RecordBatch:
    """Rows of ``catalogue.schema``.

    A bar closes for a few instruments at a time, and there are about a hundred columns: up to ``FORM_ROWS`` rows are
    written into a :class:`features.row_form.RowForm` of these instruments, which is kept.

    Args:
        catalogue: whose rows they are.
        underlying: that they are about.
        version: of every row.
        instruments: by slot.
        names: of the columns of ``room.floats``.
        room: filled.
    """
    rows = len(room.integers)
    if 0 < rows <= FORM_ROWS:
        named = tuple([instruments[slot] for slot in room.integers[:, k.I_SLOT].tolist()])
        form = _form(catalogue, underlying, version, named, tuple(names))
        if form is not None:
            return form.filled(room.floats, room.integers)
    return _by_column(catalogue, underlying, version, instruments, names, room)


def _by_column(
    catalogue: Catalogue, underlying: str, version: str, instruments: Sequence[str], names: Sequence[str], room: Room
) -> pa.RecordBatch:
    integers, rows = room.integers, len(room.integers)
    same = pa.array([0], pa.int32()).take(pa.array(np.zeros(rows, np.int32)))
    columns: dict[str, pa.Array] = {
        "underlying": pa.array([underlying], pa.utf8()).take(same),
        "version": pa.array([version], pa.utf8()).take(same),
        "instrument": pa.array(instruments, pa.utf8()).take(pa.array(integers[:, k.I_SLOT])),
    }
    for name, column in _NUMBERS.items():
        columns[name] = pa.array(np.ascontiguousarray(integers[:, column]))
    for name, column in _FLAGS.items():
        columns[name] = pa.array(integers[:, column] != 0)
    trades = np.ascontiguousarray(integers[:, k.I_TRADES])
    columns["trade_count"] = pa.array(trades, mask=trades < 0)
    values = np.ascontiguousarray(room.floats.T)
    unknown = np.isnan(values)
    for name, value, null, any_null in zip(names, values, unknown, unknown.any(axis=1).tolist(), strict=True):
        columns[name] = pa.array(value, mask=null) if any_null else pa.array(value)
    return pa.RecordBatch.from_arrays([columns[name] for name in catalogue.schema.names], schema=catalogue.schema)


@lru_cache(maxsize=256)
def _form(
    catalogue: Catalogue, underlying: str, version: str, instruments: tuple[str, ...], names: tuple[str, ...]
) -> RowForm | None:
    """The form of one row of each of ``instruments``."""
    room = room_for(len(instruments), len(names))
    room.integers[:] = 0
    room.integers[:, k.I_SLOT] = range(len(instruments))
    room.integers[:, k.I_TRADES] = -1
    room.floats[:] = np.nan
    sample = _by_column(catalogue, underlying, version, instruments, names, room)
    return row_form(sample, names, ("trade_count", k.I_TRADES), _NUMBERS, _FLAGS)
