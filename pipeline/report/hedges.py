"""The live hedge beside what others would have been, in the same market, through the same decider and gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from hedger.backtest import BLACK_DELTA, DEEP_POLICY, NO_HEDGE, backtest
from hedger.limits import Limits
from hedger.performance import summarize
from hedger.portfolio import Portfolio
from hedger.profit import ProfitAndLoss, fill_inputs, profit_and_loss, signal_inputs

ENTRY_NS: Final = 60_000_000_000
"""The time in which the position is taken for the first time."""


@dataclass(frozen=True, slots=True)
class HedgeResult:
    """Totals of one way to hedge, in the portfolio's currency.

    ``rehedging_cost`` is the part of ``cost`` after the first minute: before it, every hedge buys the same position.
    ``curve`` is ``strategy, bar_ts, pnl, rehedging_cost``, cumulated.
    """

    strategy: str
    pnl: float | None
    sd_per_minute: float | None
    expected_shortfall_per_minute: float | None
    turnover: float | None
    cost: float | None
    rehedging_cost: float | None
    orders: int
    curve: pl.DataFrame


def evaluate_hedges(
    signals: pl.DataFrame, fills: pl.DataFrame, portfolio: Portfolio, limits: Limits, judged_from: int
) -> list[HedgeResult]:
    """No hedge and the Black delta at every bar are run now; the policy is judged by the fills that it had."""
    market = signals.filter(pl.col("bar_ts") >= judged_from)
    others = backtest(market, portfolio, limits, strategies=(NO_HEDGE, BLACK_DELTA))
    results = []
    for name in (NO_HEDGE, BLACK_DELTA):
        bars = others.bars.filter(pl.col("strategy") == name)
        summary = others.summary.filter(pl.col("strategy") == name)
        results.append(_result(name, bars, summary, len(others.runs[name].fills)))
    live = profit_and_loss(signal_inputs(market), fill_inputs(fills), portfolio)
    return [*results, _live(live, portfolio, fills.height)]


def _live(live: ProfitAndLoss, portfolio: Portfolio, orders: int) -> HedgeResult:
    return _result(DEEP_POLICY, live.bars, summarize(DEEP_POLICY, live, portfolio), orders)


def _result(name: str, bars: pl.DataFrame, summary: pl.DataFrame, orders: int) -> HedgeResult:
    row = summary.to_dicts()[0]
    taken = pl.col("bar_ts") <= pl.col("bar_ts").min() + ENTRY_NS
    entry = pl.col("cost_usd").filter(taken).last()
    curve = bars.sort("bar_ts").select(
        pl.lit(name).alias("strategy"),
        "bar_ts",
        pl.col("pnl_usd").alias("pnl"),
        (pl.col("cost_usd") - entry).clip(lower_bound=0.0).alias("rehedging_cost"),
    )
    return HedgeResult(
        name,
        row["pnl_usd"],
        row["pnl_sd_per_minute_usd"],
        row["expected_shortfall_per_minute_usd"],
        row["turnover_usd"],
        row["cost_usd"],
        curve["rehedging_cost"][-1] if curve.height else None,
        orders,
        curve,
    )
