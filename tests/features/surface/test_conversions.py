"""Conversions: there and back, against Black-76, and NaN for what is impossible."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import brentq

import features.surface as surface
from features.surface.black import YEAR_NS, black_delta, black_price
from features.surface.conversions import (
    coin_price,
    discounted,
    discounted_delta,
    log_moneyness,
    premium_adjusted_delta,
    quote_price,
    strike_for_delta,
    strike_for_inverse_delta,
    strike_of,
    total_variance,
    undiscounted,
    variance_from_days,
    volatility_of,
    years_between,
    years_of,
)
from features.surface.greeks import inverse_delta

F = 65_000.0
years = st.floats(1e-4, 3.0)
volatilities = st.floats(0.02, 3.0)


def test_thirty_days_of_52_percent() -> None:
    assert float(total_variance(0.52, 30 / 365)) == pytest.approx(0.52 * 0.52 * 30 / 365, rel=1e-15)
    assert float(variance_from_days(0.52, 30)) == float(total_variance(0.52, years_of(30)))


def test_a_second_is_a_second() -> None:
    now = 1_770_000_000_123_456_789
    assert float(years_between(now, now + 10**9)) == 10**9 / YEAR_NS
    assert float(years_of(1 / 86_400)) == pytest.approx(10**9 / YEAR_NS, rel=1e-15)
    np.testing.assert_array_equal(years_between(now, now + np.array([0, 365, 730]) * 86_400 * 10**9), [0.0, 1.0, 2.0])


@given(volatility=volatilities, t=years, k=st.floats(-2, 2), discount=st.floats(0.5, 1.2), price=st.floats(0, 1e6))
def test_there_and_back(volatility: float, t: float, k: float, discount: float, price: float) -> None:
    assert float(volatility_of(total_variance(volatility, t), t)) == pytest.approx(volatility, rel=1e-15)
    # exp and log each round k by its last place, which F exp(k) turns into one of 1 + |k|.
    assert float(log_moneyness(strike_of(k, F), F)) == pytest.approx(k, abs=1e-15)
    assert float(undiscounted(discounted(price, discount), discount)) == pytest.approx(price, rel=1e-15)
    assert float(quote_price(coin_price(price, F), F)) == pytest.approx(price, rel=1e-15)


@given(delta=st.floats(1e-12, 1 - 1e-9), t=years, volatility=volatilities, is_call=st.booleans())
def test_a_strike_has_its_forward_delta(delta: float, t: float, volatility: float, is_call: bool) -> None:
    signed = delta if is_call else -delta
    strike = strike_for_delta(signed, F, t, volatility, is_call)
    # log(K) is rounded to some 1e-15, and the logarithm of a delta falls by up to (1 + |d|) / deviation of it: |d| < 8.
    relative = 1e-14 * (1.0 + 1.0 / (volatility * math.sqrt(t)))
    assert float(black_delta(F, strike, t, volatility, is_call)) == pytest.approx(signed, rel=relative)


@given(share=st.floats(1e-9, 1 - 1e-6), t=years, volatility=volatilities)
@example(share=1 - 1e-6, t=3.0, volatility=3.0)
def test_a_call_has_its_inverse_delta_at_the_higher_of_two_strikes(share: float, t: float, volatility: float) -> None:
    """Found again between the maximum, which a golden section finds, and far out."""
    deviation = volatility * math.sqrt(t)

    def delta_at(k: float) -> float:
        return float(inverse_delta(1.0, math.exp(k), t, volatility, True))

    low, high = -12.0 * deviation - 0.5 * deviation**2, 12.0 * deviation
    golden = 0.5 * (math.sqrt(5.0) - 1.0)
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if delta_at(left) > delta_at(right) else (left, high)
    top = 0.5 * (low + high)
    delta = share * delta_at(top)
    k = float(log_moneyness(strike_for_inverse_delta(delta, F, t, volatility, True), F))
    assert k > top - 1e-6 * deviation  # a maximum is found to the square root of a last place
    assert delta_at(k) == pytest.approx(delta, rel=1e-12 + 1e-13 / deviation)
    assert np.isnan(strike_for_inverse_delta(delta_at(top) * (1.0 + 1e-9), F, t, volatility, True))


@given(delta=st.floats(1e-9, 5.0), t=years, volatility=volatilities)
@example(delta=5.0, t=1e-4, volatility=0.02)
@example(delta=1e-9, t=3.0, volatility=3.0)
def test_a_put_has_its_inverse_delta_at_one_strike(delta: float, t: float, volatility: float) -> None:
    deviation = volatility * math.sqrt(t)
    k = float(log_moneyness(strike_for_inverse_delta(-delta, 1.0, t, volatility, False), 1.0))
    expected = brentq(
        lambda k: math.log(-float(inverse_delta(1.0, math.exp(k), t, volatility, False)) / delta),
        max(-30.0 * deviation - 0.5 * deviation**2, -20.0 - deviation**2),
        5.0 + 10.0 * deviation,
        xtol=1e-15,
        rtol=1e-15,
    )
    assert k == pytest.approx(expected, abs=1e-13 * (1.0 + deviation))


def test_expiries_of_a_second_have_strikes_too() -> None:
    t, volatility = 1.0 / (365 * 86_400), 0.5
    for delta, is_call in ((0.25, True), (-0.25, False)):
        strike = strike_for_inverse_delta(delta, F, t, volatility, is_call)
        assert float(inverse_delta(F, strike, t, volatility, is_call)) == pytest.approx(delta, rel=1e-9)


def test_the_three_deltas_of_one_option() -> None:
    option = (F, 70_000.0, 0.25, 0.6, True)
    delta, price = black_delta(*option), black_price(*option)
    assert float(premium_adjusted_delta(delta, coin_price(price, F))) == float(inverse_delta(*option))
    step = 0.5
    up, down = (discounted(black_price(F + h, *option[1:]), 0.95) for h in (step, -step))
    assert float(discounted_delta(delta, 0.95)) == pytest.approx(float(up - down) / (2 * step), rel=1e-8)


@pytest.mark.parametrize("delta", [0.1, 0.25, 0.5, 0.75])
def test_a_strike_of_an_inverse_delta_lies_below_that_of_the_forward_delta(delta: float) -> None:
    """The premium makes a call's delta smaller, and a put's larger in size: both strikes come down."""
    t, volatility = 0.25, 0.4
    for signed, is_call in ((delta, True), (-delta, False)):
        inverse = float(strike_for_inverse_delta(signed, F, t, volatility, is_call))
        assert math.isnan(inverse) == (signed > 0.69)
        assert math.isnan(inverse) or inverse < float(strike_for_delta(signed, F, t, volatility, is_call))


@pytest.mark.parametrize("find", [strike_for_delta, strike_for_inverse_delta])
@pytest.mark.parametrize(
    ("delta", "forward", "t", "volatility", "is_call"),
    [
        (-0.25, F, 0.1, 0.5, True),
        (0.25, F, 0.1, 0.5, False),
        (0.0, F, 0.1, 0.5, True),
        (1.0, F, 0.1, 0.5, True),
        (0.25, 0.0, 0.1, 0.5, True),
        (0.25, F, 0.0, 0.5, True),
        (0.25, F, -0.1, 0.5, True),
        (0.25, F, 0.1, 0.0, True),
        (0.25, F, 0.1, -0.5, True),
        (math.nan, F, 0.1, 0.5, True),
        (0.25, math.nan, 0.1, 0.5, True),
        (-0.25, F, math.nan, 0.5, False),
        (-0.25, F, 0.1, math.nan, False),
    ],
)
def test_no_strike_has_this_delta(
    find: object, delta: float, forward: float, t: float, volatility: float, is_call: bool
) -> None:
    assert callable(find)
    assert np.isnan(find(delta, forward, t, volatility, is_call))


def test_a_forward_delta_of_a_put_ends_at_minus_one_and_an_inverse_one_does_not() -> None:
    assert np.isnan(strike_for_delta(-1.5, F, 0.1, 0.5, False))
    assert float(strike_for_inverse_delta(-1.5, F, 0.1, 0.5, False)) == pytest.approx(1.5 * F, rel=1e-2)


@pytest.mark.parametrize(
    "value",
    [
        total_variance(-0.1, 1.0),
        total_variance(0.1, -1.0),
        total_variance(math.nan, 1.0),
        volatility_of(0.1, 0.0),
        volatility_of(-0.1, 1.0),
        log_moneyness(0.0, 1.0),
        log_moneyness(1.0, -1.0),
        strike_of(0.1, 0.0),
        discounted(-1.0, 0.9),
        discounted(1.0, 0.0),
        undiscounted(1.0, -0.9),
        undiscounted(math.nan, 0.9),
        coin_price(1.0, 0.0),
        quote_price(-1.0, F),
        discounted_delta(0.5, 0.0),
        premium_adjusted_delta(0.5, math.nan),
    ],
)
def test_what_is_impossible_is_nan(value: np.ndarray) -> None:
    assert np.isnan(value)


def test_they_broadcast() -> None:
    strikes = surface.strike_for_delta([[0.25], [-0.25]], F, [0.1, 0.2, 0.3], 0.5, [[True], [False]])
    assert strikes.shape == (2, 3)
    assert (strikes[0] > F).all()
    assert (strikes[1] < F).all()
    assert surface.strike_for_inverse_delta(np.full((4, 1), 0.1), F, np.full(3, 0.1), 0.5, True).shape == (4, 3)
    assert surface.total_variance(np.zeros((0,)), 1.0).shape == (0,)
