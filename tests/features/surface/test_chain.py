"""Chain features: against a slow reference that shares no code, known smiles, shuffles, gaps and recorded chains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from features.surface.black import YEAR_NS, black_price
from features.surface.chain import chain_features

DAY_NS = 86_400 * 10**9
NOW_NS = 1_770_000_000_123_456_789
RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "deribit_options"

Chain = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Volatility = Callable[[np.ndarray, np.ndarray], Any]


def features_of(chain: Chain, now_ns: int = NOW_NS) -> tuple[float, float, float]:
    """Level at 30 days, risk reversal and slope."""
    _, level, _, skew, _, slope = chain_features(*chain, len(chain[0]), now_ns)
    return level, skew, slope


def make_chain(days: Sequence[float], strikes: np.ndarray, volatility: Volatility, forward: float = 100.0) -> Chain:
    """Calls and puts of every strike and expiry, priced at ``volatility(k, years)``."""
    expiry = np.repeat([NOW_NS + int(d * DAY_NS) for d in days], 2 * len(strikes))
    strike = np.tile(np.repeat(strikes, 2), len(days))
    is_call = np.tile([True, False], len(strikes) * len(days))
    forwards = np.full(len(strike), forward)
    years = (expiry - NOW_NS) / YEAR_NS
    mid = black_price(forwards, strike, years, volatility(np.log(strike / forward), years), is_call)
    return expiry, strike, is_call, mid, forwards


def ssvi(k: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Free of arbitrage: Gatheral and Jacquier 2014, sec. 4, power law with eta = 1, gamma = 1/2, rho = -0.3."""
    theta = 0.5 * years / (1 + 0.2 * years)
    phi = 1 / np.sqrt(theta * (1 + theta))
    rho = -0.3
    w = theta / 2 * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))
    return np.sqrt(w / years)


def without(chain: Chain, gone: np.ndarray) -> Chain:
    """The chain with the mids at ``gone`` unknown."""
    expiry, strike, is_call, mid, forward = chain
    return expiry, strike, is_call, np.where(gone, np.nan, mid), forward


# -- the slow reference ------------------------------------------------------------------------------------------------


def _reference_iv(price: float, forward: float, strike: float, years: float, is_call: bool) -> float:
    sign = 1 if is_call else -1

    def excess(s: float) -> float:
        d1 = math.log(forward / strike) / s + s / 2
        return float(sign * (forward * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - s)))) - price

    if not price > max(0.0, sign * (forward - strike)) or excess(20.0) <= 0:
        return math.nan
    return float(brentq(excess, 1e-6, 20.0, xtol=1e-15, rtol=1e-14)) / math.sqrt(years)


def _reference_skew(k: list[float], iv: list[float], years: float) -> float:
    def delta(x: float) -> float:
        s = float(np.interp(x, k, iv)) * math.sqrt(years)
        return float(norm.cdf(-x / s + s / 2))

    found = []
    for target, low, high in ((0.25, 0.0, k[-1]), (0.75, k[0], 0.0)):
        if not delta(low) >= target >= delta(high):
            return math.nan
        found.append(float(np.interp(brentq(lambda x, t=target: delta(x) - t, low, high, xtol=1e-15), k, iv)))
    return found[0] - found[1]


def reference(chain: Chain, now_ns: int = NOW_NS) -> tuple[float, float, float]:
    smiles: dict[int, dict[float, float]] = {}
    for expiry, strike, is_call, mid, forward in zip(*(column.tolist() for column in chain), strict=True):
        if expiry > now_ns and not math.isnan(mid + forward) and is_call == (strike >= forward):
            iv = _reference_iv(mid, forward, strike, (expiry - now_ns) / YEAR_NS, is_call)
            if not math.isnan(iv):
                smiles.setdefault(expiry, {})[math.log(strike / forward)] = iv
    years, atm, skews = [], [], []
    for expiry in sorted(smiles):
        k = sorted(smiles[expiry])
        if k[0] <= 0 <= k[-1]:
            iv = [smiles[expiry][x] for x in k]
            years.append((expiry - now_ns) / YEAR_NS)
            atm.append(float(np.interp(0.0, k, iv)))
            skews.append(_reference_skew(k, iv, years[-1]))
    if not years:
        return math.nan, math.nan, math.nan

    def at(days: float) -> float:
        tenor = min(max(days / 365, years[0]), years[-1])
        return math.sqrt(float(np.interp(tenor, years, np.square(atm) * years)) / tenor)

    nearest = int(np.argmin(np.abs(np.array(years) - 30 / 365)))
    return at(30), skews[nearest], at(90) - at(7) if len(years) > 1 else math.nan


# -- known smiles ------------------------------------------------------------------------------------------------------


