"""One fitted surface as a trader looks at it: smiles and what they leave, density, terms, and volatility by delta."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from features.surface.cleaning import Points
from features.surface.delta_smile import log_moneyness_at_deltas, volatility_at_deltas
from features.surface.model import Surface
from features.surface.nonparametric import GridSurface
from pipeline.option_chains import OptionChain, utc
from pipeline.report.style import INK, MUTED, SERIES, new_figure
from pipeline.report.surface_panels import (
    DAY_YEARS,
    INSIDE,
    OUTSIDE,
    QUOTE,
    days_of,
    expiry_name,
    residual_panel,
    smile_panel,
    spread_out,
    term_days,
)

Array = np.ndarray[Any, Any]

_WIDTH: Final = 19.0
_SMILES: Final = 16
_DENSITIES: Final = 5
_HIGHEST_DENSITY: Final = 2.0
_SMOOTHED: Final = 20
"""Points of the density's axis to either side: half a deviation."""
_HEAT: Final = LinearSegmentedColormap.from_list("volatility", ["#f8fafc", "#93c5fd", "#1d4ed8", "#172554"])
_TABLE: Final = (
    (0.95, "5P"), (0.90, "10P"), (0.75, "25P"), (0.65, "35P"), (0.50, "50"),
    (0.35, "35C"), (0.25, "25C"), (0.10, "10C"), (0.05, "5C"),
)  # fmt: skip


def surface_figure(chain: OptionChain, points: Points, surface: Surface, verdict: str) -> Figure:
    """The whole picture.

    Args:
        chain: that the points are of.
        points: that the surface was fitted to.
        surface: of any model.
        verdict: on arbitrage, in a few words.
    """
    shown = spread_out(points, _SMILES)
    rows = -(-len(shown) // _columns(len(shown)))
    figure = new_figure(_WIDTH, 3.1 * rows + 4.9)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05, hspace=0.03, wspace=0.02)
    halves = figure.add_gridspec(2, 1, height_ratios=(3.1 * rows, 4.4))
    upper, lower = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    report = surface.report
    more = "" if len(shown) == len(points.expiry_E) else f"; {len(shown)} of {len(points.expiry_E)} expiries shown"
    figure.suptitle(
        f"{chain.underlying} implied volatility, {utc(chain.now_ns)}: {report.model}, RMSE {report.rmse_bp:.0f} bp, "
        f"{report.inside_share:.0%} of {report.quotes} quotes inside bid-ask; {verdict}{more}",
        fontsize=13, fontweight="bold", x=0.012, ha="left",
    )  # fmt: skip
    _smiles(upper, points, surface, shown)
    grid = lower.add_gridspec(1, 4, width_ratios=(1.0, 0.85, 1.0, 1.45))
    term_structure(lower.add_subplot(grid[0]), chain, points, surface)
    _skew(lower.add_subplot(grid[1]), points, surface)
    _densities(lower.add_subplot(grid[2]), points, surface)
    _heat_map(lower.add_subplot(grid[3]), points, surface)
    return figure


def _columns(panels: int) -> int:
    """As many as leave the fewest places empty."""
    return min((5, 4, 3), key=lambda columns: -panels % columns)


