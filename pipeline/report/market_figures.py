"""Figures of the market: price with regimes, book, surface, forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from features.signals import REGIMES
from pipeline.report.style import (
    MUTED,
    REGIME_COLORS,
    REGIME_STRONG,
    SERIES,
    legend_above,
    new_figure,
    plain_log,
    time_axis,
    times,
)


def price_and_regimes(signals: pl.DataFrame, truth: pl.DataFrame | None, judged_from: int) -> Figure:
    """Mid price over the filtered regime; below it the true regime, where a simulator knows it.

    Args:
        signals: rows of the signals table.
        truth: ``underlying, bar_ts, regime``, or ``None``.
        judged_from: end of the training data (ns): left of it the models have seen the rows.
    """
    underlyings = signals["underlying"].unique().sort().to_list()
    figure = new_figure(11, 2.7 * len(underlyings) + 0.4)
    grid = figure.add_gridspec(len(underlyings), 1)
    for row, underlying in enumerate(underlyings):
        axes = figure.add_subplot(grid[row])
        mine = signals.filter(pl.col("underlying") == underlying).sort("bar_ts")
        when = times(mine["bar_ts"])
        axes.plot(when, mine["mid"].to_numpy(), color="#111827", linewidth=0.9)
        regime_bands(axes, when, mine["regime"].fill_null(-1).to_list(), 0.0 if truth is None else 0.07, 1.0)
        if truth is not None:
            true = mine.select("bar_ts").join(
                truth.filter(pl.col("underlying") == underlying), on="bar_ts", how="left"
            )["regime"]
            regime_bands(axes, when, true.fill_null(-1).to_list(), 0.0, 0.05, REGIME_STRONG)
        _training_ends(axes, judged_from)
        axes.set_title(f"{underlying}: mid price and filtered regime")
        axes.set_ylabel("USD")
        time_axis(axes)
    handles = [Patch(color=color, label=name) for color, name in zip(REGIME_COLORS, REGIMES, strict=True)]
    note = "background: filtered regime" + ("" if truth is None else "; strip at the foot: the truth")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, title=note, title_fontsize=8.5)
    return figure


def regime_bands(
    axes: Axes,
    when: Any,
    states: Sequence[int],
    low: float = 0.0,
    high: float = 1.0,
    colors: Sequence[str] = REGIME_COLORS,
) -> None:
    """Color the background by state; -1 stays white."""
    start = 0
    for i in range(1, len(states) + 1):
        if i == len(states) or states[i] != states[start]:
            if states[start] >= 0:
                end = when[min(i, len(when) - 1)]
                axes.axvspan(when[start], end, low, high, color=colors[states[start]], linewidth=0, zorder=0)
            start = i


def _training_ends(axes: Axes, judged_from: int) -> None:
    if judged_from:
        axes.axvline(times([judged_from])[0], color=MUTED, linestyle="--", linewidth=0.9)
        foot = axes.get_xaxis_transform()
        axes.text(times([judged_from])[0], 1.0, " out of sample →", transform=foot, va="top", fontsize=8, color=MUTED)


def book_state(universe: pl.DataFrame) -> Figure:
    """Spread, depth and imbalance of the reference instruments."""
    figure = new_figure(11, 5.6)
    grid = figure.add_gridspec(3, 1)
    panels = [
        ("spread_bps", "spread", "bp of mid"),
        ("imbalance_5", "book imbalance, 5 levels (mean of 15 s)", "-1 .. 1"),
        ("depth", "depth within 10 bp of mid, both sides", "coins"),
    ]
    frame = universe.sort("bar_ts").with_columns(depth=pl.col("bid_depth_10bps") + pl.col("ask_depth_10bps"))
    for row, (name, title, unit) in enumerate(panels):
        axes = figure.add_subplot(grid[row])
        for color, (key, mine) in zip(SERIES, frame.group_by("underlying", maintain_order=True), strict=False):
            values = mine[name].rolling_mean(15) if name == "imbalance_5" else mine[name]
            axes.plot(times(mine["bar_ts"]), values.to_numpy(), color=color, label=str(key[0]), linewidth=0.9)
        if name != "imbalance_5":
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        axes.set_title(title)
        axes.set_ylabel(unit)
        time_axis(axes)
        if row == 0:
            legend_above(axes, 4)
    return figure


def forecast_against_realized(rows: pl.DataFrame) -> Figure:
    """Forecast and realized volatility of the next interval, annualized.

    Args:
        rows: ``underlying, bar_ts, forecast, har, realized`` in percent per sqrt(year), out of sample.
    """
    underlyings = rows["underlying"].unique().sort().to_list()
    figure = new_figure(11, 2.5 * max(1, len(underlyings)))
    grid = figure.add_gridspec(max(1, len(underlyings)), 2, width_ratios=(3, 1))
    for row, underlying in enumerate(underlyings):
        line, cloud = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        mine = rows.filter(pl.col("underlying") == underlying).sort("bar_ts")
        when = times(mine["bar_ts"])
        realized, forecast = mine["realized"].to_numpy(), mine["forecast"].to_numpy()
        line.plot(when, realized, color="#9ca3af", label="realized")
        line.plot(when, mine["har"].to_numpy(), color=SERIES[1], linewidth=0.8, label="HAR")
        line.plot(when, forecast, color=SERIES[0], label="HAR + LightGBM")
        line.set_title(f"{underlying}: volatility of the next interval, out of sample")
        line.set_ylabel("% per year")
        legend_above(line, 3)
        time_axis(line)
        cloud.scatter(forecast, realized, s=4, color=SERIES[0], alpha=0.35, linewidths=0)
        known = np.concatenate([forecast[np.isfinite(forecast)], realized[np.isfinite(realized)]])
        if len(known):
            cloud.plot([known.min(), known.max()], [known.min(), known.max()], color=MUTED, linewidth=0.8)
        cloud.set_title("realized over forecast, %")
    return figure
