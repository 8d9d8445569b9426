"""Panels that the pictures of a surface share: a smile with its quotes, and what a model leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy.special import ndtri

from features.events import NANO
from features.surface.cleaning import Points
from features.surface.model import Surface
from pipeline.report.style import INK, MUTED, SERIES

Array = np.ndarray[Any, Any]

DPI: Final = 110
"""Of the pictures: 19 inches are 2090 pixels."""

INSIDE: Final = "#0f766e"
OUTSIDE: Final = "#c8463c"
QUOTE: Final = "#9ca3af"
DAY_YEARS: Final = 1.0 / 365.0
DELTAS: Final = (
    (0.9999, "0.01P"), (0.999, "0.1P"), (0.99, "1P"), (0.90, "10P"), (0.75, "25P"), (0.50, "50"),
    (0.25, "25C"), (0.10, "10C"), (0.01, "1C"), (0.001, "0.1C"), (0.0001, "0.01C"),
)  # fmt: skip
"""Forward deltas of calls, and how a trader names them: a put's where the call's is above one half."""

LINEAR_BP: Final = 100.0

_CURVE_NODES: Final = 301
_BEYOND: Final = 0.04
"""How far a curve goes beyond the outermost quotes, as a share of their range."""


def expiry_name(expiry_ns: int, years: float) -> str:
    """Date and days.

    >>> expiry_name(1_770_364_800_000_000_000, 4.9 / 365)
    '6 Feb 26, 4.9 d'
    """
    date = datetime.fromtimestamp(expiry_ns // NANO, UTC)
    return f"{date.day} {date:%b %y}, {days_of(years)} d"


def days_of(years: float) -> str:
    """Days to expiry, with a digit where they are few.

    >>> days_of(0.01), days_of(0.1)
    ('3.7', '36')
    """
    days = years / DAY_YEARS
    return f"{days:.1f}" if days < 10.0 else f"{days:.0f}"


def part_of(points: Points, e: int) -> slice:
    """The points of expiry e."""
    return slice(int(points.start_F[e]), int(points.start_F[e + 1]))


def spread_out(points: Points, most: int) -> list[int]:
    """At most so many expiries, evenly from the first to the last; of equal count those with more time between."""
    n = len(points.expiry_E)
    if n <= most:
        return list(range(n))
    wanted = np.geomspace(points.years_E[0], points.years_E[-1], most)
    found: list[int] = []
    for i, years in enumerate(wanted.tolist()):
        left = [e for e in range(n) if (not found or e > found[-1]) and n - e >= most - i]
        found.append(min(left, key=lambda e: abs(math.log(points.years_E[e] / years))))
    return found


def place_of(points: Points, e: int, k: Array) -> Array:
    """Where log-moneynesses stand on the axis of an expiry: asinh(k / (s sqrt(T))), s the mid volatility at the money.

    In deviations about the money and nearly logarithmic in the wings, where quotes go on for six deviations and more:
    so the part that is traded gets the room. It is the same for every model.
    """
    part, years = part_of(points, e), float(points.years_E[e])
    level = float(np.interp(0.0, points.k_Q[part], points.mid_Q[part]))
    found: Array = np.arcsinh(k / (level * math.sqrt(years)))
    return found


def smile_panel(axes: Axes, points: Points, e: int, surfaces: Mapping[str, Surface], colors: Mapping[str, str]) -> None:
    """Quotes as bars from bid to ask with their mids, in percent of volatility over delta; curves beneath them.

    Beyond the quotes a curve is the model's word alone, and dashed.
    """
    part, years = part_of(points, e), float(points.years_E[e])
    k = points.k_Q[part]
    at = place_of(points, e, k)
    bid, mid, ask = (100.0 * column[part] for column in (points.bid_Q, points.mid_Q, points.ask_Q))
    axes.vlines(at, bid, ask, color=QUOTE, linewidth=2.2, alpha=0.75, zorder=2.5)
    axes.plot(at, mid, linestyle="none", marker="o", markersize=2.6, color=INK, zorder=3)
    x = _curve_range(k, years, float(mid.min()) / 100.0)
    quoted = (x >= k[0]) & (x <= k[-1])
    bottom, top = float(bid.min()), float(ask.max())
    for name, surface in surfaces.items():
        curve = 100.0 * surface.implied_volatility(x, years)
        axes.plot(place_of(points, e, x), curve, color=colors[name], linewidth=1.1, linestyle=(0, (3, 2)))
        axes.plot(
            place_of(points, e, x), np.where(quoted, curve, np.nan), color=colors[name], linewidth=1.4, label=name
        )
        if np.isfinite(curve).any():
            # A curve may leave the picture, but not by much: a wild one would flatten all others.
            bottom = min(bottom, max(float(np.nanmin(curve)), 0.8 * bottom))
            top = max(top, min(float(np.nanmax(curve)), 1.25 * top))
    margin = 0.05 * max(top - bottom, 1.0)
    axes.set_ylim(max(bottom - margin, 0.0), top + margin)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    ends = place_of(points, e, x[[0, -1]])
    axes.set_xlim(min(float(ends[0]), -1.0), max(float(ends[1]), 1.0))
    _delta_ticks(axes, place_of(points, e, _log_moneyness_of_quotes(points, e)))


def _log_moneyness_of_quotes(points: Points, e: int) -> Array:
    """Where the mids themselves have the deltas of ``DELTAS``, so that every model has one axis; NaN beyond them."""
    part, years = part_of(points, e), float(points.years_E[e])
    k, deviation = points.k_Q[part], points.mid_Q[part] * math.sqrt(years)
    d1 = 0.5 * deviation - k / deviation
    # Noise may turn d1 back between neighbouring strikes: what falls on is kept.
    falls = np.minimum.accumulate(d1) >= d1
    wanted = ndtri(np.array([delta for delta, _ in DELTAS]))
    found: Array = np.interp(-wanted, -d1[falls], k[falls], left=np.nan, right=np.nan)
    # Beyond the quotes at the volatility of the outermost one.
    for outer, end in ((wanted > d1[falls][0], 0), (wanted < d1[falls][-1], -1)):
        s = float(deviation[falls][end])
        found = np.where(outer, s * (0.5 * s - wanted), found)
    return found


def _curve_range(k: Array, years: float, level: float) -> Array:
    """Of the quotes and a little more; of a single one half a deviation to both sides."""
    low, high = min(float(k.min()), 0.0), max(float(k.max()), 0.0)
    more = max(_BEYOND * (high - low), 0.5 * level * math.sqrt(years) if len(k) == 1 else 0.0)
    return np.linspace(low - more, high + more, _CURVE_NODES)


def _delta_ticks(axes: Axes, places: Array) -> None:
    """Name the deltas that fall into the picture, as far as there is room; those near the money first."""
    low, high = axes.get_xlim()
    room = 0.075 * (high - low)
    shown: dict[float, str] = {}
    for i in sorted(range(len(DELTAS)), key=lambda i: abs(DELTAS[i][0] - 0.5)):
        where = float(places[i])
        if low <= where <= high and all(abs(where - other) >= room for other in shown):
            shown[where] = DELTAS[i][1]
    axes.set_xticks(list(shown), list(shown.values()))


def residual_panel(axes: Axes, points: Points, e: int, surface: Surface) -> None:
    """Model less mid in basis points of volatility, over the band between bid and ask.

    Beyond 100 bp the axis is logarithmic: wings miss by hundreds where the middle misses by tens.
    """
    part, years = part_of(points, e), float(points.years_E[e])
    k, mid = points.k_Q[part], points.mid_Q[part]
    at = place_of(points, e, k)
    low, high = 1e4 * (points.bid_Q[part] - mid), 1e4 * (points.ask_Q[part] - mid)
    rest = 1e4 * (surface.implied_volatility(k, years) - mid)
    inside = (rest >= low) & (rest <= high)
    axes.axhline(0.0, color=MUTED, linewidth=0.7)
    axes.vlines(at, low, high, color=QUOTE, linewidth=2.2, alpha=0.6)
    for of, color in ((inside, INSIDE), (~inside, OUTSIDE)):
        axes.plot(at[of], rest[of], linestyle="none", marker="o", markersize=2.8, color=color)
    known = np.abs(rest[np.isfinite(rest)])
    reach = max(float(known.max()) if len(known) else 0.0, float(np.median(0.5 * (high - low))), 5.0)
    if reach <= LINEAR_BP:
        axes.set_ylim(-1.3 * reach, 1.3 * reach)
        axes.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    else:
        signed_log(axes, 1.6 * reach)


def signed_log(axes: Axes, reach: float) -> None:
    """A vertical axis of basis points, linear within +-100 and logarithmic beyond."""
    axes.tick_params(axis="y", labelsize=7.5)
    axes.set_yscale("symlog", linthresh=LINEAR_BP, linscale=1.0)
    axes.set_ylim(-reach, reach)
    ticks = [tick for tick in (-10_000, -1_000, -100, 0, 100, 1_000, 10_000) if abs(tick) <= reach]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_yticks([], minor=True)


def term_days(axes: Axes, years: Array) -> None:
    """A logarithmic axis of days with the tenors that are quoted, as far as there is room for their names."""
    axes.set_xscale("log")
    first, last = float(years[0]) / DAY_YEARS, float(years[-1]) / DAY_YEARS
    room = max(last / first, 1.5) ** 0.09
    ticks: list[float] = []
    for day in (0.05, 0.25, 1, 2, 7, 14, 30, 90, 180, 365, 730, 1_460):
        if 0.8 * first <= day <= 1.25 * last and (not ticks or day > ticks[-1] * room):
            ticks.append(day)
    if len(ticks) < 2:
        ticks = [first] if last < 1.5 * first else [first, last]
    axes.set_xticks(ticks, [f"{day:.3g}" for day in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("days to expiry")


MODEL_COLORS: Final = dict(zip(("svi", "essvi", "sabr", "heston", "nonparametric", "streamed"), SERIES, strict=False))
