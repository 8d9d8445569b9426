"""Implied volatility: what is inverted comes back, and what has no volatility is NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from features.surface.black import black_price, black_price_kernel
from features.surface.inversion import implied_volatility, implied_volatility_kernel


def _options(
    seed: int, n: int, most: float, years: tuple[float, float], sigma: tuple[float, float]
) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    moneyness = rng.uniform(-most, most, n)
    return 5e4 * np.exp(moneyness), rng.uniform(*years, n), rng.uniform(*sigma, n), moneyness > 0


@pytest.mark.parametrize(
    ("most", "years", "sigma", "error"),
    [(0.5, (0.02, 2), (0.1, 1.5), 1e-11), (0.7, (2 / 365, 2), (0.05, 3), 1e-9), (0.02, (1e-5, 1e-3), (0.05, 3), 1e-9)],
    ids=["ordinary", "hard", "last hours"],
)
def test_prices_come_back_as_volatilities(
    most: float, years: tuple[float, float], sigma: tuple[float, float], error: float
) -> None:
    strike, expiry, volatility, is_call = _options(7, 50_000, most, years, sigma)
    price = black_price(5e4, strike, expiry, volatility, is_call)
    found = implied_volatility(price, 5e4, strike, expiry, is_call)
    alive = price > 1e-280
    assert alive.mean() > 0.9
    assert np.abs(found - volatility)[alive].max() <= error
    assert not np.isnan(found[alive]).any()


@given(moneyness=st.floats(-1, 1), years=st.floats(1e-4, 3), volatility=st.floats(0.05, 3), is_call=st.booleans())
@settings(deadline=None, max_examples=300)
@example(moneyness=-0.21940473017237472, years=0.0001, volatility=1.5016775428821272, is_call=False)
def test_round_trip(moneyness: float, years: float, volatility: float, is_call: bool) -> None:
    strike = 100.0 * math.exp(moneyness)
    price = black_price_kernel(100.0, strike, years, volatility, is_call)
    found = implied_volatility_kernel(price, 100.0, strike, years, is_call)
    if math.isnan(found):
        # Nothing is left of the time value beside the rounding of the price.
        assert price - max(0.0, (100.0 - strike) * (1 if is_call else -1)) <= 1e-13 * max(price, 1e-280)
    else:
        again = black_price_kernel(100.0, strike, years, found, is_call)
        # The formula of a tiny price cancels, N(d1) and (K / F) N(d2) agree in their first digits: what is left is
        # known to eps d / s, and a volatility that is off by that moves the price d^2 times as much.
        deviation = volatility * math.sqrt(years)
        d = abs(moneyness) / deviation
        assert again == pytest.approx(price, rel=1e-11 + 1e-15 * d**3 / deviation, abs=1e-290)


def test_against_an_independent_root_search() -> None:
    for strike, is_call, price in [(80.0, True, 21.5), (100.0, False, 3.2), (130.0, True, 0.4), (130.0, False, 31.0)]:
        expected = brentq(
            lambda v, k=strike, c=is_call, p=price: float(black_price(100.0, k, 0.3, v, c)) - p,
            0.01,
            5,
            xtol=1e-15,
            rtol=1e-15,
        )
        assert implied_volatility_kernel(price, 100.0, strike, 0.3, is_call) == pytest.approx(expected, rel=1e-12)


def test_it_grows_with_the_price() -> None:
    for strike in (60.0, 100.0, 101.0, 160.0):
        found = implied_volatility(np.geomspace(1e-8, 59.0, 4_000), 100.0, strike, 0.5, strike >= 100.0)
        assert (np.diff(found) > 0).all()


def test_call_and_put_of_one_strike_agree() -> None:
    strike = np.linspace(70, 140, 15)
    put, call = (black_price(100.0, strike, 0.5, 0.7, c) for c in (False, True))
    np.testing.assert_allclose(
        implied_volatility(call, 100.0, strike, 0.5, True),
        implied_volatility(put, 100.0, strike, 0.5, False),
        rtol=1e-12,
    )


def test_coin_prices_need_only_their_forward() -> None:
    coin = black_price(6.5e4, 7e4, 0.1, 0.55, True) / 6.5e4
    assert float(implied_volatility(coin * 6.5e4, 6.5e4, 7e4, 0.1, True)) == pytest.approx(0.55, rel=1e-13)


@pytest.mark.parametrize(
    ("price", "forward", "strike", "years", "is_call"),
    [
        (0.0, 100.0, 110.0, 1.0, True),
        (-1.0, 100.0, 110.0, 1.0, True),
        (9.99, 100.0, 90.0, 1.0, True),
        (10.0, 100.0, 90.0, 1.0, True),
        (10.0, 90.0, 100.0, 1.0, False),
        (100.0, 100.0, 110.0, 1.0, True),
        (90.0, 100.0, 90.0, 1.0, False),
        (math.inf, 100.0, 90.0, 1.0, True),
        (1e-310, 100.0, 110.0, 1.0, True),
        (5.0, 0.0, 110.0, 1.0, True),
        (5.0, 100.0, -1.0, 1.0, True),
        (5.0, 100.0, 110.0, 0.0, True),
        (math.nan, 100.0, 110.0, 1.0, True),
        (5.0, math.nan, 110.0, 1.0, True),
        (5.0, math.inf, 110.0, 1.0, False),
        (5.0, 100.0, 110.0, math.nan, True),
    ],
)
def test_no_volatility_gives_this_price(
    price: float, forward: float, strike: float, years: float, is_call: bool
) -> None:
    assert np.isnan(implied_volatility(price, forward, strike, years, is_call))


@pytest.mark.parametrize("price", [1e-300, 1e-17, 1e-12, 99.0, 99.999999, 100.0 - 2e-14])
def test_the_search_ends_for_every_price_inside_the_bounds(price: float) -> None:
    found = implied_volatility_kernel(price, 100.0, 100.0, 1.0, True)
    assert 0.0 < found < 40.0
    assert black_price_kernel(100.0, 100.0, 1.0, found, True) == pytest.approx(price, abs=3e-14)
