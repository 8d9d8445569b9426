"""The line: finds its coefficients, does not explode on few data, keeps the mean, and forecasts row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forecasting.har import PRIOR_DEVIATION, PRIOR_PERSISTENCE, Har, fit_har

TRUE = np.array([-2.0, 0.5, 0.3])


def simulated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.exp(rng.multivariate_normal([-18.0, -16.0], [[1.0, 0.7], [0.7, 1.0]], n))
    y = np.exp(TRUE[0] + np.log(x) @ TRUE[1:] + 0.6 * rng.standard_normal(n))
    return x, y


def test_recovers_the_coefficients_and_the_mean() -> None:
    x, y = simulated(50_000, seed=0)
    har = fit_har(x, y, np.zeros(2))
    np.testing.assert_allclose(har.coefficients[1:], TRUE[1:], atol=0.01)
    assert abs(har.coefficients[0] - TRUE[0]) < 0.15  # its own level is far from where the data are
    assert abs(har.smearing / math.exp(0.6**2 / 2) - 1.0) < 0.02  # the lognormal mean, without assuming it
    fresh_x, fresh_y = simulated(50_000, seed=1)
    assert abs(np.mean(fresh_y / (np.exp(har.log_forecast(fresh_x)) * har.smearing)) - 1.0) < 0.02


@pytest.mark.parametrize("horizon", [1, 40])
def test_is_the_mode_of_the_posterior(horizon: int) -> None:
    """Least squares with the prior as extra rows; an intercept without prior; rows count 1 / horizon each."""
    x, y = simulated(300, seed=2)
    floors = np.array([np.quantile(x[:, 0], 0.1), 0.0])
    design, log_y = np.log(np.maximum(x, floors)), np.log(y)
    prior = np.full(2, PRIOR_PERSISTENCE / 2)
    error = np.var(log_y - design @ prior)
    centred, target = design - design.mean(axis=0), log_y - log_y.mean()
    row_weight = 1.0 / np.sqrt(error * horizon)
    stacked = np.concatenate([centred * row_weight, np.eye(2) / PRIOR_DEVIATION])
    slopes = np.linalg.lstsq(stacked, np.concatenate([target * row_weight, prior / PRIOR_DEVIATION]), rcond=None)[0]
    har = fit_har(x, y, floors, horizon)
    np.testing.assert_allclose(har.coefficients[1:], slopes, rtol=1e-9)
    forecast = log_y.mean() + centred @ slopes
    np.testing.assert_allclose(har.log_forecast(x), forecast, rtol=1e-12)
    assert math.isclose(har.smearing, float(np.exp(log_y - forecast).mean()), rel_tol=1e-10)


def test_few_horizons_do_not_explode() -> None:
    """Two horizons of a market at rest, then one that moves four times as much: the forecast follows, moderately."""
    rng = np.random.default_rng(4)
    x = np.exp(-16.0 + 0.05 * np.cumsum(rng.standard_normal((120, 3)), axis=0) / 5.0)
    y = np.exp(-14.0 + 0.3 * np.sin(np.arange(120) / 20.0))
    har = fit_har(x, y, np.zeros(3), horizon_bars=60)
    assert (np.abs(har.coefficients[1:]) < 1.0).all()
    calm, moved = har.log_forecast(np.exp([[-16.0] * 3, [-16.0 + math.log(16.0)] * 3]))
    assert 0.3 * math.log(16.0) < moved - calm < 1.3 * math.log(16.0)


def test_floor_and_unknown() -> None:
    har = Har(np.array([0.1, 0.1]), np.array([1.0, 2.0, 3.0]), 1.0)
    x = np.array([[0.0, 1.0], [math.nan, 1.0], [0.0, math.nan]])
    np.testing.assert_allclose(har.log_forecast(x), [1.0 + 2.0 * math.log(0.1), math.nan, math.nan])


def test_regressors_without_variation_do_no_harm() -> None:
    x, y = simulated(20_000, seed=3)
    constant = np.column_stack([x[:, 0], np.full(20_000, 1e-8), x[:, 0]])
    har, alone = fit_har(constant, y, np.zeros(3)), fit_har(x[:, :1], y, np.zeros(1))
    np.testing.assert_allclose(har.log_forecast(constant), alone.log_forecast(x[:, :1]), atol=1e-3)
