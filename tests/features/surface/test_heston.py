"""Heston: prices against a direct integration of another form of its law, its density, and its parameters found again.

The reference integrates numerically (scipy's adaptive quadrature of Lewis 2001's formula) and writes the
characteristic function in hyperbolic functions (Cui, del Bano Rollin and Germano 2017, eq. 14): it shares neither the
cosine series nor the form of the law with what is tested.
"""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi
from scipy.integrate import quad, trapezoid

from features.surface.arbitrage import check_arbitrage
from features.surface.heston import Heston, fit_heston, heston_price
from features.surface.model import FitReport, SurfaceOf

Numbers = tuple[float, float, float, float, float]
NAMES = ("v0", "kappa", "theta", "sigma", "rho")

MIDDLING = (0.3, 2.0, 0.25, 1.0, -0.3)
FELLER_VIOLATED = (0.04, 1.0, 0.04, 2.0, -0.7)
CALM = (0.09, 1.0, 0.12, 0.011, 0.0)
WILD = (2.0, 3.0, 1.5, 6.0, -0.2)

CASES = {
    "an hour": (1 / 8_760, MIDDLING),
    "a day": (1 / 365, MIDDLING),
    "a quarter": (0.25, MIDDLING),
    "three years": (3.0, MIDDLING),
    "variance almost stands still": (0.5, CALM),
    "variance at zero most of the time": (0.5, FELLER_VIOLATED),
    "the same within days": (5 / 365, (0.04, 1.0, 0.04, 4.0, -0.9)),
    "the same within a month": (30 / 365, FELLER_VIOLATED),
    "a volatility above one": (1.0, WILD),
}


def of(numbers: Numbers) -> Heston:
    return Heston(*numbers, FitReport("heston", (), 0.0))


def deviation(years: float, numbers: Numbers) -> float:
    v0, kappa, theta, _, _ = numbers
    return math.sqrt(theta * years + (v0 - theta) * (1 - math.exp(-kappa * years)) / kappa)


def _law(u: complex, years: float, v0: float, kappa: float, theta: float, sigma: float, rho: float) -> complex:
    """E[exp(i u log(F_T / F))], with sinh and cosh of d T / 2 over exp(d T / 2)."""
    xi = kappa - 1j * sigma * rho * u
    d = cmath.sqrt(xi * xi + sigma * sigma * (u * u + 1j * u))
    fall = cmath.exp(-d * years)
    below = 0.5 * (d * (1 + fall) + xi * (1 - fall))
    first = 0.5 * (u * u + 1j * u) * (1 - fall) / below
    level = (kappa - d) * years / 2 - cmath.log(below / d)
    drift = kappa * theta / sigma * (2 * level / sigma - 1j * rho * years * u)
    return cmath.exp(drift - v0 * first)


def _lewis(k: float, years: float, numbers: Numbers) -> float:
    """Call of F = 1 and strike e^k: 1 - e^(k / 2) / pi int_0^inf Re(e^(-i u k) phi(u - i / 2)) / (u^2 + 1 / 4) du."""

    def slice_of(u: float) -> float:
        return float((cmath.exp(-1j * u * k) * _law(u - 0.5j, years, *numbers)).real / (u * u + 0.25))

    total, low, width = 0.0, 0.0, 5.0
    while low == 0.0 or abs(_law(low - 0.5j, years, *numbers)) > 1e-14 * low:
        total += quad(slice_of, low, low + width, epsabs=1e-13, epsrel=1e-11, limit=400)[0]
        low, width = low + width, min(1.5 * width, 200.0)
    return 1.0 - math.exp(0.5 * k) / math.pi * total


@pytest.mark.parametrize("name", CASES)
def test_prices_are_those_of_a_direct_integration(name: str) -> None:
    years, numbers = CASES[name]
    k = np.array([-4.0, -1.0, 0.0, 0.3, 3.0]) * deviation(years, numbers)
    ours = heston_price(1.0, np.exp(k), years, True, **dict(zip(NAMES, numbers, strict=True)))
    np.testing.assert_allclose(ours, [_lewis(each, years, numbers) for each in k.tolist()], rtol=0, atol=1e-9)


def test_the_example_of_deep_hedging() -> None:
    """Buehler, Gonon, Teichmann and Wood 2019, sec. 5.1: a call at the money over 30 days."""
    numbers = dict(zip(NAMES, FELLER_VIOLATED, strict=True))
    price = float(heston_price(100.0, 100.0, 30 / 365, True, **numbers))
    assert price == pytest.approx(1.69183, abs=1e-5)
    assert price == pytest.approx(100.0 * _lewis(0.0, 30 / 365, FELLER_VIOLATED), abs=1e-8)


