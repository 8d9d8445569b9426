"""The forward of an expiry from its own options, where the feed has none: put-call parity.

In units of the settlement currency, C - P = D (F - K) for options on one expiry (Stoll 1969): a line in the strike
whose root is the forward and whose slope is minus the discount factor. For coin-settled (inverse) options, with prices
c and p in coin, c - p = D (1 - K / F): a line as well, with the root at the same place. So both need the same fit, by
weighted least squares over the strikes that have both sides, each weighed by the spreads of the pair. While a pair
lies far off the line (a stale quote), the one whose absence shrinks the sum of squares the most is left out (Cook and
Weisberg 1982, Residuals and Influence in Regression, sec. 2.2): a line is drawn towards its worst pair, so that all the
others may look wrong beside it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

MIN_PAIRS: Final = 2
OUTLIER: Final = 5.0
"""Half spreads (of a pair) off the line beyond which it is left out: the line of the others must be inside its quotes
to be believed, and a live chain's quotes are some milliseconds apart."""
DOUBT: Final = 0.1
"""By which a discount that is taken as 1 may be wrong."""
MIN_CHECKED: Final = 3
"""Pairs that must remain where one was left out, and at least half of all: any two lie on a line."""


DISCOUNTS: Final = (0.4, 1.4)
"""A line with another slope goes through its pairs by chance: its root is no forward."""

TOLD_DISCOUNT: Final = 0.05
"""Standard error of the discount, where half a spread is one of its pair, beyond which it is taken as 1: two or three
wide pairs would tilt the line, and move its root by percents."""


class ParityForward(NamedTuple):
    """What the pairs of one expiry say.

    Args:
        forward: in quote currency; NaN without two strikes that have both sides, and where too few agree on one.
        discount: D, of the settlement currency.
        pairs: strikes that were used.
    """

    forward: float
    discount: float
    pairs: int


def parity_forward(strike: Array, is_call: Array, bid: Array, ask: Array, *, is_inverse: bool = False) -> ParityForward:
    """The forward of one expiry from bid and ask of its calls and puts.

    Args:
        strike: in quote currency; shape (n,).
        is_call: call or put.
        bid, ask: in the settlement currency: quote currency, or coin of inverse options; NaN or 0 for none.
        is_inverse: prices are in coin.

    >>> strike = np.array([90.0, 90.0, 110.0, 110.0])
    >>> is_call = np.array([True, False, True, False])
    >>> mid = np.array([14.0, 4.5, 5.0, 14.5])
    >>> tuple(round(value, 6) for value in parity_forward(strike, is_call, mid - 0.1, mid + 0.1))
    (100.0, 0.95, 2)
    """
    good = (bid > 0.0) & (ask >= bid)
    calls = {float(k): i for i, k in enumerate(strike.tolist()) if good[i] and is_call[i]}
    puts = {float(k): i for i, k in enumerate(strike.tolist()) if good[i] and not is_call[i]}
    both = sorted(calls.keys() & puts.keys())
    if len(both) < MIN_PAIRS:
        return ParityForward(np.nan, np.nan, len(both))
    c, p = np.array([calls[k] for k in both]), np.array([puts[k] for k in both])
    x: Array = np.array(both)
    y = 0.5 * (bid[c] + ask[c] - bid[p] - ask[p])
    half = np.maximum(0.5 * (ask[c] - bid[c] + ask[p] - bid[p]), 1e-12 * np.abs(x))
    fewest = max(MIN_CHECKED, (len(x) + 1) // 2)
    while True:
        line = _line(x, y, 1.0 / half**2)
        # Off the line of the others: a pair that draws the line to itself is not far off its own.
        away = np.abs(line.off) / np.maximum(1.0 - line.leverage, 1e-12) if len(x) > MIN_PAIRS else np.abs(line.off)
        if not (away > OUTLIER * half).any():
            break
        if len(x) <= fewest:
            return ParityForward(np.nan, np.nan, len(x))
        kept = np.arange(len(x)) != np.argmax((line.off / half) ** 2 / np.maximum(1.0 - line.leverage, 1e-12))
        x, y, half = x[kept], y[kept], half[kept]
    unit = np.average(x, weights=1.0 / half**2) if is_inverse else 1.0
    if line.slope_error * unit > TOLD_DISCOUNT:
        return ParityForward(_at_discount_one(x, y, half, is_inverse), 1.0, len(x))
    if not (line.slope < 0.0 and line.root > 0.0):
        return ParityForward(np.nan, np.nan, len(x))
    discount = -line.slope * line.root if is_inverse else -line.slope
    if not DISCOUNTS[0] <= discount <= DISCOUNTS[1]:
        return ParityForward(np.nan, np.nan, len(x))
    return ParityForward(line.root, discount, len(x))


def _at_discount_one(x: Array, y: Array, half: Array, is_inverse: bool) -> float:
    """The forward when D = 1: the weighted mean of K + C - P, and of coin prices of (1 - c + p) / K, which is 1 / F.

    Another discount would move it by a share of C - P, so pairs near the money, where that is small, weigh the most.
    """
    weight = 1.0 / (half**2 + (DOUBT * y) ** 2)
    if not is_inverse:
        forward = float(np.average(x + y, weights=weight))
        return forward if forward > 0.0 else np.nan
    inverse = float(np.average((1.0 - y) / x, weights=weight * x**2))
    return 1.0 / inverse if inverse > 0.0 else np.nan


class _Line(NamedTuple):
    """A weighted least-squares line: where it is zero, how far points are off, and how much each draws it.

    Args:
        slope_error: standard error of the slope, if every weight is one over the square of its point's.
    """

    root: float
    slope: float
    slope_error: float
    off: Array
    leverage: Array


def _line(x: Array, y: Array, weight: Array) -> _Line:
    middle_x, middle_y = np.average(x, weights=weight), np.average(y, weights=weight)
    away = x - middle_x
    spread = float(np.sum(weight * away**2))
    slope = float(np.sum(weight * away * (y - middle_y))) / spread
    root = float(middle_x - middle_y / slope) if slope else np.nan
    return _Line(
        root, slope, spread**-0.5, y - middle_y - slope * away, weight / np.sum(weight) + weight * away**2 / spread
    )
