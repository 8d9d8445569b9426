"""Chains: what is listed, that marks are Black-76 prices in coin, and that no static arbitrage is quoted."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events import NANO
from features.surface.black import YEAR_NS
from pipeline.sources import simulated_options as options
from pipeline.sources.simulated_market import O_PRICE, O_VARIANCE, O_WIDTH, OPENING
from pipeline.sources.simulated_options import Chain, Quotes, list_chain, quote_chains
from pipeline.sources.simulated_regimes import CALM, ILLIQUID, STRESSED, long_run_variance

START = 1_767_571_200 * NANO
LONG_RUN = long_run_variance((CALM, STRESSED, ILLIQUID))
VARIANCES = (CALM.volatility**2, ILLIQUID.volatility**2, LONG_RUN)


def _chain() -> Chain:
    return list_chain("BTC", 60_000.0, 500, START, LONG_RUN)


def _quotes(spot: float, volatility: float, width: float, now: int = START) -> Quotes:
    opening = np.zeros((1, OPENING))
    opening[0, [O_PRICE, O_VARIANCE, O_WIDTH]] = spot, volatility**2, width
    return quote_chains(_chain(), opening, np.array([now]), VARIANCES)


def test_listed_options() -> None:
    chain = _chain()
    assert len(set(chain.names)) == 6 * 15 * 2
    assert "sim:BTC-4FEB26-60000-C" in chain.names
    for name, expiry, strike, is_call in zip(*chain, strict=True):
        day = datetime.fromtimestamp(int(expiry) // NANO, UTC)
        assert day.hour == 8
        assert (day.minute, day.second) == (0, 0)
        assert name == f"sim:BTC-{day.day}{day.strftime('%b%y').upper()}-{strike:.0f}-{'C' if is_call else 'P'}"
    days = (np.unique(chain.expiry_ns) - START) // (86_400 * NANO)
    assert days.tolist() == [7, 14, 30, 60, 90, 180]
    for expiry in np.unique(chain.expiry_ns):
        calls = chain.strike[(chain.expiry_ns == expiry) & chain.is_call]
        assert len(calls) == 15
        assert (np.diff(calls) > 0).all()
        assert 60_000.0 in calls
        assert (calls % 500 == 0).all()


def test_strikes_stay_apart_when_the_step_is_coarse() -> None:
    chain = list_chain("X", 1_000.0, 50, START, 0.01)
    nearest = chain.strike[chain.is_call & (chain.expiry_ns == chain.expiry_ns[0])]
    assert (np.diff(nearest) >= 50).all()


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def test_marks_are_black_76_over_the_forward() -> None:
    chain, quotes = _chain(), _quotes(61_234.5, 0.8, 0.01)
    for i, (expiry, strike, is_call) in enumerate(zip(chain.expiry_ns, chain.strike, chain.is_call, strict=True)):
        years = (int(expiry) - START) / YEAR_NS
        forward = 61_234.5 * math.exp(options.CARRY * years)
        k = math.log(strike / forward)
        theta = LONG_RUN * years + (0.64 - LONG_RUN) * (1 - math.exp(-700.0 * years)) / 700.0
        share = math.log(0.64 / CALM.volatility**2) / math.log(ILLIQUID.volatility**2 / CALM.volatility**2)
        rho, phi = -0.15 - 0.3 * share, 1.0 / math.sqrt(theta * (1 + theta))
        deviation = math.sqrt(theta / 2 * (1 + rho * phi * k + math.sqrt((phi * k + rho) ** 2 + 1 - rho**2)))
        d1 = -k / deviation + deviation / 2
        call = forward * _normal_cdf(d1) - strike * _normal_cdf(d1 - deviation)
        price = call if is_call else call - forward + strike
        assert quotes.mark_e9[0, i] / NANO == pytest.approx(price / forward, abs=2e-9)
        assert quotes.forward_e9[0, i] / NANO == pytest.approx(forward, rel=1e-12)


@given(st.floats(0.2, 1.8), st.floats(0.001, 0.05), st.floats(0.7, 1.4), st.integers(0, 6 * 86_400))
def test_quotes_lie_around_the_mark(volatility: float, width: float, move: float, elapsed_s: int) -> None:
    quotes = _quotes(60_000.0 * move, volatility, width, START + elapsed_s * NANO)
    mark = quotes.mark_e9 / 1e5  # in increments of 1e-4 coin
    assert (quotes.bid <= mark + 1e-4).all()
    assert (mark <= quotes.ask + 1e-4).all()
    assert (quotes.bid < quotes.ask).all()
    assert (quotes.ask >= 1).all()


def test_wider_markets_quote_wider() -> None:
    calm, stormy = _quotes(60_000.0, 0.5, 0.005), _quotes(60_000.0, 0.5, 0.03)
    assert (stormy.ask - stormy.bid).sum() > 4 * (calm.ask - calm.bid).sum()
    assert ((stormy.ask - stormy.bid) >= (calm.ask - calm.bid)).all()


def test_a_far_option_has_no_bid() -> None:
    chain = _chain()
    quotes = _quotes(30_000.0, 0.35, 0.005)
    worthless = chain.is_call & (chain.expiry_ns == chain.expiry_ns[0]) & (chain.strike > 60_000)
    assert (quotes.bid[0, worthless] < 1).all()
    assert (quotes.ask[0, worthless] >= 1).all()


def _calls(chain: Chain, quotes: Quotes, expiry: int) -> tuple[np.ndarray, np.ndarray]:
    """Strikes and call marks of one expiry, both over the forward; the boundary strike 0 in front."""
    mine = (chain.expiry_ns == expiry) & chain.is_call
    forward = quotes.forward_e9[0, mine][0] / NANO
    return np.append(0.0, chain.strike[mine] / forward), np.append(1.0, quotes.mark_e9[0, mine] / NANO)


@given(st.floats(0.25, 1.6), st.floats(0.8, 1.25), st.integers(0, 6 * 86_400))
def test_marks_are_free_of_static_arbitrage(volatility: float, move: float, elapsed_s: int) -> None:
    chain = _chain()
    quotes = _quotes(60_000.0 * move, volatility, 0.01, START + elapsed_s * NANO)
    rounding = 1e-8
    previous: tuple[np.ndarray, np.ndarray] | None = None
    for expiry in np.unique(chain.expiry_ns):
        strikes, calls = _calls(chain, quotes, expiry)
        slopes = np.diff(calls) / np.diff(strikes)
        assert (slopes >= -1 - rounding).all(), "no negative time value of a put"
        assert (slopes <= 0).all(), "a call spread costs something"
        assert (np.diff(slopes) >= -rounding).all(), "a butterfly costs something"
        if previous is not None:
            # A later call of the same moneyness is worth more. Between strikes convexity bounds it from above, so an
            # earlier call above the chord would be an arbitrage of listed options.
            inside = previous[0] <= strikes[-1]
            chord = np.interp(previous[0][inside], strikes, calls)
            assert (previous[1][inside] <= chord + rounding).all(), "a calendar spread costs something"
        previous = strikes, calls


def test_puts_and_calls_agree() -> None:
    """In coin: C - P = 1 - K / F."""
    chain, quotes = _chain(), _quotes(60_000.0, 1.1, 0.01)
    calls, puts = quotes.mark_e9[0, chain.is_call] / NANO, quotes.mark_e9[0, ~chain.is_call] / NANO
    forward = quotes.forward_e9[0, chain.is_call] / NANO
    assert calls - puts == pytest.approx(1 - chain.strike[chain.is_call] / forward, abs=2e-9)


@given(st.floats(0.01, 4.0), st.floats(0.01, 4.0), st.floats(0.001, 2.0), st.floats(1.0001, 3.0))
def test_total_variance_rises_with_expiry(variance: float, long_run: float, years: float, later: float) -> None:
    near, far = (options.atm_total_variance(np.array(variance), long_run, np.array(t)) for t in (years, years * later))
    assert 0 < near < far
    for k in (-1.0, -0.1, 0.0, 0.3, 1.5):
        w = [options.total_variance(np.array(k), theta, np.array(options.RHO_STORMY)) for theta in (near, far)]
        assert 0 < w[0] < w[1]


def test_parameters_satisfy_the_condition_of_the_surface() -> None:
    """Gatheral and Jacquier 2014, remark 4.4."""
    assert options.ETA * (1 + max(abs(options.RHO_CALM), abs(options.RHO_STORMY))) <= 2
    assert 0 < options.GAMMA <= 0.5


def test_the_surface_moves_with_the_market() -> None:
    chain = _chain()
    week = (chain.expiry_ns == chain.expiry_ns[0]) & (chain.strike == 60_000) & chain.is_call
    half_year = (chain.expiry_ns == chain.expiry_ns.max()) & (chain.strike == 60_000) & chain.is_call
    calm, stormy = _quotes(60_000.0, 0.35, 0.01), _quotes(60_000.0, 1.3, 0.01)
    rise = [(stormy.mark_e9[0, mine] / calm.mark_e9[0, mine] - 1).item() for mine in (week, half_year)]
    assert rise[0] > 0.03
    assert 0 < rise[1] < 0.01
