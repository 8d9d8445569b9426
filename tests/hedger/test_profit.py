"""P&L from fills: the accounting identity, marks that are missing, settlement, exchange of options."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hedge_market import SECOND, T0, portfolio, random_walk, row, signal
from hypothesis import given
from hypothesis import strategies as st

from features.surface.black import YEAR_NS, black_price
from hedger.inputs import FillInput, SignalInput
from hedger.ledger import Ledger
from hedger.portfolio import OptionPosition
from hedger.profit import BAR_SCHEMA, LEG_SCHEMA, fill_inputs, profit_and_loss, signal_inputs

CALL = portfolio().options_on("BTC")
DAY = 86_400 * SECOND


def fill(bar: int, quantity: float, price: float, fee: float = 0.0, underlying: str = "BTC") -> FillInput:
    return FillInput(
        input_id=f"{bar}/{quantity}", order_id="o", decision_id="d", underlying=underlying, instrument="i",
        quantity=quantity, price=price, fee_usd=fee, bar_ts=T0 + bar * SECOND,
    )  # fmt: skip


def call_usd(mid: float, iv: float, bar: int) -> float:
    years = (CALL[0].expiry_ns - T0 - bar * SECOND) / YEAR_NS
    return -10.0 * float(black_price(mid, CALL[0].strike, years, iv, True))


trades = st.lists(
    st.tuples(st.integers(0, 19), st.floats(-5.0, 5.0), st.floats(0.99, 1.01), st.floats(0.0, 10.0)), max_size=12
)


@given(trades)
def test_cash_and_position_account_for_every_fill(trades: list[tuple[int, float, float, float]]) -> None:
    rows = signal_inputs(random_walk(20, seed=3))
    fills = [fill(bar, quantity, 60_000.0 * ratio, fee) for bar, quantity, ratio, fee in trades]
    legs = profit_and_loss(rows, fills, portfolio()).legs.filter(pl.col("underlying") == "BTC")
    unhedged = profit_and_loss(rows, [], portfolio()).legs.filter(pl.col("underlying") == "BTC")
    mids = legs["mid"].to_list()
    for bar, (hedged, plain) in enumerate(zip(legs.to_dicts(), unhedged.to_dicts(), strict=True)):
        done = [trade for trade in trades if trade[0] <= bar]
        assert hedged["position"] == pytest.approx(sum(quantity for _, quantity, _, _ in done))
        # What the hedge earned is each trade's way from its price to the mid, less fees.
        earned = sum(q * (mids[bar] - 60_000.0 * ratio) - fee for _, q, ratio, fee in done)
        assert hedged["pnl_usd"] - plain["pnl_usd"] == pytest.approx(earned, abs=1e-6)
        cost = sum(q * (60_000.0 * ratio - mids[at]) + fee for at, q, ratio, fee in done)
        assert hedged["cost_usd"] == pytest.approx(cost, abs=1e-6)
        turnover = sum(abs(q) * 60_000.0 * ratio for _, q, ratio, _ in done)
        assert hedged["turnover_usd"] == pytest.approx(turnover)


def test_bars_sum_their_legs() -> None:
    rows = signal_inputs(random_walk(5, seed=3))
    fills = [fill(1, 2.0, 60_100.0, 3.0), fill(2, -5.0, 2_990.0, 1.0, "ETH")]
    result = profit_and_loss(rows, fills, portfolio())
    assert dict(result.legs.schema) == LEG_SCHEMA
    assert dict(result.bars.schema) == BAR_SCHEMA
    last = result.legs.tail(2)
    for name in ("pnl_usd", "cost_usd", "turnover_usd"):
        assert result.bars[name][-1] == sum(last[name].to_list())
    assert result.bars["stale_marks"].to_list() == [0] * 5


def test_a_missing_mark_is_the_last_known_one_and_counted() -> None:
    rows = [signal("BTC", bar, mid=60_000.0 + bar) for bar in range(4)]
    rows[1] = signal("BTC", 1, mid=None, book_valid=False)
    rows[2] = signal("BTC", 2, mid=60_002.0, atm_iv_30d=None)
    eth = [signal("ETH", bar) for bar in range(4)]
    both = sorted(rows + eth, key=lambda each: each.bar_ts)
    result = profit_and_loss(both, [fill(0, 1.0, 60_000.0)], portfolio())
    btc = result.legs.filter(pl.col("underlying") == "BTC")
    assert btc["mid"].to_list() == [60_000.0, 60_000.0, 60_002.0, 60_003.0]
    assert btc["mark_age_s"].to_list() == [0.0, 1.0, 1.0, 0.0]
    assert result.bars["stale_marks"].to_list() == [0, 1, 1, 0]
    # Time goes on at the old price.
    expected = call_usd(60_000.0, 0.5, 1) - call_usd(60_000.0, 0.5, 0)
    assert btc["pnl_usd"][1] == pytest.approx(expected, abs=1e-6)
    assert expected > 0.0


def test_before_the_first_mark_the_pnl_is_null_not_zero() -> None:
    rows = [signal("BTC", 0, atm_iv_30d=math.nan), signal("ETH", 0), signal("BTC", 1), signal("ETH", 1)]
    result = profit_and_loss(rows, [], portfolio())
    assert result.bars["pnl_usd"].to_list()[0] is None
    assert result.bars["pnl_usd"][1] is not None
    assert result.bars["stale_marks"].to_list() == [1, 0]
    assert result.legs["mark_age_s"].to_list() == [None, 0.0, 0.0, 0.0]


def test_fills_of_the_lake_are_fills() -> None:
    fills = [fill(1, 1.0, 60_000.0), fill(2, -1.0, 60_100.0)]
    frame = pl.DataFrame([{name: getattr(each, name) for name in each.__struct_fields__} for each in fills])
    again = fill_inputs(frame.drop("input_id").with_columns(portfolio=pl.lit("demo"), date=pl.lit("2024-01-01")))
    rows = signal_inputs(random_walk(4, seed=0))
    expected, found = (profit_and_loss(rows, each, portfolio()).legs for each in (fills, again))
    assert found.equals(expected)


def test_the_rows_of_a_frame_come_in_the_order_of_time() -> None:
    frame = pl.DataFrame([row("ETH", 2), row("BTC", 2), row("ETH", 1), row("BTC", 1)])
    found = [(each.bar_ts, each.underlying) for each in signal_inputs(frame)]
    assert found == sorted(found)
    assert all(isinstance(each, SignalInput) for each in signal_inputs(frame))


def test_an_expired_option_settles_at_the_first_mid_after_its_expiry() -> None:
    expired = (OptionPosition(underlying="BTC", quantity=-1.0, is_call=True, strike=50_000.0, expiry_ns=T0 + 5),)
    ledger = Ledger()
    ledger.mark(60_000.0, 0.5, T0, expired)
    ledger.mark(None, 0.5, T0 + 6, expired)
    ledger.mark(61_000.0, 0.5, T0 + 7, expired)
    ledger.mark(70_000.0, 0.5, T0 + 8, expired)
    assert ledger.options_usd(expired, T0 + 8) == -11_000.0


def test_other_options_come_in_at_their_value() -> None:
    ledger, other = Ledger(), (CALL[0], OptionPosition(
        underlying="BTC", quantity=3.0, is_call=False, strike=55_000.0, expiry_ns=T0 + 60 * DAY
    ))  # fmt: skip
    ledger.mark(60_000.0, 0.5, T0, CALL)
    ledger.mark(61_000.0, 0.5, T0 + SECOND, CALL)
    before = ledger.options_pnl_usd(CALL, T0 + SECOND)
    ledger.exchange(CALL, other, T0 + SECOND)
    assert ledger.options_pnl_usd(other, T0 + SECOND) == pytest.approx(before)
    assert before == pytest.approx(call_usd(61_000.0, 0.5, 1) - call_usd(60_000.0, 0.5, 0))
