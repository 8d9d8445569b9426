"""Figures of the hedge: what was held, and what it earned and cost."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from features.signals import REGIMES
from pipeline.report.market_figures import regime_bands
from pipeline.report.style import MUTED, REGIME_COLORS, SERIES, legend_above, new_figure, time_axis, times

STRATEGY_COLORS = {"no_hedge": "#9ca3af", "black_delta": SERIES[1], "deep_policy": SERIES[0]}
STRATEGY_NAMES = {
    "no_hedge": "no hedge",
    "black_delta": "Black delta at every bar",
    "deep_policy": "deep policy (live fills)",
}


def positions(decisions: pl.DataFrame) -> Figure:
    """The position in each hedge instrument beside the delta to hedge and the band around it.

    Args:
        decisions: ``underlying, bar_ts, position, black_delta, lower, upper`` in coins.
    """
    underlyings = decisions["underlying"].unique().sort().to_list()
    figure = new_figure(11, 2.5 * max(1, len(underlyings)))
    grid = figure.add_gridspec(max(1, len(underlyings)), 1)
    for row, underlying in enumerate(underlyings):
        axes = figure.add_subplot(grid[row])
        mine = decisions.filter(pl.col("underlying") == underlying).sort("bar_ts")
        _band(axes, mine)
        axes.set_title(f"{underlying}: hedge position")
        axes.set_ylabel("coins")
        time_axis(axes)
    return figure


def profit_and_cost(rows: pl.DataFrame, currency: str) -> Figure:
    """Profit and loss of the hedged book, and its cumulated cost, for each way to hedge.

    Args:
        rows: ``strategy, bar_ts, pnl, rehedging_cost``; the latter counts from the first minute on, when the position
            has been taken.
        currency: of both.
    """
    figure = new_figure(11, 4.6)
    grid = figure.add_gridspec(1, 3)
    all_three, hedged, cost = (figure.add_subplot(grid[i]) for i in range(3))
    for name, label in STRATEGY_NAMES.items():
        mine = rows.filter(pl.col("strategy") == name).sort("bar_ts")
        if mine.is_empty():
            continue
        when, color = times(mine["bar_ts"]), STRATEGY_COLORS[name]
        all_three.plot(when, mine["pnl"].to_numpy(), color=color, label=label)
        if name != "no_hedge":
            hedged.plot(when, mine["pnl"].to_numpy(), color=color)
            cost.plot(when, mine["rehedging_cost"].to_numpy(), color=color)
    _finish(all_three, "P&L, all three", currency)
    _finish(hedged, "P&L, the two hedges", currency)
    _finish(cost, "cumulated cost of re-hedging", currency)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def overview(signals: pl.DataFrame, decisions: pl.DataFrame, hedges: pl.DataFrame, currency: str) -> Figure:
    """One picture of a run: price in its regimes, the hedge in its band, and what each hedge has cost.

    Args:
        signals: of one underlying, out of sample.
        decisions: of the same; as in :func:`positions`.
        hedges: as in :func:`profit_and_cost`.
    """
    figure = new_figure(11, 6.6)
    price, hedge, cost = figure.subplots(3, 1, sharex=True, height_ratios=(1.2, 1.2, 1.0))
    underlying = str(signals["underlying"][0])
    when = times(signals["bar_ts"])
    regime_bands(price, when, signals["regime"].fill_null(-1).to_list())
    price.plot(when, signals["mid"].to_numpy(), color="#111827", linewidth=0.9)
    price.set_title(f"{underlying}: mid price, USD, over the filtered regime")
    legend_above(price, 3, [Patch(color=color, label=name) for color, name in zip(REGIME_COLORS, REGIMES, strict=True)])
    _band(hedge, decisions)
    hedge.set_title(f"{underlying}: hedge position, coins")
    for name in ("black_delta", "deep_policy"):
        mine = hedges.filter(pl.col("strategy") == name).sort("bar_ts")
        color, label = STRATEGY_COLORS[name], STRATEGY_NAMES[name]
        cost.plot(times(mine["bar_ts"]), mine["rehedging_cost"].to_numpy(), color=color, label=label)
    cost.set_title(f"cumulated cost of re-hedging, whole portfolio, {currency}")
    cost.set_ylim(bottom=0)
    legend_above(cost, 2)
    time_axis(cost)
    return figure


def _band(axes: Axes, decisions: pl.DataFrame) -> None:
    """Band, delta and position; the axis spans the band, not the way from zero into it."""
    when = times(decisions["bar_ts"])
    lower, upper = decisions["lower"].to_numpy(), decisions["upper"].to_numpy()
    axes.fill_between(when, lower, upper, color="#bfdbfe", linewidth=0, label="no-trade band", step="post")
    axes.step(
        when, decisions["black_delta"].to_numpy(), where="post", color=SERIES[1], linewidth=0.8, label="Black delta"
    )
    axes.step(when, decisions["position"].to_numpy(), where="post", color=SERIES[0], label="position")
    known = decisions.drop_nulls(["lower", "upper"])
    if not known.is_empty():
        low, high = float(known["lower"].to_numpy().min()), float(known["upper"].to_numpy().max())
        margin = 0.08 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
    legend_above(axes, 3)


def _finish(axes: Axes, title: str, currency: str) -> None:
    axes.axhline(0.0, color=MUTED, linewidth=0.7)
    axes.set_title(title)
    axes.set_ylabel(currency)
    time_axis(axes)
