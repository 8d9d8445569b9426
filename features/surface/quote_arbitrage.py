"""What quotes alone must satisfy to be free of static arbitrage, before any model.

All in units of the forward: calls c at moneyness x = K / F (a put is a call by parity; one from a volatility lies
between its bounds). Quotes are free if and only if no call lies above a chord of two others that expire no earlier
(Cousot 2007, "Conditions on option prices for absence of arbitrage and exact calibration"), where (0, 1) is a call that
is always quoted, and a call that is cheaper at a lower strike is a chord, too. Who sells the call and buys the chord
has a portfolio that is never worth less than nothing: a butterfly where all three expire together, a vertical where one
call is enough, a calendar where what is bought expires later.

The lowest chord is the lower convex hull of all calls that expire no earlier, so one hull an expiry tells everything.
What is dear at mid prices is counted; what is dear with its bid, against a hull of asks, is an arbitrage that could be
done; and as constraints the chords repair (:mod:`features.surface.repair`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from features.kernel import kernel
from features.surface.black import FloatArray, black_price
from features.surface.cleaning import Points

Array = np.ndarray[Any, Any]

KINDS: Final = ("vertical", "butterfly", "calendar")

TOLERANCE: Final = 1e-10
"""Over the forward: what rounding may break."""

ORIGIN: Final = -1
"""In place of a point: the call at strike 0, worth the forward."""


class Chords(NamedTuple):
    """Calls and the chords that they have to lie below; n of them.

    Args:
        point: the call.
        left, right: ends of its chord, of which the left may be ``ORIGIN``.
        share: of the right end; 0 of a vertical, whose only end is the left.
    """

    point: Array
    left: Array
    right: Array
    share: FloatArray


@kernel
def _hull(x: Array, call: Array, order: Array, first: int, hull: Array) -> int:
    """Lower convex hull of (0, 1) and the points from ``first`` on, as far as it falls; how many vertices it has.

    Args:
        x, call: of all points.
        order: all points by x.
        first: points before it expire earlier.
        hull: gets the vertices, by x.
    """
    hull[0] = ORIGIN
    found = 1
    for i in order:
        if i < first:
            continue
        while found > 1:
            x1, c1 = x[hull[found - 1]], call[hull[found - 1]]
            if x1 < x[i]:
                x0, c0 = (x[hull[found - 2]], call[hull[found - 2]]) if found > 2 else (0.0, 1.0)
                if (c1 - c0) * (x[i] - x1) < (call[i] - c1) * (x1 - x0):
                    break
            elif c1 <= call[i]:
                break
            found -= 1
        if found == 1 or call[i] < call[hull[found - 1]]:
            hull[found] = i
            found += 1
    return found


@kernel
def dear_calls(
    start_F: Array, x: Array, order: Array, sold: Array, bought: Array, tolerance: float,
    point: Array, left: Array, right: Array, share: Array,
) -> int:  # fmt: skip
    """Find the calls that sell for more than what is worth at least as much costs; how many there are.

    Args:
        start_F: as in :class:`features.surface.cleaning.Points`.
        x: moneyness of the points.
        order: the points by x.
        sold, bought: what each call brings and costs, over the forward.
        tolerance: a call that is dearer by less is not dear.
        point, left, right, share: as in :class:`Chords`, of the calls found; as long as there are points.
    """
    hull = np.empty(len(x) + 1, np.int64)
    found = 0
    for e in range(len(start_F) - 1):
        vertices = _hull(x, bought, order, start_F[e], hull)
        if vertices < 2:
            continue
        after = 1
        for i in range(start_F[e], start_F[e + 1]):
            while after < vertices and x[hull[after]] < x[i]:
                after += 1
            a = hull[after - 1]
            if after == vertices:
                b, t, worth = a, 0.0, bought[a]
            else:
                b = hull[after]
                x0, c0 = (0.0, 1.0) if a == ORIGIN else (x[a], bought[a])
                t = (x[i] - x0) / (x[b] - x0)
                worth = c0 + t * (bought[b] - c0)
            if a != i and b != i and sold[i] > worth + tolerance:
                point[found], left[found], right[found], share[found] = i, a, b, t
                found += 1
    return found


@kernel
def kind_of(start_F: Array, point: int, left: int, right: int, share: float) -> int:
    """Index into ``KINDS`` of what a call above its chord is."""
    end = 0
    while start_F[end + 1] <= point:
        end += 1
    if left >= start_F[end + 1] or (share > 0.0 and right >= start_F[end + 1]):
        return 2
    return 1 if share > 0.0 else 0


@kernel
def count_dear(start_F: Array, x: Array, sold: Array, bought: Array, tolerance: float) -> Array:
    """How many calls are dear, by kind."""
    n = len(x)
    point, left, right = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    share = np.empty(n)
    found = np.zeros(3, np.int64)
    for i in range(dear_calls(start_F, x, np.argsort(x), sold, bought, tolerance, point, left, right, share)):
        found[kind_of(start_F, point[i], left[i], right[i], share[i])] += 1
    return found


class QuoteArbitrage(NamedTuple):
    """How many calls are dearer than a chord that they have to lie below, by kind.

    Args:
        at_mid: at mid prices.
        tradable: selling at the bid and buying at the ask.
    """

    at_mid: dict[str, int]
    tradable: dict[str, int]


def calls_of(points: Points, volatility: FloatArray) -> FloatArray:
    """Calls over the forward of the points at some volatilities."""
    years = points.years_Q
    return black_price(1.0, np.exp(points.k_Q), years, volatility, True)


def chords_of(points: Points, call: FloatArray, tolerance: float = TOLERANCE) -> Chords:
    """The calls that are dear and the chords that they are dearer than."""
    x, n = np.exp(points.k_Q), len(points.k_Q)
    columns = Chords(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n))
    found = dear_calls(points.start_F, x, np.argsort(x), call, call, tolerance, *columns)
    return Chords(*(column[:found] for column in columns))


def check_quotes(points: Points, tolerance: float = TOLERANCE) -> QuoteArbitrage:
    """Count what the quotes themselves break."""
    bid, mid, ask = (calls_of(points, each) for each in (points.bid_Q, points.mid_Q, points.ask_Q))
    x = np.exp(points.k_Q)
    at_mid = count_dear(points.start_F, x, mid, mid, tolerance)
    tradable = count_dear(points.start_F, x, bid, ask, tolerance)
    return QuoteArbitrage(
        dict(zip(KINDS, at_mid.tolist(), strict=True)), dict(zip(KINDS, tradable.tolist(), strict=True))
    )