def _smiles(figure: Any, points: Points, surface: Surface, shown: list[int]) -> None:
    columns = _columns(len(shown))
    rows = -(-len(shown) // columns)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=(2.0, 1.0) * rows)
    fits = surface.report.expiries
    name = surface.report.model
    for place, e in enumerate(shown):
        row, column = divmod(place, columns)
        smile = figure.add_subplot(grid[2 * row, column])
        rest = figure.add_subplot(grid[2 * row + 1, column], sharex=smile)
        smile_panel(smile, points, e, {name: surface}, {name: SERIES[0]})
        residual_panel(rest, points, e, surface)
        smile.tick_params(labelbottom=False)
        smile.set_title(expiry_name(int(points.expiry_E[e]), float(points.years_E[e])))
        smile.set_title(
            f"RMSE {fits[e].rmse_bp:.0f} bp, {fits[e].inside} of {fits[e].quotes} inside",
            loc="right", fontsize=8.5, fontweight="normal", color=MUTED,
        )  # fmt: skip
        if column == 0:
            smile.set_ylabel("implied vol, %")
            rest.set_ylabel("residual, bp")
            for axes in (smile, rest):
                axes.yaxis.set_label_coords(-0.125, 0.5)
        if place + columns >= len(shown):
            rest.set_xlabel("forward delta (10P: put, 10C: call)")
    handles = [
        Line2D([], [], color=SERIES[0], label=name),
        Line2D([], [], color=QUOTE, linewidth=3, alpha=0.75, label="bid to ask"),
        _dot(INK, "mid"),
        _dot(INSIDE, "model inside bid-ask"),
        _dot(OUTSIDE, "model outside"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9.5)


def _dot(color: str, label: str) -> Line2D:
    return Line2D([], [], color=color, linestyle="none", marker="o", markersize=4, label=label)


def term_structure(axes: Axes, chain: OptionChain, points: Points, surface: Surface) -> None:
    """Volatility at the money by time to expiry, beside the venue's mark, with the forward volatility between."""
    years = points.years_E
    between = np.geomspace(years[0], years[-1], 200)
    axes.plot(
        between / DAY_YEARS, 100.0 * surface.implied_volatility(np.zeros(200), between), color=SERIES[0],
        label=surface.report.model,
    )  # fmt: skip
    at_money = surface.implied_volatility(np.zeros(len(years)), years)
    axes.plot(years / DAY_YEARS, 100.0 * at_money, linestyle="none", marker="o", markersize=4, color=SERIES[0])
    marks = np.array([_mark_at_money(chain, int(expiry)) for expiry in points.expiry_E])
    if np.isfinite(marks).any():
        axes.plot(
            years / DAY_YEARS, 100.0 * marks, linestyle="none", marker="x", markersize=6, color=SERIES[1],
            label="venue's mark",
        )  # fmt: skip
    w = np.concatenate([[0.0], at_money**2 * years])
    gained = np.diff(w) / np.diff(np.concatenate([[0.0], years]))
    # A gap where total variance falls: no volatility has a negative square.
    forward = np.sqrt(np.where(gained >= 0.0, gained, np.nan))
    edges = np.concatenate([[years[0] * 0.8], years]) / DAY_YEARS
    axes.stairs(100.0 * forward, edges, color=MUTED, linewidth=0.9, baseline=None, label="forward vol")
    for e in np.flatnonzero(gained < 0.0).tolist():
        # Linear interpolation in total variance then means a negative forward variance.
        axes.axvspan(float(edges[e]), float(edges[e + 1]), color=OUTSIDE, alpha=0.15, linewidth=0)
        axes.text(
            math.sqrt(float(edges[e] * edges[e + 1])), 0.02, "total variance falls", fontsize=7.5, color=OUTSIDE,
            rotation=90, ha="center", va="bottom", transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    term_days(axes, years)
    axes.set_title("At the money")
    axes.set_ylabel("implied vol, %")
    axes.legend(loc="best")


def _mark_at_money(chain: OptionChain, expiry_ns: int) -> float:
    """The venue's volatility at k = 0, linear between its out-of-the-money options; NaN without one on each side."""
    of = (chain.expiry_ns == expiry_ns) & np.isfinite(chain.mark_volatility) & (chain.forward > 0.0)
    of &= chain.is_call == (chain.strike >= chain.forward)
    k = np.log(chain.strike[of] / chain.forward[of])
    if not len(k) or k.min() > 0.0 or k.max() < 0.0:
        return math.nan
    order = np.argsort(k)
    return float(np.interp(0.0, k[order], chain.mark_volatility[of][order]))


def _skew(axes: Axes, points: Points, surface: Surface) -> None:
    days = points.years_E / DAY_YEARS
    at = np.array([volatility_at_deltas(surface, float(years), [0.25, 0.5, 0.75]) for years in points.years_E])
    money = surface.implied_volatility(np.zeros(len(days)), points.years_E)
    axes.axhline(0.0, color=MUTED, linewidth=0.7)
    axes.plot(
        days,
        100.0 * (at[:, 0] - at[:, 2]),
        color=SERIES[3],
        marker="o",
        markersize=3.5,
        label="risk reversal (call - put)",
    )
    axes.plot(
        days, 100.0 * (0.5 * (at[:, 0] + at[:, 2]) - money), color=SERIES[2], marker="o", markersize=3.5,
        label="butterfly (mean - ATM)",
    )  # fmt: skip
    term_days(axes, points.years_E)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1.0), max(high, 1.0))
    axes.set_title("25 delta")
    axes.set_ylabel("vol points")
    axes.legend(loc="best")


def _densities(axes: Axes, points: Points, surface: Surface) -> None:
    z = np.linspace(-4.5, 4.5, 361)
    lowest, highest = 0.0, 0.4
    for color, e in zip(SERIES, spread_out(points, _DENSITIES), strict=False):
        years = float(points.years_E[e])
        deviation = float(surface.implied_volatility(0.0, years)) * math.sqrt(years)
        density = _smoothed(deviation * surface.density(z * deviation, years), surface)
        axes.plot(z, density, color=color, label=f"{days_of(years)} d")
        axes.fill_between(z, np.minimum(density, 0.0), 0.0, color=OUTSIDE, alpha=0.5, linewidth=0)
        if np.isfinite(density).any():
            lowest, highest = min(lowest, float(np.nanmin(density))), max(highest, float(np.nanmax(density)))
    axes.plot(z, np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi), color=MUTED, linestyle="--", label="normal")
    top = 1.06 * min(highest, _HIGHEST_DENSITY)
    axes.set_ylim(max(1.1 * lowest, -0.5), top)
    if highest > _HIGHEST_DENSITY:
        axes.text(0.98, 0.97, f"↑ up to {highest:.1f}", transform=axes.transAxes, ha="right", va="top", fontsize=8.5)
    axes.set_title("Risk-neutral density")
    axes.set_xlabel("log(S_T / F), in deviations (ATM vol × √T)")
    axes.set_ylabel("per deviation")
    axes.legend(loc="upper left", fontsize=8.5)