def test_a_flat_surface() -> None:
    chain = make_chain([7, 14, 30, 60, 90, 180], np.linspace(70, 140, 15), lambda k, t: 0.6)
    np.testing.assert_allclose(features_of(chain), (0.6, 0.0, 0.0), atol=1e-12)


def test_an_arbitrage_free_surface() -> None:
    strikes = np.exp(np.linspace(-0.6, 0.6, 241)) * 100.0
    level, skew, slope = features_of(make_chain([5, 25, 35, 80, 100, 200], strikes, ssvi))

    def atm(days: float, before: float, after: float) -> float:
        theta = [float(ssvi(np.array(0.0), np.array(d / 365))) ** 2 * d for d in (before, after)]
        return math.sqrt((theta[0] + (theta[1] - theta[0]) * (days - before) / (after - before)) / days)

    assert level == pytest.approx(atm(30, 25, 35), rel=1e-12)
    assert slope == pytest.approx(atm(90, 80, 100) - atm(7, 5, 25), rel=1e-11)
    years = np.array(25 / 365)  # as near to 30 days as 35, and earlier

    def smile_at(call_delta: float) -> float:
        def excess(k: float) -> float:
            s = float(ssvi(np.array(k), years)) * math.sqrt(years)
            return float(norm.cdf(-k / s + s / 2)) - call_delta

        return float(ssvi(np.array(brentq(excess, -0.5, 0.5, xtol=1e-15)), years))

    assert skew < -0.03
    assert skew == pytest.approx(smile_at(0.25) - smile_at(0.75), abs=1e-4)


def test_thirty_days_lies_between_expiries_in_total_variance() -> None:
    chain = make_chain([20, 50], np.array([90.0, 100.0, 110.0]), lambda k, t: np.where(t < 0.1, 0.4, 0.7))
    expected = math.sqrt((0.4**2 * 20 + (0.7**2 * 50 - 0.4**2 * 20) / 3) / 30)
    level, _, slope = features_of(chain)
    assert level == pytest.approx(expected, rel=1e-12)
    assert slope == pytest.approx(0.7 - 0.4, rel=1e-12)  # flat in volatility beyond both ends


def test_a_strike_at_the_forward_is_at_the_money() -> None:
    chain = make_chain([30], np.array([100.0]), lambda k, t: 0.5)
    level, skew, slope = features_of(chain)
    assert level == pytest.approx(0.5, rel=1e-13)
    assert math.isnan(skew)
    assert math.isnan(slope)


def test_seconds_count() -> None:
    price = make_chain([1 / 24], np.array([95.0, 100.0, 105.0]), lambda k, t: 0.5)
    later = features_of(price, NOW_NS + 1_800 * 10**9)[0]
    assert later == pytest.approx(0.5 * math.sqrt(2), rel=1e-6)  # the same premium with half of the time left


