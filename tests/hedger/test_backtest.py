"""Backtests: what no hedge and the Black delta must come to by theory, and that live fills are judged alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hedge_market import SPOT, T0, FixedBand, limits, portfolio, random_walk, row

from features.errors import BadInputError, ConfigError
from features.surface.black import YEAR_NS, black_delta, black_price, black_vega
from hedger.backtest import ZeroBand, backtest, run
from hedger.decide import Decider
from hedger.decision import Rung, encode_decision
from hedger.inputs import FillInput, SignalInput
from hedger.limits import Limits
from hedger.paper import PaperConfig, PaperGateway
from hedger.performance import minute_pnl
from hedger.portfolio import OptionPosition, Portfolio
from hedger.profit import profit_and_loss, signal_inputs

WALK = random_walk(200, seed=7)
YEARS = 30 / 365


def test_no_hedge_is_the_options_alone_to_the_bit() -> None:
    result = backtest(WALK, portfolio(), Limits(), strategies=("no_hedge",))
    assert result.runs["no_hedge"].fills == ()
    assert len(result.runs["no_hedge"].decisions) == 200
    for underlying in SPOT:
        legs = result.legs.filter(pl.col("underlying") == underlying)
        value = legs["options_usd_at_atm_iv_30d"]
        assert legs["pnl_usd"].to_list() == (value - value[0]).to_list()
        (option,) = portfolio().options_on(underlying)
        years = [(option.expiry_ns - ts) / YEAR_NS for ts in legs["bar_ts"]]
        price = black_price(legs["mid"].to_numpy(), option.strike, years, 0.5, option.is_call)
        np.testing.assert_array_equal(value.to_numpy(), option.quantity * price)
    assert result.summary["cost_usd"].to_list() == result.summary["turnover_usd"].to_list() == [0.0]


def test_the_black_delta_takes_most_of_the_risk_away_and_costs() -> None:
    walk = random_walk(661, seed=8)
    result = backtest(walk, portfolio(), Limits(), strategies=("no_hedge", "black_delta"))
    risk = {
        strategy: np.std(
            minute_pnl(result.bars.filter(pl.col("strategy") == strategy))[1:]
        )  # the first one pays to open
        for strategy in ("no_hedge", "black_delta")
    }
    assert risk["black_delta"] < 0.1 * risk["no_hedge"]
    costs = result.bars.filter(pl.col("strategy") == "black_delta")["cost_usd"]
    assert costs[0] == 0.0
    assert (costs.diff().drop_nulls() >= 0.0).all()
    assert costs[-1] > 0.0
    assert result.legs["strategy"].unique().sort().to_list() == ["black_delta", "no_hedge"]


def test_a_wider_band_trades_less() -> None:
    turnover = [
        backtest(WALK, portfolio(), Limits(), band_model=FixedBand(width, width)).summary["turnover_usd"].to_list()
        for width in (0.0, 0.005, 0.02)
    ]
    assert turnover[0][1] == turnover[0][2]  # no band is the Black delta
    assert turnover[0][2] > turnover[1][2] > turnover[2][2] > 0.0


def test_live_fills_are_judged_as_the_backtest_judges_its_own() -> None:
    result = backtest(WALK, portfolio(), Limits(), band_model=FixedBand(0.005, 0.005))
    live = run(signal_inputs(WALK), Decider(portfolio(), Limits(), FixedBand(0.005, 0.005)), PaperGateway())
    judged = profit_and_loss(signal_inputs(WALK), live.fills, portfolio())
    mine = result.bars.filter(pl.col("strategy") == "deep_policy").drop("strategy")
    assert judged.bars.equals(mine)
    # And its log of inputs makes the same decisions again.
    again = Decider(portfolio(), Limits(), FixedBand(0.005, 0.005))
    decisions = [decision for item in live.inputs if (decision := again.apply(item)) is not None]
    assert [encode_decision(each) for each in decisions] == [encode_decision(each) for each in live.decisions]


def test_cash_flows_in_the_deciders_own_pnl_too() -> None:
    live = run(signal_inputs(WALK), Decider(portfolio(), Limits(), ZeroBand()), PaperGateway())
    judged = profit_and_loss(signal_inputs(WALK), live.fills, portfolio()).bars["pnl_usd"].to_list()
    assert [decision.pnl_usd for decision in live.decisions] == pytest.approx(judged, abs=1e-6)


def test_holes_in_the_data_step_down_and_are_counted() -> None:
    holes = WALK.with_columns(
        pl.when(pl.col("bar_ts") > T0 + 100 * 10**9).then(pl.lit(math.nan)).otherwise("atm_iv_30d").alias("atm_iv_30d")
    )
    result = backtest(holes, portfolio(), Limits(), strategies=("black_delta",))
    rungs = {leg.rung for decision in result.runs["black_delta"].decisions[101:] for leg in decision.legs}
    assert rungs == {Rung.NO_TRADE_BAND}
    assert result.summary["stale_marks"].to_list() == [2 * 99]
    assert result.bars["pnl_usd"].null_count() == 0


@pytest.mark.parametrize("strategies", [("deep_policy",), ("martingale",)])
def test_a_strategy_that_is_none(strategies: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=strategies[0]):
        backtest(WALK, portfolio(), Limits(), strategies=strategies)


def test_a_frame_that_is_no_signals() -> None:
    with pytest.raises(BadInputError):
        backtest(WALK.drop("instrument"), portfolio(), Limits())


def paths(n_paths: int, n_steps: int, volatility: float, years: float) -> np.ndarray:
    """Prices without drift, the first one 60,000."""
    rng = np.random.Generator(np.random.PCG64(11))
    sd = volatility * math.sqrt(years / n_steps)
    log_return = rng.normal(-0.5 * sd**2, sd, (n_paths, n_steps))
    return 60_000.0 * np.exp(np.c_[np.zeros(n_paths), np.cumsum(log_return, axis=1)])


def filled_at_once(signals: list[SignalInput], subject: Decider) -> list[FillInput]:
    """Every order trades at the mid that it was decided on."""
    fills: list[FillInput] = []
    for item in signals:
        decision = subject.apply(item)
        for order in () if decision is None else decision.orders:
            assert item.mid is not None
            fill = FillInput(
                input_id=order.order_id, order_id=order.order_id, decision_id=order.decision_id, underlying="BTC",
                instrument=order.instrument, quantity=order.quantity, price=item.mid, fee_usd=0.0, bar_ts=item.bar_ts,
            )  # fmt: skip
            subject.apply(fill)
            fills.append(fill)
    return fills


def hedging_errors(n_paths: int, n_steps: int, *, at_once: bool) -> np.ndarray:
    """P&L at expiry of a short at-the-money call, hedged without cost at every step at volatility 0.5 over 30 days."""
    step_ns = round(YEARS * YEAR_NS / n_steps)
    option = OptionPosition(
        underlying="BTC", quantity=-1.0, is_call=True, strike=60_000.0, expiry_ns=T0 + n_steps * step_ns
    )
    book = Portfolio(name="p", options=(option,), hedge_instruments={"BTC": "sim:BTC-PERP"})
    errors = []
    for path in paths(n_paths, n_steps, 0.5, YEARS):
        rows = [
            row(
                "BTC", mid=mid, bar_ts=T0 + step * step_ns, best_bid=mid * (1 - 1e-12), best_ask=mid * (1 + 1e-12),
                bid_depth_10bps=1e15, ask_depth_10bps=1e15,
            )
            for step, mid in enumerate(path)
        ]  # fmt: skip
        signals = signal_inputs(pl.DataFrame(rows))
        subject = Decider(book, limits(price_collar_bps=1e4), ZeroBand())
        fills: Sequence[FillInput] = (
            filled_at_once(signals, subject)
            if at_once
            else run(signals, subject, PaperGateway(PaperConfig(taker_fee_bps=0.0))).fills
        )
        errors.append(profit_and_loss(signals, fills, book).bars["pnl_usd"][-1])
    return np.array(errors)


@pytest.mark.parametrize("at_once", [True, False])
def test_hedging_at_every_bar_leaves_the_error_that_theory_says(at_once: bool) -> None:
    # Derman and Kamal 1999: hedged at once at n steps to expiry, the error has sd sqrt(pi / 4) vega sigma / sqrt(n).
    # An order that fills one bar after its decision adds Gamma dS dS', with dS' of the step before, to the error
    # Gamma (dS^2 - E dS^2) / 2 of a step: a variance of 1/2 + 1 instead of 1/2. And the first step passes unhedged.
    n_paths, n_steps = 300, 60
    errors = hedging_errors(n_paths, n_steps, at_once=at_once)
    vega = float(black_vega(60_000.0, 60_000.0, YEARS, 0.5))
    variance = math.pi / 4.0 * (vega * 0.5) ** 2 / n_steps
    if not at_once:
        first_step = float(black_delta(60_000.0, 60_000.0, YEARS, 0.5, True)) * 60_000.0 * 0.5 * math.sqrt(YEARS / 60)
        variance = 3.0 * variance + first_step**2
    assert errors.std() == pytest.approx(math.sqrt(variance), rel=0.15)
    assert abs(errors.mean()) < 4.0 * errors.std() / math.sqrt(n_paths)


def test_four_times_the_bars_leave_half_the_error() -> None:
    coarse, fine = (hedging_errors(100, steps, at_once=True).std() for steps in (15, 60))
    assert coarse / fine == pytest.approx(2.0, rel=0.3)


def test_limits_hold_in_a_backtest_too() -> None:
    tight = replace(Limits(), max_position={"BTC": 1.0, "ETH": 10.0})
    result = backtest(WALK, portfolio(), tight, strategies=("black_delta",))
    btc = result.legs.filter(pl.col("underlying") == "BTC")["position"]
    assert btc.max() == 1.0
    assert {refusal.limit for refusal in result.runs["black_delta"].decisions[-1].refusals} >= {"max_position"}