@pytest.mark.parametrize("numbers", [MIDDLING, FELLER_VIOLATED, WILD])
def test_parity_and_bounds(numbers: Numbers) -> None:
    given: Any = dict(zip(NAMES, numbers, strict=True))
    strike = 80.0 * np.exp(np.linspace(-6, 6, 41) * deviation(0.3, numbers))
    call, put = (heston_price(80.0, strike, 0.3, kind, **given) for kind in (True, False))
    np.testing.assert_allclose(call - put, 80.0 - strike, rtol=0, atol=1e-9)
    assert (call >= np.maximum(80.0 - strike, 0.0) - 1e-9).all()
    assert (call < 80.0).all()
    mixed = heston_price(80.0, strike, 0.3, strike > 80.0, **given)
    np.testing.assert_array_equal(mixed, np.where(strike > 80.0, call, put))
    assert heston_price(80.0, strike.reshape(1, 41), 0.3, True, **given).shape == (1, 41)


@pytest.mark.parametrize("name", ["a day", "a quarter", "three years", "a volatility above one"])
def test_its_density_is_a_law_of_mean_one(name: str) -> None:
    years, numbers = CASES[name]
    k = np.linspace(-40, 40, 40_001) * deviation(years, numbers)
    density = of(numbers).density(k, years)
    assert density.min() > -1e-10 * density.max()
    assert trapezoid(density, k) == pytest.approx(1.0, abs=1e-8)
    # Far right e^k makes the density's rounding large.
    part = k < 14 * deviation(years, numbers)
    assert trapezoid((np.exp(k) * density)[part], k[part]) == pytest.approx(1.0, abs=1e-6)
    # What the volatilities say of it, by differences of an inversion.
    near = np.linspace(-2, 2, 9) * deviation(years, numbers)
    by_smile = SurfaceOf.density(of(numbers), near, years)
    np.testing.assert_allclose(by_smile, of(numbers).density(near, years), atol=1e-4 * density.max())


def test_without_volatility_of_variance_it_is_blacks_model() -> None:
    still = of((0.36, 1.0, 0.36, 1e-3, 0.0))
    np.testing.assert_allclose(still.implied_volatility(np.linspace(-0.5, 0.5, 5), 0.25), 0.6, atol=1e-6)


def test_what_is_unknown() -> None:
    surface = of(MIDDLING)
    assert np.isnan(surface.total_variance(np.zeros(2), np.array([0.0, -1.0]))).all()
    assert np.isnan(surface.density(np.zeros(2), 0.0)).all()
    k, years = np.linspace(-0.2, 0.2, 5), np.array([[0.1], [0.5]])
    both = surface.total_variance(k, years)
    assert both.shape == (2, 5)
    np.testing.assert_array_equal(both[1], surface.total_variance(k, 0.5))


@pytest.mark.parametrize("numbers", [MIDDLING, FELLER_VIOLATED, (0.5, 8.0, 0.4, 5.0, -0.2)])
def test_its_prices_are_found_again(numbers: Numbers) -> None:
    points = points_of(chain_of([7, 30, 90, 365], of(numbers).implied_volatility, spread=0.005))
    surface = fit_heston(points)
    assert surface.report.rmse_bp < 0.01
    assert surface.report.inside_share == 1.0
    assert surface.parameters == pytest.approx(numbers, rel=1e-3)
    warm = fit_heston(points, surface)
    assert warm.report.expiries[0].iterations < surface.report.expiries[0].iterations


def test_what_it_cannot_meet_it_still_fits_without_arbitrage() -> None:
    """SSVI's term structure is not Heston's: a good point of volatility is left, and no arbitrage."""
    surface = fit_heston(points_of(chain_of([7, 30, 90, 365], ssvi, noise=0.01)))
    assert surface.report.rmse_bp < 500
    assert check_arbitrage(surface).is_free


@pytest.mark.parametrize("days", [[30.0], [7.0, 30.0]])
@pytest.mark.parametrize("strikes", [1, 2, 3])
def test_few_quotes_are_met(days: list[float], strikes: int) -> None:
    surface = fit_heston(points_of(chain_of(days, of(MIDDLING).implied_volatility, strikes=strikes)))
    assert surface.report.rmse_bp < 20
    assert np.isfinite(surface.parameters).all()
