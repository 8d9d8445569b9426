"""Risk per minute and the summary row."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hedge_market import SECOND, T0, portfolio, random_walk
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInputError
from hedger.performance import expected_shortfall, minute_pnl, standard_deviation, summarize
from hedger.profit import BAR_SCHEMA, profit_and_loss, signal_inputs

outcomes = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)
tails = st.floats(0.01, 1.0)


def bars(pnl: list[float | None], first_bar: int = 0) -> pl.DataFrame:
    rows = [(T0 + (first_bar + bar) * SECOND, value, 0.0, 0.0, 0) for bar, value in enumerate(pnl)]
    return pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")


def test_a_minute_is_what_was_earned_from_close_to_close() -> None:
    seconds = [float(second) ** 2 for second in range(150)]  # two minutes and a half
    assert minute_pnl(bars(seconds)) == [60.0**2, 120.0**2 - 60.0**2]
    assert minute_pnl(bars(seconds[:121])) == [60.0**2, 120.0**2 - 60.0**2]
    assert minute_pnl(bars(seconds[:120])) == [60.0**2]


def test_minutes_count_from_the_first_known_pnl() -> None:
    assert minute_pnl(bars([None] * 30 + [float(second) for second in range(61)])) == [60.0]
    assert minute_pnl(bars([None, None])) == []


def test_a_minute_without_a_close_is_left_out() -> None:
    frame = pl.concat([bars([0.0] * 61), bars([5.0] * 121, first_bar=180)])
    assert minute_pnl(frame) == [0.0, 0.0, 0.0]  # 0-60, then 180-240 and 240-300; not 60-180


@given(outcomes, tails)
def test_expected_shortfall_is_the_mean_of_the_tail(values: list[float], tail: float) -> None:
    # Rockafellar and Uryasev 2000: min over q of q + E[(L - q)+] / tail, attained at a loss.
    losses = -np.array(values)
    reference = min(q + np.maximum(losses - q, 0.0).mean() / tail for q in losses)
    assert expected_shortfall(values, tail) == pytest.approx(reference, rel=1e-9, abs=1e-6)


@given(outcomes, tails, st.floats(-1e5, 1e5))
def test_expected_shortfall_is_coherent(values: list[float], tail: float, cash: float) -> None:
    shortfall = expected_shortfall(values, tail)
    assert expected_shortfall([value + cash for value in values], tail) == pytest.approx(shortfall - cash, abs=1e-3)
    assert expected_shortfall([3.0 * value for value in values], tail) == pytest.approx(3.0 * shortfall, abs=1e-3)
    assert shortfall >= -np.mean(values) - 1e-6


@pytest.mark.parametrize(("values", "tail"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_expected_shortfall_of_nothing(values: list[float], tail: float) -> None:
    with pytest.raises(BadInputError):
        expected_shortfall(values, tail)


def test_standard_deviation() -> None:
    assert standard_deviation([1.0, 2.0, 4.0]) == pytest.approx(float(np.std([1.0, 2.0, 4.0], ddof=1)))
    assert standard_deviation([1.0]) is None


def test_a_summary_names_currency_and_settlement_price_source() -> None:
    rows = signal_inputs(random_walk(181, seed=5))
    result = profit_and_loss(rows, [], portfolio())
    (summary,) = summarize("no_hedge", result, portfolio()).to_dicts()
    assert summary["currency"] == "USD"
    assert "Black-76" in summary["settlement_price_source"]
    assert (summary["strategy"], summary["minutes"], summary["bars"], summary["stale_marks"]) == ("no_hedge", 3, 181, 0)
    closes = result.bars["pnl_usd"].to_numpy()[[0, 60, 120, 180]]
    assert summary["pnl_usd"] == closes[-1]
    assert summary["pnl_sd_per_minute_usd"] == pytest.approx(np.diff(closes).std(ddof=1))
    assert summary["expected_shortfall_per_minute_usd"] == pytest.approx(-np.diff(closes).min())


def test_a_summary_of_too_little_is_null() -> None:
    (summary,) = summarize("s", profit_and_loss([], [], portfolio()), portfolio()).to_dicts()
    assert summary["pnl_usd"] is None
    assert summary["pnl_sd_per_minute_usd"] is None
    assert summary["expected_shortfall_per_minute_usd"] is None
