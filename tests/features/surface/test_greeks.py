"""Second-order and coin greeks: slopes of a 150-digit price, symmetries, the ends, and what is unknown."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.surface.black import black_delta, black_gamma, black_price, black_vega
from features.surface.greeks import (
    black_theta,
    black_theta_kernel,
    black_vanna,
    black_vanna_kernel,
    black_volga,
    black_volga_kernel,
    inverse_delta,
    inverse_delta_kernel,
)

OPTIONS = [
    (100.0, strike, years, volatility)
    for strike in (40.0, 85.0, 99.0, 100.0, 107.0, 180.0)
    for years, volatility in ((2 / 365, 0.9), (0.25, 0.6), (2.0, 1.4), (1.0, 0.05))
]
EVERYWHERE = (
    100.0,
    100.0 * np.exp(np.linspace(-0.8, 0.8, 33))[:, None, None],
    *np.meshgrid([0.01, 0.3, 2], [0.1, 0.7, 2]),
)

log_moneyness, years, volatilities = st.floats(-2, 2), st.floats(1e-3, 3), st.floats(0.05, 3)


def exact_price(forward: Any, strike: Any, years: Any, volatility: Any, is_call: bool = True) -> Any:
    """Black-76 in the digits of mpmath."""
    deviation = volatility * mpmath.sqrt(years)
    d1 = mpmath.log(forward / strike) / deviation + deviation / 2
    sign = 1 if is_call else -1
    return sign * (forward * mpmath.ncdf(sign * d1) - strike * mpmath.ncdf(sign * (d1 - deviation)))


def rounding(forward: float, strike: float, years: float, volatility: float) -> float:
    """Relative error of n(d1) and N(d1): K / F's over the deviation is an error of d1, and 1 + |d1| times that."""
    deviation = volatility * math.sqrt(years)
    d = abs(math.log(forward / strike)) / deviation + deviation
    return 1e-15 * (4.0 + (1.0 + d) * (1.0 / deviation + 2.0 * d))


def slope(function: Callable[..., Any], option: tuple[float, ...], order: tuple[int, int, int, int]) -> float:
    """Partial derivative of that order in forward, strike, years and volatility: central differences of 150 digits."""
    with mpmath.workdps(150):
        return float(mpmath.diff(function, tuple(mpmath.mpf(each) for each in option), order))


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_they_are_the_slopes_of_the_price(option: tuple[float, float, float, float]) -> None:
    volatility, error = option[3], rounding(*option)
    # d1 and d2 are differences: near their zeros vanna and volga are known to the rounding of those.
    vega = float(black_vega(*option))
    assert float(black_vanna(*option)) == pytest.approx(
        slope(exact_price, option, (1, 0, 0, 1)), rel=error, abs=error * vega / option[0]
    )
    assert float(black_volga(*option)) == pytest.approx(
        slope(exact_price, option, (0, 0, 0, 2)), rel=error, abs=error * vega / volatility
    )
    assert float(black_theta(*option)) == pytest.approx(-slope(exact_price, option, (0, 0, 1, 0)), rel=error)


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_the_inverse_delta_is_the_slope_of_the_coin_price_by_the_logarithm_of_the_forward(
    option: tuple[float, float, float, float], is_call: bool
) -> None:
    """d(V / F) / d log(F) = F (V' / F - V / F^2) = V' - V / F; by Black-76 that is phi (K / F) N(phi d2)."""

    def coin(forward: Any, strike: Any, t: Any, volatility: Any) -> Any:
        return exact_price(forward, strike, t, volatility, is_call) / forward

    found = float(inverse_delta(*option, is_call))
    with mpmath.workdps(50):
        forward, strike, t, volatility = (mpmath.mpf(each) for each in option)
        d2 = mpmath.log(forward / strike) / (volatility * mpmath.sqrt(t)) - volatility * mpmath.sqrt(t) / 2
        sign = 1 if is_call else -1
        closed = float(sign * strike / forward * mpmath.ncdf(sign * d2))
    assert option[0] * slope(coin, option, (1, 0, 0, 0)) == pytest.approx(closed, rel=1e-15)
    # It is the difference of a delta and a price: known to their last places.
    terms = abs(float(black_delta(*option, is_call))) + float(black_price(*option, is_call)) / option[0]
    assert found == pytest.approx(closed, rel=rounding(*option), abs=2e-16 * terms)


def test_coins_of_forward_hedge_a_coin_option() -> None:
    """An option less its inverse delta in forwards that pay in coin, 1 - F0 / F: in coin, nothing of first order."""
    start, strike, t, volatility = 65_000.0, 70_000.0, 0.1, 0.6
    held = float(inverse_delta(start, strike, t, volatility, True))
    for move in (1e-3, 1e-4):
        forward = start * np.exp([move, -move])
        coin = black_price(forward, strike, t, volatility, True) / forward
        change = coin - float(black_price(start, strike, t, volatility, True)) / start - held * (1.0 - start / forward)
        assert (np.abs(change) < 3.0 * move**2).all()
        assert np.abs(change).max() > 0.1 * move**2  # of the second order indeed


def test_theta_pays_for_gamma() -> None:
    """Black's equation at a fixed forward: theta = -s^2 F^2 gamma / 2."""
    forward, _, _, volatility = EVERYWHERE
    np.testing.assert_allclose(
        black_theta(*EVERYWHERE), -0.5 * volatility**2 * forward**2 * black_gamma(*EVERYWHERE), rtol=1e-13
    )


