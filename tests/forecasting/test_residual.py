"""The trees: deterministic, the same bits at any batch and from text, and calm about what they never saw."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forecasting.inputs import RESIDUAL_INPUTS
from forecasting.residual import MAX_TREES, ResidualTrees, Rows, fit_trees

COLUMNS = [each.column for each in RESIDUAL_INPUTS]
SPREAD = COLUMNS.index("spread_bps")
IMPLIED = COLUMNS.index("atm_iv_30d")


def rows(n: int, seed: int) -> Rows:
    """The residual depends on the spread; implied volatility is always missing, the five-minute variance at times."""
    rng = np.random.default_rng(seed)
    raw = rng.lognormal(size=(n, len(COLUMNS)))
    raw[:, IMPLIED] = math.nan
    raw[: n // 5, COLUMNS.index("realized_variance_5m")] = math.nan
    return Rows(raw, np.where(raw[:, SPREAD] > 1.0, 0.8, -0.4) + 0.2 * rng.standard_normal(n))


TRAIN, STOP = rows(1500, seed=0), rows(500, seed=1)
TREES = fit_trees(TRAIN, seed=3, stop=STOP)


def test_learns_and_stops() -> None:
    test = rows(500, seed=2)
    error = np.mean((test.residual - TREES.predict(test.raw)) ** 2)
    assert error < 0.2 * np.var(test.residual)
    assert 1 <= TREES.n_trees <= MAX_TREES
    noise = Rows(TRAIN.raw, np.random.default_rng(9).standard_normal(1500))
    assert fit_trees(noise, seed=3, stop=Rows(STOP.raw, -STOP.residual)).n_trees < MAX_TREES


def test_same_bits_again_from_text_and_at_any_batch() -> None:
    raw = rows(333, seed=4).raw
    whole = TREES.predict(raw)
    assert fit_trees(TRAIN, seed=3, stop=STOP).text == TREES.text
    assert ResidualTrees(TREES.text, TREES.medians).predict(raw).tobytes() == whole.tobytes()
    one_by_one = np.concatenate([TREES.predict(raw[i : i + 1]) for i in range(len(raw))])
    assert one_by_one.tobytes() == whole.tobytes()
    assert len(TREES.predict(raw[:0])) == 0


@pytest.mark.parametrize("value", [math.nan, 1e-9, 1e9])
def test_a_column_that_was_never_seen_changes_nothing(value: float) -> None:
    raw = rows(50, seed=5).raw
    expected = TREES.predict(raw)
    raw[:, IMPLIED] = value
    assert TREES.predict(raw).tobytes() == expected.tobytes()


def test_a_column_that_goes_missing_reads_as_typical() -> None:
    """The spread was always known in training: a missing one counts as its median."""
    raw = rows(50, seed=6).raw
    typical = raw.copy()
    typical[:, SPREAD] = np.exp(TREES.medians[SPREAD])
    raw[:, SPREAD] = math.nan
    np.testing.assert_allclose(TREES.predict(raw), TREES.predict(typical), atol=1e-12)
