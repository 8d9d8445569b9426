"""Rows of a frame as an array, as models read them: null becomes NaN, and it does so only here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInputError

if TYPE_CHECKING:
    import polars as pl


def raw_rows(frame: pl.DataFrame, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """``raw_NC`` of a frame, C-contiguous: N rows, C columns in the given order; null becomes NaN.

    Raises:
        BadInputError: the frame lacks a column.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise BadInputError(f"The rows lack {missing}.", "Pass universe rows: features/catalog.py UNIVERSE_SCHEMA.")
    out = np.empty((frame.height, len(columns)))
    for c, column in enumerate(columns):
        out[:, c] = frame[column].cast(float).to_numpy()
    return out
