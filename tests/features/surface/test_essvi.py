"""eSSVI: its conditions exclude arbitrage wherever one looks, and its fit keeps them whatever the quotes are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from option_chains import chain_of, points_of, ssvi
from scipy.optimize import minimize

from features.surface.arbitrage import check_arbitrage
from features.surface.cleaning import Points, weighed
from features.surface.essvi import essvi_at, essvi_slopes, essvi_variance, no_butterfly, no_calendar
from features.surface.essvi_surface import fit_essvi
from features.surface.heston import Heston
from features.surface.model import FitReport, durrleman

Array = np.ndarray[Any, Any]

K = np.concatenate([np.linspace(-8, 8, 801), np.linspace(-0.2, 0.2, 801)])

slices = st.tuples(st.floats(1e-4, 4.0), st.floats(-0.98, 0.98), st.floats(0.01, 0.999))


def wings(theta: float, rho: float, share: float) -> tuple[float, float, float]:
    """A slice without butterflies: ``share`` of the largest psi that rho allows."""
    psi = share * min(2.0 * np.sqrt(theta / (1.0 + abs(rho))), 4.0 / (1.0 + abs(rho)))
    return theta, psi * (1 + rho), psi * (1 - rho)


def variance(at: tuple[float, float, float]) -> np.ndarray:
    return np.array([essvi_variance(*at, float(k)) for k in K])


def test_it_is_the_formula_of_the_paper() -> None:
    theta, rho, psi = 0.04, -0.4, 0.3
    for k in (-0.7, 0.0, 0.2):
        expected = 0.5 * (theta + rho * psi * k + np.sqrt((psi * k + theta * rho) ** 2 + theta**2 * (1 - rho**2)))
        assert essvi_variance(theta, psi * (1 + rho), psi * (1 - rho), k) == pytest.approx(expected, rel=1e-15)


@given(slices)
def test_slopes(at: tuple[float, float, float]) -> None:
    found, step = wings(*at), 1e-5
    for k in (-0.5, 0.01, 0.8):
        w, first, second = essvi_slopes(*found, k)
        low, high = (essvi_slopes(*found, k + each) for each in (-step, step))
        assert w == essvi_variance(*found, k)
        assert first == pytest.approx((high[0] - low[0]) / (2 * step), rel=1e-4, abs=1e-8)
        assert second == pytest.approx((high[1] - low[1]) / (2 * step), rel=1e-4, abs=1e-6)


@given(slices)
def test_its_condition_excludes_butterflies(at: tuple[float, float, float]) -> None:
    found = wings(*at)
    assert no_butterfly(*found)
    w, first, second = (np.array(each) for each in zip(*(essvi_slopes(*found, float(k)) for k in K), strict=True))
    assert durrleman(K, w, first, second).min() > -1e-12


@given(slices, st.floats(1.0, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_its_condition_excludes_calendars_between_slices_and_in_between(
    at: tuple[float, float, float], growth: float, right: float, left: float
) -> None:
    """Any later slice that the condition allows, its wings grown by different shares."""
    before = wings(*at)
    room = (growth - 1.0) * (before[1] + before[2])
    after = (before[0] * growth, before[1] + 0.5 * room * right, before[2] + 0.5 * room * left)
    assert no_calendar(*before, *after)
    assert (variance(after) - variance(before)).min() > -1e-12 * after[0]
    years, table = np.array([0.1, 0.2]), np.array([before, after])
    earlier = variance(before)
    for share in (0.25, 0.5, 0.75, 1.0):
        at_share = essvi_at(years, table, 0.1 + 0.1 * share)
        later = variance(at_share)
        assert (later - earlier).min() > -1e-12 * after[0]
        assert no_butterfly(*at_share) or not no_butterfly(*after)
        earlier = later


def test_a_surface_of_the_family_is_found_again() -> None:
    points = points_of(chain_of([2, 7, 30, 90, 365], ssvi))
    surface = fit_essvi(points)
    assert surface.report.rmse_bp < 0.5
    assert surface.report.inside_share == 1.0
    k = np.linspace(-0.5, 0.5, 21)
    assert np.abs(surface.implied_volatility(k, 30 / 365) - ssvi(k, np.full(21, 30 / 365))).max() < 2e-4
    assert check_arbitrage(surface).exact
    assert check_arbitrage(surface).is_free


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("seed", range(8))
def test_no_noise_makes_it_have_arbitrage(noise: float, seed: int) -> None:
    days = np.sort(np.random.default_rng(seed).uniform(0.2, 400, 9))
    points = points_of(chain_of(days.tolist(), ssvi, noise=noise, seed=seed, strikes=9))
    report = check_arbitrage(fit_essvi(points))
    assert report.exact
    assert report.is_free, report


def test_the_last_surface_is_where_it_begins_and_what_few_quotes_look_like() -> None:
    full = points_of(chain_of([7, 30, 90], ssvi, noise=0.003))
    cold = fit_essvi(full)
    warm = fit_essvi(full, cold)
    assert sum(fit.iterations for fit in warm.report.expiries) < sum(fit.iterations for fit in cold.report.expiries)
    k = np.linspace(-0.4, 0.4, 9)
    assert np.abs(warm.implied_volatility(k, 0.1) - cold.implied_volatility(k, 0.1)).max() < 2e-3
    chain = chain_of([7, 30, 90], ssvi)
    middle = np.flatnonzero(chain["expiry_ns"] == np.unique(chain["expiry_ns"])[1])
    few = {name: np.delete(column, np.delete(middle, [20])) for name, column in chain.items()}
    sparse = fit_essvi(points_of(few), cold)
    assert sparse.report.expiries[1].quotes == 1
    assert np.abs(sparse.implied_volatility(k, 30 / 365) - ssvi(k, np.full(9, 30 / 365))).max() < 0.02
    alone = fit_essvi(points_of(few))
    assert check_arbitrage(alone).is_free


INVERTED = ((0.445, 5.083, 0.033, 1.485, -0.725), (0.418, 1.505, 0.09, 1.122, -0.775), (0.9, 4.0, 0.1, 2.0, -0.3))
"""Heston's numbers after a crash: variance falls so fast that total variance hardly rises."""


