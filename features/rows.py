"""Rows of a frame or of Arrow as an array, as models read them: null becomes NaN, and it does so only here."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.errors import BadInputError

if TYPE_CHECKING:
    import polars as pl


def raw_rows(frame: pl.DataFrame, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """``raw_NC`` of a frame, C-contiguous: N rows, C columns in the given order; null becomes NaN.

    Raises:
        BadInputError: the frame lacks a column.
    """
    _require(columns, frame.columns)
    out = np.empty((frame.height, len(columns)))
    for c, column in enumerate(columns):
        out[:, c] = frame[column].cast(float).to_numpy()
    return out


def arrow_rows(batch: pa.RecordBatch, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """The same of an Arrow batch, without a frame's cost: for batches of a row or two.

    Raises:
        BadInputError: the batch lacks a column.
    """
    _require(columns, batch.schema.names)
    out = np.empty((batch.num_rows, len(columns)))
    for c, column in enumerate(columns):
        out[:, c] = batch.column(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return out


def _require(columns: tuple[str, ...], present: Collection[str]) -> None:
    missing = [column for column in columns if column not in present]
    if missing:
        raise BadInputError(f"The rows lack {missing}.", "Pass universe rows: features/catalog.py UNIVERSE_SCHEMA.")
