"""Static arbitrage in a surface: butterflies, calendars and verticals, on a grid and exactly where the model allows it.

The grid is checked in two ways that share no formula, and :class:`ArbitrageReport` holds both: by Durrleman's g and the
order of total variances (Gatheral and Jacquier 2014, sec. 2), and by the prices of calls themselves, whose convexity,
slope and order in time are what arbitrage is about (Carr and Madan 2005, "A note on sufficient conditions for no
arbitrage").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.surface.black import black_price
from features.surface.essvi import no_butterfly, no_calendar
from features.surface.essvi_surface import ESSVISurface
from features.surface.model import FloatArray, Surface
from features.surface.nonparametric import GridSurface

GRID: Final = 201
WIDTH: Final = 5.0
"""How far the grid reaches, in standard deviations of an expiry."""

KNOWN: Final = 2.0
"""Standard deviations within which every surface has a variance."""

_ROUNDING: Final = 4e-16
"""Of a price over the forward."""

TOLERANCE: Final = 1e-9
"""A violation smaller than this (of g, of total variance, of a price over the forward) is the rounding of a double."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One arbitrage.

    Args:
        kind: butterfly, calendar or vertical; or unknown, where a surface has no variance although it is near the
            money (``KNOWN`` deviations): what is not known is not free, unless the model's own condition says so.
        years: of the expiry; of a calendar the later one.
        k: log-moneyness.
        size: by how much: of g, of total variance, of a price over the forward; of what is unknown 1.
    """

    kind: str
    years: float
    k: float
    size: float


@dataclass(frozen=True, slots=True)
class ArbitrageReport:
    """What was found.

    Args:
        by_variance: by Durrleman's g and total variance.
        by_price: by prices of calls.
        exact: whether the model's own condition excludes arbitrage everywhere; None where it has none.
        points: that were looked at.
        unknown: of these, how many the surface has no variance for, or none whose density has a digit left: in its
            wings nothing was found, and nothing was excluded.
    """

    by_variance: tuple[Violation, ...]
    by_price: tuple[Violation, ...]
    exact: bool | None
    points: int = 0
    unknown: int = 0

    @property
    def is_free(self) -> bool:
        """Whether neither way found one."""
        return not self.by_variance and not self.by_price

    def count(self, kind: str) -> int:
        """Of a kind, by the way that finds more: a model without a smooth density has only prices."""
        return max(sum(each.kind == kind for each in way) for way in (self.by_variance, self.by_price))


def check_arbitrage(
    surface: Surface, years: FloatArray | None = None, *, grid: int = GRID, tolerance: float = TOLERANCE
) -> ArbitrageReport:
    """Look for static arbitrage.

    Args:
        surface: of any model.
        years: times to expiry that are looked at; without it the surface's own and one between each two.
        grid: log-moneynesses an expiry, over ``WIDTH`` standard deviations to both sides.
        tolerance: smaller violations are none.
    """
    own = np.array([fit.years for fit in surface.report.expiries])
    times = np.sort(np.concatenate([own, 0.5 * (own[1:] + own[:-1])])) if years is None else np.asarray(years, float)
    variances, prices = list[Violation](), list[Violation]()
    exact = _exact(surface)
    points, unknown = 0, 0
    before: float | None = None
    for at in times.tolist():
        money = float(surface.total_variance(np.zeros(1), at)[0])
        if not 0.0 < money < math.inf:
            variances.append(Violation("unknown", at, 0.0, 1.0))
            continue
        deviation = math.sqrt(money)
        even = np.linspace(-WIDTH * deviation, WIDTH * deviation, grid)
        bends = surface.bends(at)
        k = np.unique(np.concatenate([even, bends[np.abs(bends) <= WIDTH * deviation]]))
        found, dark = _by_variance(surface, at, before, k, tolerance)
        variances += found
        if not exact:
            variances += _worst("unknown", at, k, np.where(dark & (np.abs(k) <= KNOWN * deviation), 1.0, 0.0), 0.5)
        prices += _by_price(surface, at, before, even, tolerance)
        points, unknown = points + len(k), unknown + int(dark.sum())
        before = at
    return ArbitrageReport(tuple(variances), tuple(prices), exact, points, unknown)


def _exact(surface: Surface) -> bool | None:
    if isinstance(surface, GridSurface):
        return surface.is_free
    if not isinstance(surface, ESSVISurface) or not len(surface.slice_E3):
        return None
    slices = surface.slice_E3
    return all(no_butterfly(*each) for each in slices.tolist()) and all(
        no_calendar(*before, *after) for before, after in zip(slices[:-1].tolist(), slices[1:].tolist(), strict=True)
    )


def _worst(kind: str, years: float, k: FloatArray, size: FloatArray, tolerance: float) -> list[Violation]:
    """The worst of every run of neighbours that violate: one arbitrage, not one a grid point."""
    found, run = [], []
    for i, bad in enumerate([*(size > tolerance).tolist(), False]):
        if bad:
            run.append(i)
        elif run:
            at = max(run, key=lambda j: float(size[j]))
            found.append(Violation(kind, years, float(k[at]), float(size[at])))
            run = []
    return found


def _by_variance(
    surface: Surface, years: float, before: float | None, k: FloatArray, tolerance: float
) -> tuple[list[Violation], NDArray[np.bool_]]:
    """What is found, and where the surface has no variance or g has no digit."""
    w = surface.total_variance(k, years)
    g, error = surface.butterfly(k, years)
    is_negative = w <= 0.0
    dark = (
        ~np.isfinite(w) | (np.isfinite(error) & (error > 1.0)) | (~np.isfinite(g) & np.isfinite(error) & ~is_negative)
    )
    # A variance that is not positive is worth less than a straight line between its neighbours.
    size = np.where(is_negative, np.inf, np.where(dark, 0.0, -g))
    found = _worst("butterfly", years, k, np.where(size > error, size, 0.0), tolerance)
    if before is not None:
        found += _worst("calendar", years, k, surface.total_variance(k, before) - w, tolerance)
    return found, dark


def _by_price(surface: Surface, years: float, before: float | None, k: FloatArray, tolerance: float) -> list[Violation]:
    """Calls over the forward as a function of K / F: falling, no steeper than -1, convex; none cheaper than earlier."""
    strike = np.exp(k)
    call = black_price(1.0, strike, years, surface.implied_volatility(k, years), True)
    slope = np.diff(call) / np.diff(strike)
    middle = 0.5 * (k[1:] + k[:-1])
    rounding = _ROUNDING / np.diff(strike)
    found = _worst("vertical", years, middle, np.maximum(slope, -1.0 - slope) - rounding, tolerance)
    # The price of a butterfly of one unit at the middle strike: rounding of the prices over the strikes' distance.
    fall = slope[:-1] - slope[1:] - rounding[1:] - rounding[:-1]
    found += _worst("butterfly", years, k[1:-1], fall, tolerance)
    if before is not None:
        earlier = black_price(1.0, strike, before, surface.implied_volatility(k, before), True)
        found += _worst("calendar", years, k, earlier - call, tolerance)
    return found
