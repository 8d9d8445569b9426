"""Inputs: catalogue columns, and transforms that keep the unknown unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from features.catalog import UNIVERSE_SCHEMA
from features.errors import ConfigError
from forecasting.inputs import ABSOLUTE, LOG, PLAIN, RESIDUAL_INPUTS, Input, har_floors, transform


def test_inputs_are_universe_columns() -> None:
    columns = [each.column for each in RESIDUAL_INPUTS]
    assert set(columns) <= set(UNIVERSE_SCHEMA.names)
    assert len(set(columns)) == len(columns)
    assert {each.transform for each in RESIDUAL_INPUTS} <= {LOG, ABSOLUTE, PLAIN}


def test_transform() -> None:
    inputs = (Input("a", LOG, 0.5), Input("b", ABSOLUTE), Input("c"))
    raw = np.array([[2.0, -3.0, -4.0], [0.1, 3.0, 0.0], [math.nan] * 3])
    expected = [[math.log(2.0), 3.0, -4.0], [math.log(0.5), 3.0, 0.0], [math.nan] * 3]
    np.testing.assert_allclose(transform(raw, inputs), expected, rtol=1e-15)


def test_har_columns() -> None:
    np.testing.assert_allclose(har_floors(("realized_variance_1m", "realized_variance_10s")), [6e-9, 1e-9])
    for columns in ((), ("spread_bps",), ("realized_variance_1m", "realized_variance_1m")):
        with pytest.raises(ConfigError, match="HAR columns"):
            har_floors(columns)
