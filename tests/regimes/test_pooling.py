"""Several underlyings in one fit: sequences end where rows are missing, and levels are found from the states."""

from __future__ import annotations

import math

import numpy as np
import pytest

from features.errors import BadInputError
from regimes.features import SCALE_FLOOR
from regimes.pooling import consecutive, fit_pooled


def test_consecutive_rows() -> None:
    x = np.arange(10.0)[:, None] * np.ones(2)
    x[3, 1] = math.nan
    bar_ts = np.array([0, 5, 10, 15, 20, 25, 40, 45, 50, 55])
    pieces = consecutive(x, bar_ts)
    assert [list(piece[:, 0]) for piece in pieces] == [[0, 1, 2], [4, 5], [6, 7, 8, 9]]
    assert consecutive(np.full((3, 2), math.nan), np.arange(3)) == []
    assert consecutive(x[:0], bar_ts[:0]) == []
    assert [len(piece) for piece in consecutive(x[:1], bar_ts[:1])] == [1]


def two_states(share: float, level: float, seed: int) -> np.ndarray:
    """Rows that spend a share of their time in the upper of two states, three apart."""
    rng = np.random.default_rng(seed)
    upper = np.repeat(rng.random(60) < share, 20)
    return level + np.column_stack([3.0 * upper, -3.0 * upper]) + 0.5 * rng.standard_normal((1200, 2))


def test_an_underlying_that_was_mostly_calm_keeps_its_level() -> None:
    """One spends 15 % of its time in the upper state, the other 70 %, and their units differ by a factor e^5."""
    logs = {"A": two_states(0.15, 0.0, seed=1), "B": two_states(0.7, 5.0, seed=2)}
    bar_ts = {name: np.arange(1200) for name in logs}
    pooled = fit_pooled(logs, bar_ts, n_states=2, seed=0)
    difference = pooled.scalers["B"].location - pooled.scalers["A"].location
    np.testing.assert_allclose(difference, 5.0, atol=0.2)
    means = logs["B"].mean(axis=0) - logs["A"].mean(axis=0)
    assert np.abs(means - 5.0).max() > 1.0  # what standardising by the mean alone would have taken for the level


def test_nothing_to_fit() -> None:
    with pytest.raises(BadInputError, match="no rows"):
        fit_pooled({}, {}, 3, 0)


def test_calm_is_not_taken_for_stress_by_an_underlying_that_saw_less() -> None:
    """A saw three states, B only the lower two: their steps differ, so only one alignment fits."""
    rng = np.random.default_rng(3)
    states = np.array([[0.0, 0.0], [1.5, 2.0], [4.5, 3.0]])
    seen = {"A": np.repeat(rng.choice(3, 60, p=[0.25, 0.4, 0.35]), 15), "B": np.repeat(rng.choice(2, 60), 15)}
    logs = {name: states[state] + 0.3 * rng.standard_normal((900, 2)) for name, state in seen.items()}
    pooled = fit_pooled(logs, {name: np.arange(900) for name in logs}, n_states=3, seed=0)
    np.testing.assert_allclose(pooled.scalers["A"].location, pooled.scalers["B"].location, atol=0.1)
    label = pooled.fit.markov.filter(np.concatenate(pooled.sequences)).argmax(axis=1)
    assert (label == np.concatenate([seen["A"], seen["B"]])).mean() > 0.97
    rows = np.concatenate(pooled.sequences)
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=0), 1.0, atol=1e-12)


def test_an_observation_that_hardly_moves_is_not_blown_up() -> None:
    """A spread that always is one tick changes only with the price."""
    rng = np.random.default_rng(5)
    logs = {name: np.column_stack([rng.standard_normal(300), 1e-4 * rng.standard_normal(300)]) for name in "AB"}
    pooled = fit_pooled(logs, {name: np.arange(300) for name in logs}, n_states=2, seed=0)
    for scaler in pooled.scalers.values():
        assert scaler.scale[1] == SCALE_FLOOR
