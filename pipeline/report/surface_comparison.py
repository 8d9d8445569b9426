"""Several models on one chain: their smiles over the quotes, and what each leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from features.surface.cleaning import Points
from features.surface.held_out import residuals
from pipeline.option_chains import OptionChain, utc
from pipeline.report.style import INK, MUTED, new_figure, plain_log
from pipeline.report.surface_panels import (
    DAY_YEARS,
    MODEL_COLORS,
    QUOTE,
    expiry_name,
    signed_log,
    smile_panel,
    spread_out,
    term_days,
)
from pipeline.surface_models import ModelResult, arbitrage_counts

Array = np.ndarray[Any, Any]

_SMILES: Final = 6
_WIDTH: Final = 19.0


def comparison_figure(chain: OptionChain, points: Points, results: Sequence[ModelResult]) -> Figure:
    """The whole picture.

    Args:
        chain: that the points are of.
        points: that the surfaces were fitted to.
        results: of the models; one at least.
    """
    figure = new_figure(_WIDTH, 13.6)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06, hspace=0.03, wspace=0.02)
    halves = figure.add_gridspec(2, 1, height_ratios=(8.4, 4.8))
    upper, lower = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    figure.suptitle(
        f"{chain.underlying} implied volatility, {utc(chain.now_ns)}: {len(results)} models on "
        f"{len(points.k_Q)} quotes of {len(points.expiry_E)} expiries",
        fontsize=13, fontweight="bold", x=0.012, ha="left",
    )  # fmt: skip
    _smiles(upper, points, results)
    grid = lower.add_gridspec(1, 3, width_ratios=(1.25, 1.0, 0.85))
    _residual_boxes(lower.add_subplot(grid[0]), points, results)
    _by_expiry(lower.add_subplot(grid[1]), results)
    _in_and_out(lower.add_subplot(grid[2]), results)
    return figure


def _smiles(figure: Any, points: Points, results: Sequence[ModelResult]) -> None:
    shown = spread_out(points, _SMILES)
    columns = min(3, len(shown))
    grid = figure.add_gridspec(-(-len(shown) // columns), columns)
    surfaces = {each.model: each.surface for each in results}
    for place, e in enumerate(shown):
        axes = figure.add_subplot(grid[divmod(place, columns)])
        smile_panel(axes, points, e, surfaces, MODEL_COLORS)
        axes.set_title(expiry_name(int(points.expiry_E[e]), float(points.years_E[e])))
        if place % columns == 0:
            axes.set_ylabel("implied vol, %")
        if place + columns >= len(shown):
            axes.set_xlabel("forward delta (10P: put, 10C: call)")
    handles = [
        *(Line2D([], [], color=MODEL_COLORS[name], label=name) for name in surfaces),
        Line2D([], [], color=QUOTE, linewidth=3, alpha=0.75, label="bid to ask"),
        Line2D([], [], color=INK, linestyle="none", marker="o", markersize=4, label="mid"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9.5)


def _residual_boxes(axes: Axes, points: Points, results: Sequence[ModelResult]) -> None:
    """All residuals as dots, and a box from the first to the third quartile with whiskers to 5 and 95 percent."""
    random = np.random.default_rng(0)
    reach = 0.0
    for place, each in enumerate(results):
        rest = 1e4 * residuals(each.surface, points)
        rest = rest[np.isfinite(rest)]
        color = MODEL_COLORS[each.model]
        axes.plot(
            place + 0.28 * random.uniform(-1.0, 1.0, len(rest)), rest, linestyle="none", marker="o", markersize=1.8,
            color=color, alpha=0.35,
        )  # fmt: skip
        axes.boxplot(
            [rest], positions=[place], widths=0.62, whis=(5, 95), showfliers=False, patch_artist=True,
            boxprops={"facecolor": "none", "edgecolor": color, "linewidth": 1.4},
            medianprops={"color": INK, "linewidth": 1.4},
            whiskerprops={"color": color}, capprops={"color": color},
        )  # fmt: skip
        reach = max(reach, float(np.abs(rest).max()) if len(rest) else 0.0)
    axes.axhline(0.0, color=MUTED, linewidth=0.7)
    signed_log(axes, 1.4 * max(reach, 100.0))
    axes.tick_params(axis="y", labelsize=9)
    axes.set_xticks(range(len(results)), [each.model for each in results])
    axes.set_xlim(-0.6, len(results) - 0.4)
    axes.set_title("Residuals, model - mid (box: half of the quotes; whiskers: 90 %)")
    axes.set_ylabel("bp of volatility; logarithmic beyond 100")


def _by_expiry(axes: Axes, results: Sequence[ModelResult]) -> None:
    years = np.array([1.0, 1.0])
    for each in results:
        fits = each.surface.report.expiries
        years = np.array([fit.years for fit in fits])
        # A perfect fit has no place on a logarithmic axis, and a tenth of a basis point would flatten the others.
        left = np.maximum([fit.rmse_bp for fit in fits], 1.0)
        axes.plot(years / DAY_YEARS, left, marker="o", markersize=3.5, color=MODEL_COLORS[each.model])
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 10.0 * low:
        # Within a decade a logarithmic axis would have a tick or none.
        axes.set_ylim(low / 2.0, 5.0 * high)
    plain_log(axes.yaxis)
    term_days(axes, years)
    axes.set_title("RMSE by expiry")
    axes.set_ylabel("bp of volatility (below 1: as 1)")


def _in_and_out(axes: Axes, results: Sequence[ModelResult]) -> None:
    """In sample as a bar, out of sample as a diamond, arbitrage in words."""
    widest = 0.0
    for place, each in enumerate(results):
        inside, outside = each.surface.report.rmse_bp, each.held_out_bp
        axes.barh(place, inside, height=0.5, color=MODEL_COLORS[each.model], alpha=0.75)
        axes.plot([outside], [place], linestyle="none", marker="D", markersize=6, color=INK)
        found = ", ".join(f"{count} {kind}" for kind, count in arbitrage_counts(each.arbitrage).items() if count)
        text = f"arbitrage: {found or 'none'}; {each.surface.report.inside_share:.0%} inside bid-ask"
        axes.text(0.0, place + 0.38, f" {text}", fontsize=8, color=MUTED, va="center")
        widest = max(widest, inside, outside if np.isfinite(outside) else 0.0)
    axes.set_xlim(0.0, 1.1 * widest)
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_yticks(range(len(results)), [each.model for each in results])
    axes.grid(False, axis="y")
    axes.set_title("RMSE in sample (bar), on held-out strikes (diamond)")
    axes.set_xlabel("bp of volatility")
