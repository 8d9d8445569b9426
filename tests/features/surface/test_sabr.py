"""SABR: its formula against others for the same thing, its limits, and its parameters found again from quotes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi
from scipy.stats import norm

from features.surface.arbitrage import check_arbitrage
from features.surface.cleaning import Points
from features.surface.inversion import implied_volatility
from features.surface.model import SliceSurface
from features.surface.sabr import SABR, fit_sabr, sabr_volatility

FORWARD = 80.0
STRIKES = FORWARD * np.exp(np.linspace(-0.9, 0.9, 19))
SETS = [(0.3, -0.5, 0.6), (0.8, 0.3, 1.5), (0.5, -0.9, 3.0), (0.6, 0.0, 0.1)]


def only_smile(surface: SliceSurface) -> SABR:
    (smile,) = surface.smiles_E
    assert isinstance(smile, SABR)
    return smile


def quoted(alpha: float, beta: float, rho: float, nu: float, days: float = 30, **change: Any) -> Points:
    chain = chain_of([days], lambda k, t: sabr_volatility(1.0, np.exp(k), t, alpha, beta, rho, nu), **change)
    return points_of(chain)


@pytest.mark.parametrize(("alpha", "rho", "nu"), SETS)
def test_at_beta_one_it_is_hagans_formula(alpha: float, rho: float, nu: float) -> None:
    """Hagan et al. 2002, eq. 3.8: the lognormal model's own formula, with zeta = nu / alpha log(F / K)."""
    years = 0.3
    for strike in STRIKES.tolist():
        zeta = nu / alpha * math.log(FORWARD / strike)
        x = math.log((math.sqrt(1 - 2 * rho * zeta + zeta**2) - rho + zeta) / (1 - rho))
        ratio = 1.0 if abs(zeta) < 1e-9 else zeta / x
        expected = alpha * ratio * (1 + (rho * alpha * nu / 4 + (2 - 3 * rho**2) / 24 * nu**2) * years)
        found = float(sabr_volatility(FORWARD, strike, years, alpha, 1.0, rho, nu))
        assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_below_beta_one_it_has_oblojs_leading_term_and_hagans_next(beta: float) -> None:
    alpha, rho, nu, years = 0.4 * FORWARD ** (1 - beta), -0.4, 1.1, 0.2
    for strike in STRIKES.tolist():
        x = math.log(FORWARD / strike)
        distance = x if beta == 1.0 else (FORWARD ** (1 - beta) - strike ** (1 - beta)) / (1 - beta)
        zeta = nu / alpha * distance
        middle = (FORWARD * strike) ** ((1 - beta) / 2)
        leading = alpha / middle
        if abs(x) > 1e-9:
            leading = nu * x / math.log((math.sqrt(1 - 2 * rho * zeta + zeta**2) - rho + zeta) / (1 - rho))
        rest = (1 - beta) ** 2 / 24 * alpha**2 / middle**2 + rho * beta * nu * alpha / (4 * middle)
        expected = leading * (1 + (rest + (2 - 3 * rho**2) / 24 * nu**2) * years)
        found = float(sabr_volatility(FORWARD, strike, years, alpha, beta, rho, nu))
        assert found == pytest.approx(expected, rel=1e-9)


def test_without_volatility_of_volatility_at_beta_zero_it_is_bacheliers_model() -> None:
    alpha, years = 0.2 * FORWARD, 0.1
    deviation = alpha * math.sqrt(years)
    for strike in (70.0, 80.0, 85.0):
        d = (FORWARD - strike) / deviation
        price = (FORWARD - strike) * norm.cdf(d) + deviation * norm.pdf(d)
        exact = float(implied_volatility(price, FORWARD, strike, years, True))
        # Of second order in time, of which (s^2 T)^2 = 1.6e-5 is the scale.
        assert float(sabr_volatility(FORWARD, strike, years, alpha, 0.0, -0.3, 0.0)) == pytest.approx(exact, rel=2e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_its_limits_are_reached_without_a_jump(beta: float) -> None:
    def volatility(k: Any, nu: float = 1.2) -> Any:
        return sabr_volatility(1.0, np.exp(k), 0.25, 0.6, beta, -0.3, nu)

    # To the money, across where the quotient gives way to its series.
    k = np.concatenate([-np.geomspace(1e-1, 1e-15, 200), [0.0], np.geomspace(1e-15, 1e-1, 200)])
    found = volatility(k)
    slope = (volatility(1e-6) - volatility(-1e-6)) / 2e-6
    assert np.abs(found - volatility(0.0) - slope * k).max() < 0.01
    near = np.abs(k) < 1e-3
    curved = np.abs(found - volatility(0.0) - slope * k)[near] - 2.0 * k[near] ** 2
    assert curved.max() < 1e-11  # the rounding of the quotient at |z| = 1e-5
    # To a volatility that stands still.
    wide = np.linspace(-1.0, 1.0, 21)
    np.testing.assert_allclose(volatility(wide, 1e-9), volatility(wide, 0.0), rtol=1e-8)
    np.testing.assert_allclose(volatility(wide, 1e-4), volatility(wide, 0.0), rtol=1e-3)


def test_far_in_the_left_tail_no_digits_cancel() -> None:
    """z = -nu / alpha log(K / F): at -1e9 the sum in the logarithm is the difference of two numbers of 1e9."""
    alpha, rho, nu = 1e-7, -0.5, 5.0
    zeta = nu / alpha * -20.0
    # log((root + z - rho) / (1 - rho)) = -(asinh((rho - z) / sqrt(1 - rho^2)) - asinh(rho / sqrt(1 - rho^2)))
    root = math.sqrt(1 - rho * rho)
    x = -(math.asinh((rho - zeta) / root) - math.asinh(rho / root))
    expected = alpha * zeta / x * (1 + (rho * alpha * nu / 4 + (2 - 3 * rho**2) / 24 * nu**2) * 0.1)
    assert float(sabr_volatility(1.0, math.exp(20.0), 0.1, alpha, 1.0, rho, nu)) == pytest.approx(expected, rel=1e-12)


def test_what_is_not_allowed_is_unknown() -> None:
    good = (1.0, 1.1, 0.2, 0.5, 1.0, -0.3, 0.5)
    assert math.isfinite(float(sabr_volatility(*good)))
    for at, bad in ((0, 0.0), (1, -1.0), (2, 0.0), (3, 0.0), (5, 1.0), (5, -1.0), (6, -0.1), (1, math.nan)):
        spoilt = list(good)
        spoilt[at] = bad
        assert math.isnan(float(sabr_volatility(*spoilt)))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("alpha", "rho", "nu"), SETS[:3])
