"""Rows as arrays."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from features.errors import BadInputError
from features.rows import raw_rows


def test_null_is_nan_and_a_missing_column_is_named() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [None, 2.5]})
    np.testing.assert_array_equal(raw_rows(frame, ("b", "a")), [[math.nan, 1.0], [2.5, math.nan]])
    with pytest.raises(BadInputError, match="'c'"):
        raw_rows(frame, ("a", "c"))
