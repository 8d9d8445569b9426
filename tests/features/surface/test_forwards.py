"""The forward of put-call parity: exact lines, stale quotes, too few pairs, and what the venue said."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.surface.black import black_price
from features.surface.forwards import OUTLIER, ParityForward, parity_forward

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "deribit_options"
STRIKES = np.linspace(80.0, 120.0, 11)

Quotes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def quotes(
    forward: float = 101.5, discount: float = 0.97, half: float = 0.025, strikes: np.ndarray = STRIKES
) -> Quotes:
    """Strikes, sides, bids and asks in quote currency; the pair's half spread is twice ``half``."""
    strike, is_call = np.repeat(strikes, 2), np.tile([True, False], len(strikes))
    mid = 5.0 * half + discount * black_price(forward, strike, 0.25, 0.6, is_call)
    return strike, is_call, mid - half, mid + half


def in_coin(chain: Quotes, forward: float) -> Quotes:
    strike, is_call, bid, ask = chain
    return strike, is_call, bid / forward, ask / forward


def moved(chain: Quotes, rows: int | list[int], by: float) -> Quotes:
    strike, is_call, bid, ask = (each.copy() for each in chain)
    bid[rows] += by
    ask[rows] += by
    return strike, is_call, bid, ask


@given(forward=st.floats(85, 115), discount=st.floats(0.5, 1.1), scale=st.floats(1e-2, 1e4), is_inverse=st.booleans())
def test_an_exact_line_gives_forward_and_discount(
    forward: float, discount: float, scale: float, is_inverse: bool
) -> None:
    strike, is_call, bid, ask = quotes(forward, discount)
    chain = (strike * scale, is_call, bid * scale, ask * scale)
    if is_inverse:
        chain = in_coin(chain, forward * scale)
    found = parity_forward(*chain, is_inverse=is_inverse)
    assert found.forward == pytest.approx(forward * scale, rel=1e-12)
    assert found.discount == pytest.approx(discount, rel=1e-12)
    assert found.pairs == len(STRIKES)


def test_the_forward_may_lie_outside_of_the_strikes() -> None:
    found = parity_forward(*quotes(forward=135.0))
    assert found.forward == pytest.approx(135.0, rel=1e-12)


def test_narrow_pairs_count_for_more() -> None:
    """Two narrow pairs say 101.5; nine of forty times their spread, half of it off, weigh 1 / 1600 of them."""
    strike, is_call, bid, ask = quotes(half=0.001)
    wide = (strike != 100.0) & (strike != 104.0)
    off, wider = 0.04 * np.where(is_call, 1.0, -1.0) * wide, 0.039 * wide
    found = parity_forward(strike, is_call, bid + off - wider, ask + off + wider)
    assert found.pairs == len(STRIKES)
    assert 0.0 < found.forward - 101.5 < 0.08 / 0.97 * 9 / 1600
    alike = parity_forward(strike, is_call, bid + off - 0.039, ask + off + 0.039)
    assert alike.forward - 101.5 == pytest.approx(0.08 / 0.97 * 9 / 11, rel=0.1)


@pytest.mark.parametrize("is_inverse", [False, True])
@pytest.mark.parametrize("by", [0.5, 2.0, 10.0, -5.0])
@pytest.mark.parametrize("row", range(2 * len(STRIKES)))
def test_one_stale_quote_is_left_out_wherever_it_is(row: int, by: float, is_inverse: bool) -> None:
    """However far off: a line is drawn towards it, and the others must not be left out in its place."""
    chain = moved(quotes(), row, by)
    chain = (chain[0], chain[1], chain[2] + 6.0, chain[3] + 6.0)  # of both sides alike: no price turns negative
    found = parity_forward(*(in_coin(chain, 101.5) if is_inverse else chain), is_inverse=is_inverse)
    assert found.forward == pytest.approx(101.5, rel=1e-12)
    assert found.discount == pytest.approx(0.97, rel=1e-11)
    assert found.pairs == len(STRIKES) - 1


def test_several_stale_quotes_are_left_out() -> None:
    found = parity_forward(*moved(quotes(), [0, 4, 10, 16], 3.0))
    assert found.forward == pytest.approx(101.5, rel=1e-12)
    assert found.pairs == len(STRIKES) - 4


def test_a_quote_inside_the_tolerance_is_kept() -> None:
    half = 0.05
    found = parity_forward(*moved(quotes(), 10, 0.9 * OUTLIER * half))
    assert found.pairs == len(STRIKES)
    # The line is drawn by at most the pair's share of a mean, and of the slope as far as the forward is off the middle.
    assert abs(found.forward - 101.5) < 2.0 * 0.9 * OUTLIER * half / len(STRIKES)


def test_pairs_that_agree_on_no_line_have_no_forward() -> None:
    rng = np.random.default_rng(2)
    strike, is_call, bid, ask = quotes()
    noise = rng.uniform(5.0, 50.0, len(strike))
    found = parity_forward(strike, is_call, bid + noise, ask + noise)
    assert math.isnan(found.forward)
    assert math.isnan(found.discount)
    # Of three pairs none can be told from the others: any two lie on a line.
    three = moved(quotes(strikes=np.array([90.0, 100.0, 110.0])), 2, 5.0)
    assert math.isnan(parity_forward(*three).forward)
    # Of four pairs the three that agree can.
    four = moved(quotes(strikes=np.array([90.0, 100.0, 110.0, 120.0])), 2, 5.0)
    assert parity_forward(*four) == pytest.approx((101.5, 0.97, 3), rel=1e-12)


