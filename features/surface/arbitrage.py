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

from features.surface.black import black_price
from features.surface.essvi import no_butterfly, no_calendar
from features.surface.essvi_surface import ESSVISurface
from features.surface.model import FloatArray, Surface, durrleman

GRID: Final = 201
WIDTH: Final = 5.0
"""How far the grid reaches, in standard deviations of an expiry."""

TOLERANCE: Final = 1e-9
"""A violation smaller than this (of g, of total variance, of a price over the forward) is the rounding of a double."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One arbitrage.

    Args:
        kind: butterfly, calendar or vertical.
        years: of the expiry; of a calendar the later one.
        k: log-moneyness.
        size: by how much: of g, of total variance, of a price over the forward.
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
    """

    by_variance: tuple[Violation, ...]
    by_price: tuple[Violation, ...]
    exact: bool | None

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
    if not len(times):
        return ArbitrageReport((), (), None)
    variances, prices = [], []
    before: float | None = None
    for at in times.tolist():
        deviation = math.sqrt(float(surface.total_variance(np.zeros(1), at)[0]))
        k = np.linspace(-WIDTH * deviation, WIDTH * deviation, grid)
        variances += _by_variance(surface, at, before, k, tolerance)
        prices += _by_price(surface, at, before, k, tolerance)
        before = at
    exact = _exact(surface) if isinstance(surface, ESSVISurface) else None
    return ArbitrageReport(tuple(variances), tuple(prices), exact)


def _exact(surface: ESSVISurface) -> bool:
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
) -> list[Violation]:
    w, first, second = surface.slopes(k, years)
    # Differences of a fit that is not smooth to the last digit: g's rounding is that of w'' / 2.
    found = _worst("butterfly", years, k, -durrleman(k, w, first, second), max(tolerance, surface.slope_error))
    if before is not None:
        found += _worst("calendar", years, k, surface.total_variance(k, before) - w, tolerance)
    return found


def _by_price(surface: Surface, years: float, before: float | None, k: FloatArray, tolerance: float) -> list[Violation]:
    """Calls over the forward as a function of K / F: falling, no steeper than -1, convex; none cheaper than earlier."""
    strike = np.exp(k)
    call = black_price(1.0, strike, years, surface.implied_volatility(k, years), True)
    slope = np.diff(call) / np.diff(strike)
    middle = 0.5 * (k[1:] + k[:-1])
    found = _worst("vertical", years, middle, np.maximum(slope, -1.0 - slope), tolerance)
    # The price of a butterfly of one unit at the middle strike: rounding of the prices over the strikes' distance.
    rounding = 4e-16 * (1.0 / np.diff(strike)[1:] + 1.0 / np.diff(strike)[:-1])
    found += _worst("butterfly", years, k[1:-1], slope[:-1] - slope[1:] - rounding, tolerance)
    if before is not None:
        earlier = black_price(1.0, strike, before, surface.implied_volatility(k, before), True)
        found += _worst("calendar", years, k, earlier - call, tolerance)
    return found