def _smoothed(density: Array, surface: Surface) -> Array:
    """Of a law on points the mean about a place: its mass there is exact, and its height on one point is not."""
    if not isinstance(surface, GridSurface):
        return density
    window = np.hanning(2 * _SMOOTHED + 3)[1:-1]
    found: Array = np.convolve(np.nan_to_num(density), window / window.sum(), mode="same")
    return found


def _heat_map(axes: Axes, points: Points, surface: Surface) -> None:
    table = np.array(
        [
            100.0 * volatility_at_deltas(surface, float(years), [delta for delta, _ in _TABLE])
            for years in points.years_E
        ]
    )
    quoted = np.array([_is_quoted(points, surface, e) for e in range(len(table))])
    # What is extrapolated may be wild, and would bleach all that is not.
    known = table[quoted] if quoted.any() else table[np.isfinite(table)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    axes.imshow(table, aspect="auto", cmap=_HEAT, vmin=low, vmax=max(high, low + 1e-9), interpolation="nearest")
    for (row, column), value in np.ndenumerate(table):
        dark = (value - low) > 0.45 * (high - low)
        text = f"{value:.1f}" if math.isfinite(value) else "-"
        is_quoted = bool(quoted[row, column])
        axes.text(
            column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else INK,
            style="normal" if is_quoted else "italic", alpha=1.0 if is_quoted else 0.65,
        )  # fmt: skip
    axes.set_xticks(range(len(_TABLE)), [name for _, name in _TABLE])
    axes.set_yticks(range(len(table)), [days_of(float(years)) for years in points.years_E])
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("forward delta (P: put, C: call)")
    axes.set_ylabel("days to expiry")
    axes.set_title("Implied volatility by delta, % (italics: beyond the quotes)")


def _is_quoted(points: Points, surface: Surface, e: int) -> Array:
    """Whether each delta of the table lies between the outermost quotes of an expiry."""
    k = points.k_Q[points.start_F[e] : points.start_F[e + 1]]
    at = log_moneyness_at_deltas(surface, float(points.years_E[e]), [delta for delta, _ in _TABLE])
    found: Array = (at >= k[0]) & (at <= k[-1])
    return found
