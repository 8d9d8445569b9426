"""Black-76: against 60-digit values, parity, finite differences and the limits at expiry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.surface.black import (
    YEAR_NS,
    black_delta,
    black_delta_kernel,
    black_gamma,
    black_price,
    black_price_kernel,
    black_vega,
    normal_cdf,
)

FORWARD = 100.0
STRIKES = FORWARD * np.exp(np.linspace(-0.5, 0.5, 21))
YEARS, VOLATILITY = np.meshgrid([0.02, 0.25, 2.0], [0.15, 0.6, 1.5])
GRID = (FORWARD, STRIKES[:, None, None], YEARS, VOLATILITY)

# mpmath.ncdf of exactly these doubles, to 20 digits.
NORMAL = {
    -37.5: 4.6053530095819548438e-308,
    -30.1: 2.4226672179857587657e-199,
    -20.3: 6.4292444676983463386e-92,
    -10.7: 5.0889108550273179952e-27,
    -5.2: 9.9644263169334717467e-8,
    -1.5: 0.066807201268858066004,
    -0.3: 0.38208857781104736693,
    0.0: 0.5,
    1.1: 0.86433393905361734418,
    6.3: 0.99999999985117717782,
}


@pytest.mark.parametrize(("x", "expected"), NORMAL.items())
def test_the_normal_cdf_is_right_in_both_tails(x: float, expected: float) -> None:
    assert normal_cdf(x) == pytest.approx(expected, rel=1e-15, abs=0.0)


def test_the_normal_cdf_at_the_ends() -> None:
    assert (normal_cdf(-40.0), normal_cdf(-math.inf), normal_cdf(math.inf)) == (0.0, 0.0, 1.0)
    assert math.isnan(normal_cdf(math.nan))


def test_the_year_is_exact() -> None:
    assert int(float(YEAR_NS)) == YEAR_NS == 365 * 86_400 * 10**9


def test_a_known_price() -> None:
    # At the money the call is F erf(s sqrt(T) / sqrt(8)).
    assert float(black_price(100.0, 100.0, 0.25, 0.4, True)) == pytest.approx(
        100 * math.erf(0.2 / math.sqrt(8)), rel=1e-15
    )


def test_put_call_parity() -> None:
    call, put = black_price(*GRID, True), black_price(*GRID, False)
    np.testing.assert_allclose(call - put, np.broadcast_to(FORWARD - GRID[1], call.shape), atol=1e-13 * FORWARD)
    np.testing.assert_allclose(black_delta(*GRID, True) - black_delta(*GRID, False), 1.0, rtol=1e-15)


@pytest.mark.parametrize("is_call", [True, False])
def test_greeks_are_the_slopes_of_the_price(is_call: bool) -> None:
    forward, strike, years, volatility = GRID
    h = 1e-3
    up, down = (black_price(forward + d, strike, years, volatility, is_call) for d in (h, -h))
    np.testing.assert_allclose(black_delta(*GRID, is_call), (up - down) / (2 * h), atol=1e-6)
    up, down = (black_delta(forward + d, strike, years, volatility, is_call) for d in (h, -h))
    np.testing.assert_allclose(black_gamma(*GRID), (up - down) / (2 * h), atol=1e-6)
    h = 1e-5
    up, down = (black_price(forward, strike, years, volatility + d, is_call) for d in (h, -h))
    np.testing.assert_allclose(black_vega(*GRID), (up - down) / (2 * h), atol=1e-6)


def test_prices_are_monotone_and_convex_in_the_strike() -> None:
    call = black_price(FORWARD, STRIKES[:, None, None], YEARS, VOLATILITY, True)
    slope = np.diff(call, axis=0) / np.diff(STRIKES)[:, None, None]
    assert (slope <= 0).all()
    assert (slope >= -1).all()
    assert (np.diff(slope, axis=0) >= -1e-13).all()


@given(
    moneyness=st.floats(-1, 1),
    years=st.floats(1e-4, 3),
    low=st.floats(0.01, 3),
    rise=st.floats(1e-3, 1),
    call=st.booleans(),
)
@settings(deadline=None)
def test_prices_grow_with_the_volatility_between_their_bounds(
    moneyness: float, years: float, low: float, rise: float, call: bool
) -> None:
    strike = FORWARD * math.exp(moneyness)
    first, second = (black_price_kernel(FORWARD, strike, years, v, call) for v in (low, low + rise))
    intrinsic = max(FORWARD - strike, 0.0) if call else max(strike - FORWARD, 0.0)
    assert intrinsic - 1e-12 <= first <= second + 1e-12
    assert second <= (FORWARD if call else strike)


def test_scale_invariance_makes_coin_prices_possible() -> None:
    # Price / forward depends on K / F alone: the inverse option's price in coin.
    coin = black_price(1.0, STRIKES / FORWARD, 0.25, 0.6, True)
    np.testing.assert_allclose(black_price(FORWARD, STRIKES, 0.25, 0.6, True) / FORWARD, coin, atol=1e-15)


@pytest.mark.parametrize(("years", "volatility"), [(0.0, 0.5), (-1.0, math.nan), (1.0, 0.0)])
def test_without_variance_the_value_is_intrinsic(years: float, volatility: float) -> None:
    strikes = np.array([90.0, 100.0, 110.0])
    np.testing.assert_array_equal(black_price(100.0, strikes, years, volatility, True), [10.0, 0.0, 0.0])
    np.testing.assert_array_equal(black_price(100.0, strikes, years, volatility, False), [0.0, 0.0, 10.0])
    np.testing.assert_array_equal(black_delta(100.0, strikes, years, volatility, True), [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(black_delta(100.0, strikes, years, volatility, False), [0.0, -0.5, -1.0])
    np.testing.assert_array_equal(black_gamma(100.0, strikes, years, volatility), 0.0)
    np.testing.assert_array_equal(black_vega(100.0, strikes, years, volatility), 0.0)


@pytest.mark.parametrize("bad", [math.nan, -1.0])
@pytest.mark.parametrize("position", range(4))
def test_unknown_or_impossible_inputs_give_nan(bad: float, position: int) -> None:
    arguments = [100.0, 100.0, 1.0, 0.5]
    arguments[position] = bad
    expired = position == 2 and bad < 0
    for value in (
        black_price(*arguments, True), black_delta(*arguments, False), black_gamma(*arguments), black_vega(*arguments)
    ):  # fmt: skip
        assert bool(np.isnan(value)) is not expired


def test_shapes_broadcast_and_rows_equal_the_kernel() -> None:
    is_call = np.arange(21) % 2 == 0
    price = black_price(FORWARD, STRIKES, [[0.1], [0.2]], 0.5, is_call)
    assert price.shape == (2, 21)
    assert price[1, 3] == black_price_kernel(FORWARD, STRIKES[3], 0.2, 0.5, False)
    delta = black_delta(FORWARD, STRIKES[::-1], 0.1, 0.5, is_call[::-1])
    assert delta[0] == black_delta_kernel(FORWARD, STRIKES[-1], 0.1, 0.5, True)
    assert black_price(FORWARD, np.zeros(0), 0.1, 0.5, True).shape == (0,)