def _joint_least(points: Points, begin: Array) -> float:
    """The weighted sum of squares of scipy's best over all slices at once, under the same conditions."""
    w, weight = weighed(points)
    at = np.repeat(np.arange(len(points.years_E)), np.diff(points.start_F))

    def cost(x: Array) -> float:
        theta, right, left = (x * begin.ravel()).reshape(-1, 3).T
        found = [essvi_variance(*each) for each in zip(theta[at], right[at], left[at], points.k_Q, strict=True)]
        return float(weight @ (np.array(found) - w) ** 2)

    def conditions(x: Array) -> Array:
        theta, right, left = (x * begin.ravel()).reshape(-1, 3).T
        psi = 0.5 * (right + left)
        own = [4 - psi * right / theta, 4 - psi * left / theta, 3.999 - right, 3.999 - left]
        rise = [np.diff(each) / each[1:] for each in (theta, right, left)]
        return np.concatenate([*own, *rise, psi[:-1] * theta[1:] / (psi[1:] * theta[:-1]) - 1])

    found = minimize(
        cost, np.ones(begin.size), method="SLSQP", bounds=[(0.02, 50.0)] * begin.size,
        constraints={"type": "ineq", "fun": conditions}, options={"maxiter": 300, "ftol": 1e-9},
    )  # fmt: skip
    return float(found.fun)


@pytest.mark.parametrize("numbers", INVERTED)
def test_slices_that_hold_each_other_are_fitted_together(numbers: tuple[float, ...]) -> None:
    heston = Heston(*numbers, FitReport("heston", (), 0.0))
    points = points_of(chain_of([3, 14, 45, 120, 365], heston.implied_volatility, strikes=13, deviations=2.0))
    surface = fit_essvi(points)
    report = check_arbitrage(surface)
    assert report.exact
    assert report.is_free
    w, weight = weighed(points)
    ours = float(weight @ (surface.total_variance(points.k_Q, points.years_Q) - w) ** 2)
    assert ours <= 1.001 * _joint_least(points, surface.slice_E3)