def test_its_parameters_are_found_again(alpha: float, rho: float, nu: float, beta: float) -> None:
    smile = only_smile(fit_sabr(quoted(alpha, beta, rho, nu), beta=beta))
    assert (smile.alpha, smile.rho, smile.nu) == pytest.approx((alpha, rho, nu), rel=1e-6, abs=1e-6)
    assert smile.beta == beta


def test_beta_is_found_again_too() -> None:
    """From the backbone's small part in the shape: exact quotes tell, at 90 days, to a thousandth."""
    smile = only_smile(fit_sabr(quoted(0.6, 0.5, -0.3, 1.2, days=90), beta=None))
    assert smile.beta == pytest.approx(0.5, abs=1e-3)


def test_the_last_smile_is_where_it_begins() -> None:
    points = points_of(chain_of([7, 30, 90], ssvi, noise=0.003))
    cold = fit_sabr(points)
    warm = fit_sabr(points, cold)
    assert sum(fit.iterations for fit in warm.report.expiries) < 0.5 * sum(
        fit.iterations for fit in cold.report.expiries
    )
    assert warm.report.rmse_bp == pytest.approx(cold.report.rmse_bp, rel=1e-4)
    assert warm.report.rmse_bp < 60  # 30 are noise, and SSVI's smile is not SABR's


def test_few_quotes_move_the_level_and_leave_the_shape() -> None:
    full = fit_sabr(quoted(0.6, 1.0, -0.4, 1.0))
    one = quoted(0.7, 1.0, -0.4, 1.0, strikes=1)
    warm = only_smile(fit_sabr(one, full))
    # Moved in volatility, of which SABR's own shape is nearly a multiple.
    assert (warm.rho, warm.nu) == pytest.approx((-0.4, 1.0), rel=0.15)
    assert warm.alpha == pytest.approx(0.7, abs=1e-2)
    for strikes in (1, 2, 3):
        for before in (None, full):
            assert fit_sabr(quoted(0.7, 1.0, -0.4, 1.0, strikes=strikes), before).report.rmse_bp < 10


def test_few_quotes_are_met_with_beta_as_with_one_that_is_fixed() -> None:
    for strikes in (1, 2, 3):
        points = quoted(0.7, 1.0, -0.4, 1.0, strikes=strikes)
        assert fit_sabr(points, beta=None).report.rmse_bp < fit_sabr(points).report.rmse_bp + 1.0


def test_strikes_in_a_cluster_give_a_sane_smile() -> None:
    points = quoted(0.6, 1.0, -0.4, 1.0, strikes=9, deviations=0.001, noise=0.002)
    surface = fit_sabr(points)
    assert surface.report.rmse_bp < 40
    about = surface.implied_volatility(np.array([-0.2, 0.2]), 30 / 365)
    assert ((about > 0.1) & (about < 5.0)).all()


def test_wild_quotes_give_finite_parameters() -> None:
    for seed in range(10):
        smile = only_smile(fit_sabr(quoted(0.6, 1.0, -0.4, 1.0, noise=0.15, seed=seed), beta=None))
        assert np.isfinite([smile.alpha, smile.beta, smile.rho, smile.nu]).all()


def test_it_may_have_butterflies_and_the_check_finds_them() -> None:
    """At beta = 0, long and far to the left, the expansion's density is negative: what fits of it are checked for."""
    surface = fit_sabr(quoted(0.5, 0.0, -0.3, 0.8, days=1000), beta=0.0)
    assert check_arbitrage(surface).count("butterfly") > 0
