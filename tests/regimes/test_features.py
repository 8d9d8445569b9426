"""Observations: logs, standardised on the training window, unknown where anything is unknown."""

from __future__ import annotations

import math

import numpy as np

from features.catalog import UNIVERSE_SCHEMA
from regimes.features import (
    OBSERVATIONS,
    SCALE_FLOOR,
    Observation,
    Scaler,
    columns_of,
    fit_scalers,
    log_observations,
    observe,
)


def test_columns_are_universe_columns() -> None:
    assert set(columns_of(OBSERVATIONS)) <= set(UNIVERSE_SCHEMA.names)
    assert OBSERVATIONS[0].columns == ("realized_variance_10s",)  # orders the states


def test_log_of_sums() -> None:
    observations = (Observation(("a",), 0.5), Observation(("b", "c"), 0.0))
    raw = np.array([[1.0, 2.0, 3.0], [0.0, math.nan, 1.0], [-1.0, 1.0, 1.0]])
    expected = np.array([[math.log(1.5), math.log(5.0)], [math.log(0.5), math.nan], [math.nan, math.log(2.0)]])
    np.testing.assert_allclose(log_observations(raw, observations), expected, rtol=1e-15)
    scaler = Scaler(np.array([1.0, 2.0]), np.array([0.5, 4.0]))
    np.testing.assert_allclose(observe(raw, observations, scaler), (expected - [1.0, 2.0]) / [0.5, 4.0], rtol=1e-14)


def test_scalers_use_known_rows_and_do_not_blow_up_constants() -> None:
    rng = np.random.default_rng(0)
    first = np.column_stack([rng.normal(3.0, 2.0, 500), rng.normal(-1.0, 1e-6, 500)])
    second = np.column_stack([rng.normal(8.0, 1.0, 300), rng.normal(-2.0, 1e-6, 300)])
    first[::7, 0] = math.nan
    known = first[~np.isnan(first[:, 0])]
    scalers = fit_scalers({"A": first, "B": second})
    np.testing.assert_allclose(scalers["A"].location, known.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scalers["B"].location, second.mean(axis=0), rtol=1e-12)
    within = np.concatenate([(known - known.mean(axis=0))[:, 0], (second - second.mean(axis=0))[:, 0]])
    for scaler in scalers.values():
        np.testing.assert_allclose(scaler.scale, [within.std(), SCALE_FLOOR], rtol=1e-12)
