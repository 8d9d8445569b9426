"""Cleaning: every rule by a quote made for it, whatever order the quotes come in, and what an odd chain leaves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_chains import DAY_NS, NOW_NS, chain_of, points_of, ssvi

from features.errors import BadInputError
from features.surface.black import YEAR_NS, black_price
from features.surface.cleaning import (
    MIN_SPREAD,
    CleaningRules,
    Points,
    Rule,
    clean,
    clean_chain,
    counts_of,
    points_of_volatilities,
    weighed,
)

EXPIRY = NOW_NS + 30 * DAY_NS
YEARS = 30 * DAY_NS / YEAR_NS
FORWARD = 100.0
D = Rule.DUPLICATE


def quote(strike: float = 110.0, is_call: bool = True, **change: Any) -> dict[str, Any]:
    """A clean quote at 60 % volatility, a point wide on either side; ``change`` spoils it."""
    bid, ask = (float(black_price(FORWARD, strike, YEARS, each, is_call)) for each in (0.59, 0.61))
    found = {"expiry_ns": EXPIRY, "strike": strike, "is_call": is_call, "bid": bid, "ask": ask}
    return found | {"forward": FORWARD, "quoted_ns": NOW_NS} | change


def cleaned(*quotes: dict[str, Any], now_ns: int = NOW_NS, rules: CleaningRules = CleaningRules()) -> Points:
    names = ("expiry_ns", "strike", "is_call", "bid", "ask", "forward", "quoted_ns")
    types = {"expiry_ns": np.int64, "quoted_ns": np.int64, "is_call": np.bool_}
    columns = {name: np.array([each[name] for each in quotes], types.get(name, np.float64)) for name in names}
    return clean(**columns, now_ns=now_ns, rules=rules)


def priced(volatility: float, strike: float = 110.0, is_call: bool = True) -> float:
    return float(black_price(FORWARD, strike, YEARS, volatility, is_call))


BROKEN = {
    "expired": (Rule.EXPIRED, quote(expiry_ns=NOW_NS - 1)),
    "expires now": (Rule.EXPIRED, quote(expiry_ns=NOW_NS)),
    "expires within the minute": (Rule.EXPIRED, quote(expiry_ns=NOW_NS + 60 * 10**9 - 1)),
    "expired before all else": (Rule.EXPIRED, quote(expiry_ns=NOW_NS, bid=np.nan, forward=np.nan)),
    "no forward": (Rule.NO_FORWARD, quote(forward=np.nan)),
    "a forward of zero": (Rule.NO_FORWARD, quote(forward=0.0)),
    "a forward without end": (Rule.NO_FORWARD, quote(forward=np.inf)),
    "stale": (Rule.STALE, quote(quoted_ns=NOW_NS - 3_600 * 10**9 - 1)),
    "no bid": (Rule.NO_BID, quote(bid=np.nan)),
    "a bid of zero": (Rule.NO_BID, quote(bid=0.0)),
    "no ask": (Rule.NO_ASK, quote(ask=np.nan)),
    "crossed": (Rule.CROSSED, quote(bid=priced(0.61), ask=priced(0.59))),
    "a put in the money": (Rule.IN_THE_MONEY, quote(is_call=False)),
    "a call in the money": (Rule.IN_THE_MONEY, quote(strike=90.0)),
    "a put at the forward": (Rule.IN_THE_MONEY, quote(strike=100.0, is_call=False)),
    "an ask above the forward": (Rule.BELOW_INTRINSIC, quote(ask=101.0)),
    "a strike of zero": (Rule.NO_STRIKE, quote(strike=0.0, is_call=False, bid=1.0, ask=2.0)),
    "no strike": (Rule.NO_STRIKE, quote(strike=np.nan)),
    "a strike without end": (Rule.NO_STRIKE, quote(strike=np.inf)),
    "wide": (Rule.WIDE, quote(bid=priced(0.4), ask=priced(0.8))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_rule_takes_the_quote_that_breaks_it_and_no_other(name: str) -> None:
    rule, broken = BROKEN[name]
    points = cleaned(quote(), broken, quote(strike=90.0, is_call=False))
    assert points.rule_N.tolist() == [0, rule, 0]
    assert counts_of(points) == {"used": 2, rule.name.lower(): 1}
    assert points.row_Q.tolist() == [2, 0]


def test_the_rules_name_every_verdict() -> None:
    """Negative time value is what the other rules take: an out-of-the-money option below zero has no bid."""
    assert counts_of(cleaned(quote(bid=-0.1))) == {"no_bid": 1}
    assert {rule for rule, _ in BROKEN.values()} | {Rule.USED, Rule.DUPLICATE} == set(Rule)


def test_just_within_each_rule() -> None:
    assert counts_of(cleaned(quote(quoted_ns=NOW_NS - 3_600 * 10**9))) == {"used": 1}
    assert counts_of(cleaned(quote(quoted_ns=NOW_NS + 10**9))) == {"used": 1}
    assert counts_of(cleaned(quote(strike=100.0))) == {"used": 1}
    locked = priced(0.6)
    points = cleaned(quote(bid=locked, ask=locked))
    assert counts_of(points) == {"used": 1}
    assert points.bid_Q[0] == points.mid_Q[0] == points.ask_Q[0]
    assert counts_of(cleaned(quote(bid=priced(0.46), ask=priced(0.74)))) == {"used": 1}
    price = float(black_price(FORWARD, 100.0, 60 / (365 * 86_400), 0.6, True))
    minute = quote(strike=100.0, expiry_ns=NOW_NS + 60 * 10**9, bid=0.99 * price, ask=1.01 * price)
    assert counts_of(cleaned(minute)) == {"used": 1}
    # Low volatilities are near in absolute terms: 5 and 14 % are 9 points apart.
    assert counts_of(cleaned(quote(bid=priced(0.05, 101.0), ask=priced(0.14, 101.0), strike=101.0))) == {"used": 1}


def test_the_rules_are_what_the_caller_says() -> None:
    wide, stale = quote(bid=priced(0.4), ask=priced(0.8)), quote(strike=120.0, quoted_ns=NOW_NS - 2 * 3_600 * 10**9)
    assert counts_of(cleaned(wide, stale)) == {"stale": 1, "wide": 1}
    assert counts_of(cleaned(wide, stale, rules=CleaningRules(3 * 3_600 * 10**9, 0.8))) == {"used": 2}


def test_of_duplicates_the_narrowest_is_used() -> None:
    narrow, wide = quote(bid=priced(0.595), ask=priced(0.605)), quote()
    for quotes, rules in (((narrow, wide), [0, D]), ((wide, narrow), [D, 0]), ((wide, narrow, wide), [D, 0, D])):
        points = cleaned(*quotes)
        assert points.rule_N.tolist() == rules
        assert points.ask_Q.tolist() == pytest.approx([0.605], rel=1e-12)
    # Another expiry or another forward is another point.
    assert counts_of(cleaned(narrow, quote(expiry_ns=EXPIRY + DAY_NS), quote(forward=101.0))) == {"used": 3}


def test_volatilities_are_those_that_the_prices_were_made_of() -> None:
    chain = chain_of([0.02, 7, 90], ssvi, spread=0.02)
    points = points_of(chain)
    years = np.repeat(points.years_E, np.diff(points.start_F))
    k, forward = points.k_Q, chain["forward"][points.row_Q]
    np.testing.assert_allclose(k, np.log(chain["strike"][points.row_Q] / forward), rtol=0, atol=1e-15)
    # The mid's volatility is that of the mid price, and bid and ask are placed around it in price.
    np.testing.assert_allclose(points.mid_Q, ssvi(k, years), rtol=1e-10)
    for name, volatility in (("bid", points.bid_Q), ("ask", points.ask_Q)):
        price = black_price(forward, forward * np.exp(k), years, volatility, chain["is_call"][points.row_Q])
        np.testing.assert_allclose(price, chain[name][points.row_Q], rtol=1e-10)


def test_points_lie_by_expiry_and_log_moneyness() -> None:
    points = points_of(chain_of([30, 7, 90], ssvi, strikes=9))
    assert points.expiry_E.tolist() == [NOW_NS + days * DAY_NS for days in (7, 30, 90)]
    np.testing.assert_allclose(points.years_E, np.array([7, 30, 90]) / 365, rtol=1e-14)
    assert points.start_F.tolist() == [0, 9, 18, 27]
    for first, last in zip(points.start_F[:-1], points.start_F[1:], strict=True):
        assert (np.diff(points.k_Q[first:last]) > 0).all()
    assert counts_of(points) == {"used": 27, "in_the_money": 27}


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_the_order_of_the_quotes_does_not_change_a_bit(seed: int) -> None:
    """Also not among duplicates: of one strike with another spread, or of one spread at another level."""
    rng = np.random.default_rng(seed)
    chain = chain_of([1, 7, 30], ssvi, strikes=15, noise=0.02, seed=seed)
    n = len(chain["strike"])
    chain["forward"] = chain["forward"] * rng.choice([0.999, 1.0, 1.001], n)
    twice = rng.integers(0, n, 30)
    chain = {name: np.concatenate([column, column[twice]]) for name, column in chain.items()}
    chain["ask"][n:] *= rng.choice([1.0, 1.01], 30)
    chain["bid"][rng.random(n + 30) < 0.1] = np.nan
    first, order = points_of(chain), rng.permutation(n + 30)
    second = points_of({name: column[order] for name, column in chain.items()})
    for name in ("expiry_E", "years_E", "start_F", "k_Q", "bid_Q", "mid_Q", "ask_Q"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    for name, column in chain.items():  # the rows are those of equal quotes
        np.testing.assert_array_equal(column[first.row_Q], column[order][second.row_Q], err_msg=name)
    assert counts_of(first) == counts_of(second)


def test_of_two_locked_quotes_the_lower_is_used_whatever_the_order() -> None:
    low, high = (quote(bid=priced(each), ask=priced(each)) for each in (0.6, 0.62))
    assert cleaned(low, high).rule_N.tolist() == [0, D]
    assert cleaned(high, low).rule_N.tolist() == [D, 0]


def test_rows_beyond_n_do_not_count_and_calls_may_be_bytes() -> None:
    chain = chain_of([7, 30], ssvi, strikes=7)
    n = len(chain["strike"])
    columns = [chain[name] for name in ("expiry_ns", "strike", "is_call", "bid", "ask", "forward")]
    columns.append(np.full(n, NOW_NS))
    expected = clean(*columns, NOW_NS)
    columns[2] = columns[2].astype(np.uint8)
    longer = [np.concatenate([column, column[::-1]]) for column in columns]
    found = Points(*clean_chain(*longer, n, NOW_NS, *CleaningRules()))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _is_empty(points: Points) -> bool:
    return points.start_F.tolist() == [0] and not any(len(each) for each in (points.expiry_E, points.k_Q, points.row_Q))


def test_what_leaves_nothing() -> None:
    chain = chain_of([7, 30], ssvi, strikes=7)
    n = len(chain["strike"])
    empty = points_of({name: column[:0] for name, column in chain.items()})
    assert _is_empty(empty)
    assert counts_of(empty) == {}
    nothing = {
        "crossed": chain | {"bid": chain["ask"], "ask": chain["bid"]},
        "no_bid": chain | {"bid": np.zeros(n)},
        "no_forward": chain | {"forward": np.full(n, np.nan)},
    }
    for rule, spoilt in nothing.items():
        points = points_of(spoilt)
        assert _is_empty(points)
        assert counts_of(points) == {rule: n}
    expired = points_of(chain, now_ns=int(chain["expiry_ns"].max()))
    assert _is_empty(expired)
    assert counts_of(expired) == {"expired": n}


def test_an_expiry_within_the_hour_counts_its_seconds() -> None:
    chain = chain_of([40 / (24 * 60)], lambda k, t: 0.5 + 0.0 * k, strikes=5)
    points = points_of(chain)
    assert points.years_E[0] == pytest.approx(40 * 60 / (365 * 86_400), rel=1e-12)
    np.testing.assert_allclose(points.mid_Q, 0.5, rtol=1e-10)
    # Half of the time left at the same premium: more volatility, by sqrt(2) at the money.
    later = points_of(chain, now_ns=NOW_NS + 20 * 60 * 10**9)
    assert later.mid_Q[np.argmin(np.abs(later.k_Q))] == pytest.approx(0.5 * 2**0.5, rel=1e-5)


def test_a_weight_makes_the_residual_that_of_the_volatility_in_half_spreads() -> None:
    years, mid, off = 0.25, 0.6, 1e-6
    points = points_of(chain_of([years * 365], lambda k, t: mid + 0.0 * k, strikes=5, spread=0.04))
    w, weight = weighed(points)
    np.testing.assert_allclose(w, points.mid_Q**2 * points.years_E[0], rtol=1e-15)
    moved = (points.mid_Q + off) ** 2 * points.years_Q - w
    np.testing.assert_allclose(np.sqrt(weight) * moved, off / points.half_spread_Q, rtol=1e-5)
    locked = points._replace(bid_Q=points.mid_Q, ask_Q=points.mid_Q)
    np.testing.assert_array_equal(locked.half_spread_Q, np.full(5, 0.5 * MIN_SPREAD))
    np.testing.assert_allclose(
        weighed(locked)[1], 1.0 / (points.mid_Q * points.years_E[0] * MIN_SPREAD) ** 2, rtol=1e-12
    )


def test_volatilities_are_points_as_they_are() -> None:
    points = points_of_volatilities(
        [0.5, 0.25, 0.25, 0.25],
        [0.1, 0.0, -0.2, 0.0],
        [0.5, 0.4, 0.6, 0.41],
        bid=[0.49, 0.39, 0.58, 0.405],
        now_ns=NOW_NS,
    )
    np.testing.assert_array_equal(points.years_E, [0.25, 0.5])
    np.testing.assert_array_equal(points.expiry_E, NOW_NS + np.array([0.25, 0.5]) * 365 * DAY_NS)
    np.testing.assert_array_equal(points.start_F, [0, 2, 3])
    np.testing.assert_array_equal(points.k_Q, [-0.2, 0.0, 0.1])
    np.testing.assert_array_equal(points.mid_Q, [0.6, 0.41, 0.5])
    np.testing.assert_array_equal(points.bid_Q, [0.58, 0.405, 0.49])
    np.testing.assert_array_equal(points.ask_Q, points.mid_Q)
    np.testing.assert_array_equal(points.row_Q, [2, 3, 0])
    assert counts_of(points) == {"used": 3, "duplicate": 1}
    assert len(points_of_volatilities([], [], []).expiry_E) == 0


@pytest.mark.parametrize(
    ("years", "k", "mid", "bid"),
    [(0.0, 0.0, 0.5, 0.5), (1.0, math.nan, 0.5, 0.5), (1.0, 0.0, 0.5, 0.6), (1.0, 0.0, 0.5, 0.0)],
)
def test_volatilities_that_are_none_are_named(years: float, k: float, mid: float, bid: float) -> None:
    with pytest.raises(BadInputError, match="Quote 1 is none"):
        points_of_volatilities([1.0, years], [0.0, k], [0.5, mid], bid=[0.5, bid])
