"""Every other quote of an expiry set aside, to judge a surface by what it was not fitted to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from features.surface.cleaning import Points
from features.surface.model import Surface

Array = np.ndarray[Any, Any]


def every_other(points: Points) -> tuple[Points, Points]:
    """The first, third ... quote of every expiry, and the others; an expiry without any is none of a part's."""
    place = np.concatenate([np.arange(n) for n in np.diff(points.start_F)]) if len(points.k_Q) else np.empty(0, int)
    return some_of(points, place % 2 == 0), some_of(points, place % 2 == 1)


def some_of(points: Points, keep: Array) -> Points:
    """The points where ``keep`` holds, shape (Q,); the verdicts stay as they are."""
    expiry = np.repeat(np.arange(len(points.expiry_E)), np.diff(points.start_F))[keep]
    used, counts = np.unique(expiry, return_counts=True)
    return Points(
        points.expiry_E[used],
        points.years_E[used],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        points.k_Q[keep],
        points.bid_Q[keep],
        points.mid_Q[keep],
        points.ask_Q[keep],
        points.row_Q[keep],
        points.rule_N,
    )


def residuals(surface: Surface, points: Points) -> Array:
    """The surface's volatility less that of the mid, 1 / sqrt(year); NaN where the surface knows none."""
    years = points.years_Q
    found: Array = surface.implied_volatility(points.k_Q, years) - points.mid_Q
    return found


def rmse_bp(surface: Surface, points: Points) -> float:
    """Root mean square of :func:`residuals` in basis points of volatility, over what is known; NaN without any."""
    rest = residuals(surface, points)
    known = rest[np.isfinite(rest)]
    return 1e4 * math.sqrt(float(np.mean(known**2))) if len(known) else math.nan
