"""The target: squared returns after the row, and only those that are there."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from universe_rows import NANO, universe_rows

from features.errors import ConfigError
from forecasting.target import bar_interval_ns, realized_variance_ahead


def frame(returns: list[float | None], bars: list[int] | None = None, underlying: str = "BTC") -> pl.DataFrame:
    bars = bars or list(range(len(returns)))
    return pl.DataFrame(
        {
            "underlying": underlying,
            "bar_ts": [b * NANO for b in bars],
            "log_return": pl.Series(returns, dtype=pl.Float64),
        }
    )


def test_sums_the_returns_after_the_row() -> None:
    y = realized_variance_ahead(frame([9.0, 1.0, 2.0, 3.0, 4.0]), 2)
    np.testing.assert_array_equal(y, [5.0, 13.0, 25.0, math.nan, math.nan])


def test_a_null_or_a_missing_bar_is_unknown() -> None:
    y = realized_variance_ahead(frame([1.0, 1.0, None, 1.0, 1.0, 1.0]), 2)
    np.testing.assert_array_equal(y, [math.nan, math.nan, 2.0, 2.0, math.nan, math.nan])
    y = realized_variance_ahead(frame([1.0] * 6, bars=[0, 1, 2, 4, 5, 6]), 2)
    np.testing.assert_array_equal(y, [2.0, math.nan, math.nan, 2.0, math.nan, math.nan])


def test_underlyings_do_not_mix_whatever_the_order() -> None:
    rows, _ = universe_rows(60, seed=0)
    y = realized_variance_ahead(rows, 7)
    for underlying in ("BTC", "ETH"):
        own = rows.filter(underlying=underlying)
        np.testing.assert_array_equal(y[(rows["underlying"] == underlying).to_numpy()], realized_variance_ahead(own, 7))
    order = np.random.default_rng(0).permutation(rows.height)
    np.testing.assert_array_equal(realized_variance_ahead(rows[order], 7), y[order])


def test_agrees_with_the_feature_that_looks_back() -> None:
    """The next ten seconds at t are the last ten seconds at t + 10."""
    rows = universe_rows(80, seed=1)[0].filter(underlying="BTC")
    back = rows["realized_variance_10s"].to_numpy()
    ahead = realized_variance_ahead(rows, 10)
    np.testing.assert_allclose(ahead[1:-10], back[11:], rtol=1e-12)
    assert np.isnan(ahead[-10:]).all()


def test_short_frames_and_bad_horizons() -> None:
    assert np.isnan(realized_variance_ahead(frame([1.0]), 3)).all()
    assert len(realized_variance_ahead(frame([]), 3)) == 0
    assert bar_interval_ns(frame([1.0, 1.0, 1.0], bars=[0, 4, 6])) == 2 * NANO
    with pytest.raises(ConfigError, match="0 bars"):
        realized_variance_ahead(frame([1.0]), 0)
