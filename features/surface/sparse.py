"""What a slice of few quotes, or of quotes on one side, is beyond them: the eSSVI surface of the whole chain.

Two quotes have a line of SVI smiles through them, of which most are absurd. So where an expiry does not tell its own
smile, quotes of the eSSVI surface (or of the last surface, moved to the quotes' level) are added where it has none: so
wide that they are next to nothing against a real one, and everything where there is none. eSSVI itself takes the shape
of such a slice from its neighbours (:mod:`features.surface.essvi_fit`).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.surface.cleaning import Points, is_thin
from features.surface.essvi_surface import fit_essvi
from features.surface.model import Surface

Array = np.ndarray[Any, Any]

DEVIATIONS: Final = (-2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5)
"""Where quotes are added, from the money on, if no real one is within ``GAP``."""
GAP: Final = 0.3
HALF_SPREAD: Final = 0.5
"""Of an added quote, in the volatility at the money: its bid and ask are as far apart as that is high."""
LOWEST: Final = 0.1
"""Of the volatility at the money, that an added quote has at least."""


def with_prior(points: Points, last: Surface | None = None) -> Points:
    """The points, and those of a prior where an expiry is thin; the very same ones where none is.

    Rows of added points are -1. Expiries stay as they are.

    Args:
        points: of a chain.
        last: the last surface, whose shape a thin slice keeps; its level is that of the quotes.
    """
    w = points.mid_Q**2 * points.years_Q
    parts = [slice(int(a), int(b)) for a, b in zip(points.start_F[:-1], points.start_F[1:], strict=True)]
    thin = [is_thin(points.k_Q[part], w[part]) for part in parts]
    if not any(thin):
        return points
    whole = fit_essvi(points)
    columns: list[list[Array]] = [[], [], [], [], []]
    for e, part in enumerate(parts):
        own = [column[part] for column in (points.k_Q, points.bid_Q, points.mid_Q, points.ask_Q, points.row_Q)]
        if thin[e]:
            years = float(points.years_E[e])
            prior = _known(last, own[0], years) or whole
            money = float(prior.implied_volatility(0.0, years))
            deviation = money * math.sqrt(years)
            k = np.array(DEVIATIONS) * deviation
            k = k[np.abs(np.subtract.outer(k, own[0])).min(axis=1) > GAP * deviation]
            moved = float(np.mean(own[2] - prior.implied_volatility(own[0], years)))
            level = np.maximum(prior.implied_volatility(k, years) + moved, LOWEST * money)
            wide = 2.0 * HALF_SPREAD * money
            added = [k, np.full(len(k), 1e-6), level, level + wide, np.full(len(k), -1, points.row_Q.dtype)]
            own = [np.concatenate(each) for each in zip(own, added, strict=True)]
            order = np.argsort(own[0], kind="stable")
            own = [each[order] for each in own]
        for column, values in zip(columns, own, strict=True):
            column.append(values)
    k_Q, bid_Q, mid_Q, ask_Q, row_Q = (np.concatenate(column) for column in columns)
    start_F = np.concatenate([[0], np.cumsum([len(each) for each in columns[0]])]).astype(np.int64)
    return points._replace(start_F=start_F, k_Q=k_Q, bid_Q=bid_Q, mid_Q=mid_Q, ask_Q=ask_Q, row_Q=row_Q)


def _known(last: Surface | None, k: Array, years: float) -> Surface | None:
    """The last surface, if it has a volatility at the money and at all of the quotes."""
    if last is None or not np.isfinite(last.implied_volatility(np.append(k, 0.0), years)).all():
        return None
    return last
