"""The line: finds its coefficients, equals least squares, keeps the mean, and forecasts row by row."""

from __future__ import annotations

import math

import numpy as np

from forecasting.har import Har, fit_har

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


def test_equals_least_squares() -> None:
    x, y = simulated(300, seed=2)
    floors = np.array([np.quantile(x[:, 0], 0.1), 0.0])
    design = np.column_stack([np.ones(300), np.log(np.maximum(x, floors))])
    expected = np.linalg.lstsq(design, np.log(y), rcond=None)[0]
    har = fit_har(x, y, floors)
    np.testing.assert_allclose(har.coefficients, expected, rtol=1e-9)
    np.testing.assert_allclose(har.log_forecast(x), design @ expected, rtol=1e-12)
    residual = np.log(y) - design @ expected
    assert math.isclose(har.smearing, float(np.exp(residual).mean()), rel_tol=1e-10)


def test_floor_and_unknown() -> None:
    har = Har(np.array([0.1, 0.1]), np.array([1.0, 2.0, 3.0]), 1.0)
    x = np.array([[0.0, 1.0], [math.nan, 1.0], [0.0, math.nan]])
    np.testing.assert_allclose(har.log_forecast(x), [1.0 + 2.0 * math.log(0.1), math.nan, math.nan])


def test_regressors_without_variation_do_no_harm() -> None:
    x, y = simulated(200, seed=3)
    constant = np.column_stack([x[:, 0], np.full(200, 1e-8), x[:, 0]])
    har, alone = fit_har(constant, y, np.zeros(3)), fit_har(x[:, :1], y, np.zeros(1))
    np.testing.assert_allclose(har.log_forecast(constant), alone.log_forecast(x[:, :1]), rtol=1e-9)
