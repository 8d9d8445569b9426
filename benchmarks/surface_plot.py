"""The streamed surface beside the venue's marks, through the recorded months."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report.style import INK, SERIES, legend_above, new_figure, png, time_axis, times


def plot_track(rows: list[dict[str, Any]], path: Path) -> None:
    """ATM volatility and 25-delta risk reversal at 30 days, and what is between ours and the marks'."""
    figure = new_figure(12, 7.2)
    coins = ("BTC", "ETH")
    grid = figure.add_gridspec(3, 2, height_ratios=(2, 2, 1.3))
    for column, coin in enumerate(coins):
        mine = [row for row in rows if row["coin"] == coin]
        when = times([row["now_ns"] for row in mine])
        level, skew, apart = (figure.add_subplot(grid[row, column]) for row in range(3))
        for axes, name, title in (
            (level, "atm_iv_30d", f"{coin}: 30-day ATM volatility"),
            (skew, "risk_reversal_25d", f"{coin}: 30-day risk reversal, 25 delta"),
        ):
            axes.plot(when, [100 * row[f"mark_{name}"] for row in mine], color=SERIES[1], linewidth=2.2, alpha=0.6,
                      label="venue's mark")  # fmt: skip
            axes.plot(
                when, [100 * row[name] for row in mine], color=SERIES[0], linewidth=0.9, label="ours, from quotes"
            )
            axes.set_title(title)
            axes.set_ylabel("vol points")
            time_axis(axes)
        legend_above(level, 2)
        for name, label, color in (("atm_iv_30d", "at the money", 0), ("risk_reversal_25d", "risk reversal", 2)):
            rest = np.array([1e4 * (row[name] - row[f"mark_{name}"]) for row in mine])
            apart.plot(when, rest, color=SERIES[color], linewidth=0.8, label=label)
        apart.axhline(0.0, color=INK, linewidth=0.6)
        apart.set_title(f"{coin}: ours less the mark's")
        apart.set_ylabel("bp of volatility")
        legend_above(apart, 2)
        time_axis(apart)
    path.write_bytes(png(figure))