def test_too_few_pairs_have_no_forward() -> None:
    strike, is_call, bid, ask = quotes()
    calls = parity_forward(strike[is_call], is_call[is_call], bid[is_call], ask[is_call])
    assert (math.isnan(calls.forward), math.isnan(calls.discount), calls.pairs) == (True, True, 0)
    one = parity_forward(*(each[:2] for each in (strike, is_call, bid, ask)))
    assert (math.isnan(one.forward), one.pairs) == (True, 1)
    two = parity_forward(*(each[:4] for each in (strike, is_call, bid, ask)))
    assert two == pytest.approx((101.5, 0.97, 2), rel=1e-12)
    assert parity_forward(*(each[:0] for each in (strike, is_call, bid, ask))).pairs == 0


@pytest.mark.parametrize("nothing", [math.nan, 0.0])
def test_a_side_without_a_quote_is_no_pair(nothing: float) -> None:
    strike, is_call, bid, ask = quotes()
    bid[3] = nothing
    ask[8] = math.nan
    bid[12], ask[12] = ask[12], bid[12]  # crossed
    found = parity_forward(strike, is_call, bid, ask)
    assert found == pytest.approx(ParityForward(101.5, 0.97, len(STRIKES) - 3), rel=1e-12)


def test_a_line_that_rises_has_no_forward() -> None:
    strike, is_call, bid, ask = quotes()
    assert math.isnan(parity_forward(strike, ~is_call, bid, ask).forward)


def test_quotes_without_a_spread_are_taken() -> None:
    strike, is_call, bid, ask = quotes()
    mid = 0.5 * (bid + ask)
    assert parity_forward(strike, is_call, mid, mid) == pytest.approx((101.5, 0.97, len(STRIKES)), rel=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_quotes_does_not_matter(seed: int) -> None:
    chain = moved(quotes(), 7, 2.0)
    order = np.random.default_rng(seed).permutation(len(chain[0]))
    assert parity_forward(*(each[order] for each in chain)) == parity_forward(*chain)


@pytest.mark.data
@pytest.mark.parametrize("month", ["202602", "202603", "202604"])
@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_recorded_chains_give_the_forward_of_the_venue(month: str, coin: str) -> None:
    """In basis points of it: 1.6 in the middle, 10 of the worst hundredth, over all of the three months."""
    path = RECORDED / f"deribit_options_{month}.parquet"
    if not path.exists():
        pytest.skip(f"the recorded chains are not here: {path}")
    frame = pl.scan_parquet(path).filter(pl.col("currency") == coin, pl.col("expiry_datetime") > pl.col("timestamp"))
    times = frame.select(pl.col("timestamp").unique().sort()).collect()["timestamp"]
    kept = frame.filter(pl.col("timestamp").is_in(times.gather_every(4).implode())).collect()
    errors = []
    for (_, _), rows in kept.group_by("timestamp", "expiry_datetime", maintain_order=True):
        bid, ask = (rows[name].fill_null(np.nan).to_numpy() for name in ("bid_price", "ask_price"))
        is_call = (rows["option_type"].cast(pl.String) == "call").to_numpy()
        found = parity_forward(rows["strike"].to_numpy(), is_call, bid, ask, is_inverse=True)
        if found.pairs >= 5:
            errors.append(1e4 * abs(found.forward / float(rows["underlying"].median()) - 1.0))
    assert len(errors) > 50
    assert not np.isnan(errors).any()
    assert np.median(errors) < 3.0
    assert np.quantile(errors, 0.99) < 25.0


@pytest.mark.parametrize("is_inverse", [False, True])
def test_wide_pairs_that_do_not_tell_the_discount_leave_it_at_one(is_inverse: bool) -> None:
    """Two pairs, each right within its quotes, whose mids lean so far that D would be 1.8."""
    strike = np.array([90.0, 90.0, 110.0, 110.0])
    is_call = np.array([True, False, True, False])
    mid = np.array([28.0, 10.0, 12.0, 30.0])  # C - P falls by 36 over 20 of strike
    unit = 100.0 if is_inverse else 1.0
    found = parity_forward(strike, is_call, (mid - 9.0) / unit, (mid + 9.0) / unit, is_inverse=is_inverse)
    assert found.forward == pytest.approx(100.0, rel=0.01)
    assert (found.discount, found.pairs) == (1.0, 2)


def test_a_line_whose_slope_is_no_discount_gives_none() -> None:
    strike = np.array([90.0, 90.0, 110.0, 110.0])
    is_call = np.array([True, False, True, False])
    mid = np.array([28.0, 10.0, 12.0, 30.0])
    found = parity_forward(strike, is_call, mid - 0.1, mid + 0.1)
    assert (math.isnan(found.forward), found.pairs) == (True, 2)
