"""Losses and tests of forecasts, against calculations by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from features.errors import BadInputError
from forecasting.evaluate import diebold_mariano, mean_by_bar, qlike


def test_qlike() -> None:
    y, f = np.array([1.0, 2.0, 1.0, math.nan, 0.0]), np.array([1.0, 1.0, 2.0, 1.0, 4.0])
    expected = [0.0, 2 - math.log(2) - 1, 0.5 + math.log(2) - 1, math.nan, 0.25 + math.log(4) - 1]
    np.testing.assert_allclose(qlike(y, f, floor=1.0), expected, rtol=1e-14)
    rng = np.random.default_rng(0)
    noisy = 3.0 * rng.chisquare(4, 200_000) / 4
    losses = [float(qlike(noisy, np.full(1, f)).mean()) for f in (2.7, 3.0, 3.3)]
    assert losses[1] == min(losses)  # minimised by the mean, however noisy y is


def test_diebold_mariano_by_hand() -> None:
    """d = (1, -1, 2, 0): mean .5, deviations (.5, -1.5, 1.5, -.5); sums g0 = 5, g1 = -3.75, lag 1 weight 1/2."""
    a, b = np.array([2.0, 0.0, 3.0, 1.0]), np.ones(4)
    plain, weighted = diebold_mariano(a, b, 0), diebold_mariano(a, b, 1)
    assert plain.difference == weighted.difference == 0.5
    assert plain.t_statistic == pytest.approx(0.5 / (math.sqrt(5.0) / 4))
    assert weighted.t_statistic == pytest.approx(0.5 / (math.sqrt(5.0 + 2 * 0.5 * -3.75) / 4))
    assert weighted.high - weighted.difference == pytest.approx(1.959964 * math.sqrt(1.25) / 4, rel=1e-6)
    assert diebold_mariano(b, a, 1).t_statistic == pytest.approx(-weighted.t_statistic)


def test_diebold_mariano_has_its_size_under_overlap() -> None:
    """Moving averages over 10 rows, as of overlapping targets: Newey-West rejects about 5 %, no lags far more."""
    rng = np.random.default_rng(1)
    rejections = np.zeros(2)
    for _ in range(300):
        noise = rng.standard_normal(1_009)
        d = np.convolve(noise, np.ones(10), mode="valid")
        rejections += [abs(diebold_mariano(d, np.zeros(1_000), lag).t_statistic) > 1.96 for lag in (0, 30)]
    assert rejections[0] / 300 > 0.3
    assert rejections[1] / 300 < 0.12


def test_equal_forecasts_and_wrong_lengths() -> None:
    same = diebold_mariano(np.ones(5), np.ones(5), 2)
    assert same.difference == 0.0
    assert math.isnan(same.t_statistic)
    with pytest.raises(BadInputError):
        diebold_mariano(np.ones(5), np.ones(4), 2)
    with pytest.raises(BadInputError):
        diebold_mariano(np.ones(0), np.ones(0), 2)


def test_mean_by_bar() -> None:
    np.testing.assert_allclose(mean_by_bar(np.array([1.0, 5.0, 3.0, 7.0]), np.array([20, 10, 20, 30])), [5.0, 2.0, 7.0])