def test_vega_grows_by_vanna_and_volga() -> None:
    forward, strike, t, volatility = EVERYWHERE
    h = 1e-4
    up, down = (black_vega(forward * (1 + d), strike, t, volatility) for d in (h, -h))
    np.testing.assert_allclose(black_vanna(*EVERYWHERE), (up - down) / (2 * h * forward), rtol=3e-5, atol=1e-5)
    up, down = (black_vega(forward, strike, t, volatility * (1 + d)) for d in (h, -h))
    np.testing.assert_allclose(black_volga(*EVERYWHERE), (up - down) / (2 * h * volatility), rtol=3e-5, atol=1e-3)


@given(k=log_moneyness, t=years, volatility=volatilities)
def test_call_and_put_differ_by_their_parity(k: float, t: float, volatility: float) -> None:
    """C - P = F - K: by F that is 1, in coin 1 - K / F, so the inverse deltas differ by K / F."""
    strike = 100.0 * math.exp(k)
    call, put = (float(inverse_delta(100.0, strike, t, volatility, c)) for c in (True, False))
    assert call - put == pytest.approx(strike / 100.0, rel=1e-14, abs=1e-14)
    assert call >= 0.0 >= put


@given(k=log_moneyness, t=years, volatility=volatilities)
def test_forward_and_strike_change_places(k: float, t: float, volatility: float) -> None:
    """A call on F at K is a put on K at F (paid in the other currency), so its inverse delta is that put's delta."""
    forward, strike = 100.0, 100.0 * math.exp(k)
    there, back = (forward, strike, t, volatility), (strike, forward, t, volatility)
    relative = 2.0 * rounding(*there)
    assert float(black_volga(*there)) == pytest.approx(
        float(black_volga(*back)), rel=relative, abs=relative * float(black_vega(*there)) / volatility
    )
    # Numbers below the normal ones have no relative precision left.
    assert float(black_theta(*there)) == pytest.approx(float(black_theta(*back)), rel=relative, abs=1e-300)
    expected = -strike / forward * float(black_delta(*back, False))
    assert float(inverse_delta(*there, True)) == pytest.approx(expected, rel=relative, abs=3e-15)


@given(k=log_moneyness, t=years, volatility=volatilities, scale=st.floats(1e-3, 1e6), is_call=st.booleans())
def test_the_currency_does_not_matter(k: float, t: float, volatility: float, scale: float, is_call: bool) -> None:
    one, other = (1.0, math.exp(k), t, volatility), (scale, scale * math.exp(k), t, volatility)
    relative = 2.0 * rounding(*one)
    assert float(inverse_delta(*other, is_call)) == pytest.approx(
        float(inverse_delta(*one, is_call)), rel=relative, abs=1e-15 * (1.0 + math.exp(k))
    )
    assert float(black_theta(*other)) == pytest.approx(scale * float(black_theta(*one)), rel=relative)


@pytest.mark.parametrize(("t", "volatility"), [(0.0, 0.5), (-1.0, 0.5), (-1.0, math.nan), (1.0, 0.0)])
def test_without_variance_only_the_premium_is_left(t: float, volatility: float) -> None:
    strikes = np.array([80.0, 100.0, 125.0])
    for greek in (black_vanna, black_volga, black_theta):
        np.testing.assert_array_equal(greek(100.0, strikes, t, volatility), 0.0)
    # Coins are worth 1 - K / F or nothing: K / F of slope by log(F); at the strike half of it, as the delta is.
    np.testing.assert_allclose(inverse_delta(100.0, strikes, t, volatility, True), [0.8, 0.5, 0.0], rtol=1e-15)
    np.testing.assert_allclose(inverse_delta(100.0, strikes, t, volatility, False), [0.0, -0.5, -1.25], rtol=1e-15)


@pytest.mark.parametrize("bad", [math.nan, -1.0, 0.0])
@pytest.mark.parametrize("position", range(4))
def test_unknown_or_impossible_inputs_give_nan(bad: float, position: int) -> None:
    arguments = [100.0, 110.0, 1.0, 0.5]
    arguments[position] = bad
    known = (position == 2 and bad <= 0.0) or (position == 3 and bad == 0.0)
    for value in (
        black_vanna(*arguments),
        black_volga(*arguments),
        black_theta(*arguments),
        inverse_delta(*arguments, True),
        inverse_delta(*arguments, False),
    ):
        assert bool(np.isnan(value)) is not known


def test_far_out_they_vanish_without_noise() -> None:
    for strike in (1e-4, 1e8):
        option = (100.0, strike, 0.01, 0.2)
        assert float(black_vanna(*option)) == float(black_volga(*option)) == float(black_theta(*option)) == 0.0
    assert float(inverse_delta(100.0, 1e8, 0.01, 0.2, True)) == 0.0
    assert float(inverse_delta(100.0, 1e8, 0.01, 0.2, False)) == pytest.approx(-1e6, rel=1e-15)


def test_shapes_broadcast_and_rows_equal_the_kernel() -> None:
    strikes, times = np.array([90.0, 100.0, 130.0]), np.array([[0.1], [0.4]])
    for greek, kernel in (
        (black_vanna, black_vanna_kernel),
        (black_volga, black_volga_kernel),
        (black_theta, black_theta_kernel),
    ):
        found = greek(100.0, strikes, times, 0.5)
        assert found.shape == (2, 3)
        assert found[1, 2] == kernel(100.0, 130.0, 0.4, 0.5)
    found = inverse_delta(100.0, strikes, times, 0.5, strikes >= 100.0)
    assert found.shape == (2, 3)
    assert found[0, 0] == inverse_delta_kernel(100.0, 90.0, 0.1, 0.5, False)