# -- against the reference ---------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_equals_the_slow_reference(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    days = rng.choice([0.3, 1, 3, 7, 14, 21, 29, 31, 45, 60, 90, 120, 270], rng.integers(1, 6), replace=False)
    strikes = np.unique(np.round(100.0 * np.exp(rng.normal(0, 0.2, rng.integers(1, 12)))))
    noise = rng.normal(0, 0.01)
    chain = make_chain(days, strikes, lambda k, t: 0.6 - 0.1 * k + 0.2 * k**2 + noise / np.sqrt(t + 0.1))
    chain = without(chain, rng.random(len(chain[0])) < data.draw(st.sampled_from([0.0, 0.3, 0.9])))
    np.testing.assert_allclose(features_of(chain), reference(chain), atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_options_does_not_change_a_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = make_chain([1, 7, 28, 33, 90], np.linspace(60, 160, 21), ssvi)
    expiry, strike, is_call, mid, forward = chain
    # Live quotes are of different moments, so each has its own forward; some options are quoted twice.
    mid, forward = mid * rng.uniform(0.97, 1.03, len(mid)), forward * rng.choice([0.999, 1.0, 1.001], len(mid))
    twice = rng.integers(0, len(mid), 40)
    again = mid[twice] * rng.uniform(0.99, 1.01, 40)
    columns = [np.concatenate([column, column[twice]]) for column in (expiry, strike, is_call, mid, forward)]
    columns[3][-40:] = again
    first = chain_features(*columns, len(columns[0]), NOW_NS)
    assert not np.isnan(first).any()
    order = rng.permutation(len(columns[0]))
    assert chain_features(*(column[order] for column in columns), len(order), NOW_NS) == first


def test_is_call_may_be_bytes_and_rows_beyond_n_do_not_count() -> None:
    expiry, strike, is_call, mid, forward = make_chain([7, 30, 90], np.linspace(70, 140, 15), ssvi)
    expected = chain_features(expiry, strike, is_call, mid, forward, len(mid), NOW_NS)
    spoilt = [np.concatenate([c, c]) for c in (expiry, strike, is_call.astype(np.uint8), mid, forward)]
    spoilt[3][len(mid) :] *= 2
    assert chain_features(*spoilt, len(mid), NOW_NS) == expected


# -- what is unknown ---------------------------------------------------------------------------------------------------


def test_nothing_is_known_of_an_empty_an_expired_or_an_unquoted_chain() -> None:
    chain = make_chain([7, 30, 90], np.linspace(70, 140, 15), ssvi)
    empty = tuple(column[:0] for column in chain)
    assert np.isnan(chain_features(*empty, 0, NOW_NS)).all()
    assert np.isnan(features_of(chain, int(chain[0].max()))).all()
    assert np.isnan(features_of(without(chain, np.ones(len(chain[0]), bool)))).all()
    expiry, strike, is_call, mid, _ = chain
    assert np.isnan(features_of((expiry, strike, is_call, mid, np.full(len(mid), np.nan)))).all()


def test_one_side_of_the_money_is_not_enough() -> None:
    chain = make_chain([7, 30, 90], np.linspace(70, 140, 15), ssvi)
    assert np.isnan(features_of(without(chain, chain[1] < 100.0 + 1e-9))).all()


def test_in_the_money_quotes_are_not_used() -> None:
    chain = make_chain([7, 30, 90], np.linspace(70, 140, 15), ssvi)
    in_the_money = chain[2] != (chain[1] >= chain[4])
    assert features_of(without(chain, in_the_money)) == features_of(chain)
    assert np.isnan(features_of(without(chain, ~in_the_money))).all()


def test_the_skew_is_unknown_where_strikes_do_not_reach_25_delta() -> None:
    chain = make_chain([7, 30, 90], np.linspace(70, 140, 15), ssvi)
    narrow = without(chain, np.abs(chain[1] - 100.0) > 6.0)
    level, skew, slope = features_of(narrow)
    assert (level, slope) == (features_of(chain)[0], features_of(chain)[2])
    assert math.isnan(skew)
    # Also where only the expiry nearest to 30 days is too narrow: another expiry's skew is not this one's.
    narrow = without(chain, (np.abs(chain[1] - 100.0) > 6.0) & (chain[0] == NOW_NS + 30 * DAY_NS))
    assert math.isnan(features_of(narrow)[1])


def test_a_stray_quote_far_out_does_not_hide_25_delta() -> None:
    # At strike 85 a volatility of 2 gives a smaller delta than the 0.25 that lies between 90 and 95.
    chain = make_chain([30], np.linspace(70, 140, 15), lambda k, t: np.where(np.abs(k + 0.1625) < 0.01, 2.0, 0.6))
    assert features_of(chain)[1] == pytest.approx(0.0, abs=1e-12)


def test_expiries_beyond_any_fixed_number_are_used() -> None:
    days = np.arange(1, 101)
    chain = make_chain(days, np.array([90.0, 100.0, 110.0]), lambda k, t: 0.5 + 0.2 * t)
    assert features_of(chain)[2] == pytest.approx(0.2 * (90 - 7) / 365, rel=1e-9)


# -- recorded ----------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("month", ["202602", "202603", "202604"])
@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_recorded_chains_agree_with_the_venue(month: str, coin: str) -> None:
    path = RECORDED / f"deribit_options_{month}.parquet"
    if not path.exists():
        pytest.skip(f"the recorded chains are not here: {path}")
    import polars as pl

    chains = pl.scan_parquet(path).filter(pl.col("currency") == coin).collect()
    times = chains["timestamp"].unique().sort()
    for position, time in enumerate(times.gather_every(len(times) // 12)):
        rows = chains.filter(pl.col("timestamp") == time)
        now_ns = int(rows["timestamp"].dt.timestamp("ns")[0])
        expiry = rows["expiry_datetime"].dt.timestamp("ns").to_numpy()
        is_call = (rows["option_type"].cast(pl.String) == "call").to_numpy()
        strike, forward, mark_iv = (rows[name].to_numpy() for name in ("strike", "underlying", "implied_volatility"))
        # Coin prices: times the forward they are undiscounted prices in USD. A missing side leaves the mid unknown.
        mid = (rows["bid_price"] + rows["ask_price"]).fill_null(np.nan).to_numpy() / 2 * forward
        ours = features_of((expiry, strike, is_call, mid, forward), now_ns)
        marks = black_price(forward, strike, (expiry - now_ns) / YEAR_NS, mark_iv, is_call)
        venue = features_of((expiry, strike, is_call, marks, forward), now_ns)
        assert abs(ours[0] - venue[0]) < 0.01
        assert abs(ours[1] - venue[1]) < 0.02
        assert abs(ours[2] - venue[2]) < 0.02
        if position == 0:
            np.testing.assert_allclose(ours, reference((expiry, strike, is_call, mid, forward), now_ns), atol=1e-9)
