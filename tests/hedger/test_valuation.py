"""Values and greeks of positions, against finite differences and put-call parity."""

from __future__ import annotations

import pytest
from hedge_market import T0

from features.surface.black import YEAR_NS
from hedger.portfolio import OptionPosition
from hedger.valuation import expiry_years, options_greeks, options_value_usd


def option(quantity: float, strike: float, is_call: bool, days: float = 30.0) -> OptionPosition:
    expiry_ns = T0 + round(days * YEAR_NS / 365)
    return OptionPosition(underlying="BTC", quantity=quantity, is_call=is_call, strike=strike, expiry_ns=expiry_ns)


BOOK = (option(-10.0, 60_000.0, True), option(4.0, 55_000.0, False), option(-3.0, 70_000.0, True, 90.0))


def test_greeks_are_the_derivatives_of_the_value() -> None:
    greeks = options_greeks(BOOK, 61_000.0, 0.5, T0)
    h = 1.0

    def value(forward: float, volatility: float) -> float:
        return options_value_usd(BOOK, forward, volatility, T0)

    up, mid, down = value(61_000.0 + h, 0.5), value(61_000.0, 0.5), value(61_000.0 - h, 0.5)
    assert greeks.delta == pytest.approx((up - down) / (2 * h), rel=1e-6)
    assert greeks.delta_usd == pytest.approx(61_000.0 * greeks.delta)
    assert greeks.gamma == pytest.approx((up - 2 * mid + down) / h**2, rel=1e-3)
    one_percent = options_greeks(BOOK, 61_000.0 * 1.0001, 0.5, T0).delta - greeks.delta
    assert greeks.gamma_usd == pytest.approx(100.0 * one_percent * 61_000.0, rel=2e-3)
    assert greeks.vega_usd == pytest.approx(value(61_000.0, 0.505) - value(61_000.0, 0.495), rel=1e-4)


def test_a_call_less_a_put_is_a_forward() -> None:
    pair = (option(1.0, 58_000.0, True), option(-1.0, 58_000.0, False))
    assert options_value_usd(pair, 61_000.0, 0.7, T0) == pytest.approx(3_000.0)
    greeks = options_greeks(pair, 61_000.0, 0.7, T0)
    assert greeks.delta == pytest.approx(1.0)
    assert greeks.gamma == pytest.approx(0.0, abs=1e-15)


def test_an_expired_option_is_worth_its_payoff() -> None:
    assert options_value_usd((option(-2.0, 60_000.0, True),), 61_000.0, 0.5, T0 + 31 * 86_400 * 10**9) == -2_000.0


def test_the_clock_is_exact_in_nanoseconds() -> None:
    assert expiry_years(T0 + YEAR_NS, T0) == 1.0
    assert expiry_years(T0 + 1, T0) == 1.0 / YEAR_NS
