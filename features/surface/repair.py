"""The smallest change of quotes that frees them from static arbitrage: a linear programme.

minimise sum_i |e_i| such that no call c + e lies above a chord of :mod:`features.surface.quote_arbitrage`, in units of
the forward (after Cohen, Reisinger and Wang 2020, "Detecting and repairing arbitrage in traded option prices", sec. 3).
There are as many chords as there are triples of quotes, of which a few matter: the programme begins with those of
neighbours, and those that its solution still breaks join it until there are none. What it leaves out then would not
change it, so the change is the smallest for all of them. HiGHS solves it. Weighed by half spreads, what is changed are
the quotes that say least.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from features.errors import BadInputError
from features.surface.black import FloatArray
from features.surface.cleaning import Points
from features.surface.inversion import implied_volatility
from features.surface.quote_arbitrage import ORIGIN, TOLERANCE, Chords, calls_of, chords_of

Array = np.ndarray[Any, Any]

_MARGIN: Final = 1e-9
"""By which calls lie below their chords: what the solver, which is right to 1e-10, and an inversion may break."""

_ROUNDS: Final = 100


@dataclass(frozen=True, slots=True)
class Repair:
    """What was changed.

    Args:
        quotes: with the repaired mids; bids and asks moved along where a mid left them.
        change_Q: of the mid's call, over the forward.
        changed: points that moved.
        seconds: that it took.
    """

    quotes: Points
    change_Q: FloatArray
    changed: int
    seconds: float

    @property
    def total(self) -> float:
        """The L1 change, over the forward."""
        return float(np.abs(self.change_Q).sum())


def repair_arbitrage(quotes: Points, *, by_spread: bool = False) -> Repair:
    """Repair the mids.

    Args:
        quotes: of :func:`features.surface.clean`.
        by_spread: weigh a change by half the spread of its quote, instead of all alike.

    Raises:
        BadInputError: the solver gave up.
    """
    began = time.perf_counter()
    call, x = calls_of(quotes, quotes.mid_Q), np.exp(quotes.k_Q)
    broken = chords_of(quotes, call)
    if not len(broken.point):
        return Repair(quotes, np.zeros(len(call)), 0, time.perf_counter() - began)
    weight = np.ones(len(call))
    if by_spread:
        half = 0.5 * (calls_of(quotes, quotes.ask_Q) - calls_of(quotes, quotes.bid_Q))
        weight = np.median(half) / np.maximum(half, 1e-9)
    chords = _joined(_neighbours(quotes.start_F, x), broken)
    for _ in range(_ROUNDS):
        change = _smallest_change(chords, call, x, weight)
        broken = chords_of(quotes, call + change, 0.5 * TOLERANCE)
        if not len(broken.point):
            break
        chords = _joined(chords, broken)
    else:
        raise BadInputError(f"The quotes are not repaired after {_ROUNDS} rounds", "Clean them first.")
    moved = np.abs(change) > 1e-12
    mid = quotes.mid_Q.copy()
    years = quotes.years_Q
    mid[moved] = implied_volatility((call + change)[moved], 1.0, x[moved], years[moved], True)
    repaired = quotes._replace(mid_Q=mid, bid_Q=np.minimum(quotes.bid_Q, mid), ask_Q=np.maximum(quotes.ask_Q, mid))
    return Repair(repaired, change, int(moved.sum()), time.perf_counter() - began)


def _neighbours(start_F: Array, x: FloatArray) -> Chords:
    """Every call against its neighbours in its expiry: (0, 1) is before the first, and the last may not rise."""
    i = np.arange(len(x))
    is_first, is_last = np.zeros(len(x), bool), np.zeros(len(x), bool)
    is_first[start_F[:-1]], is_last[start_F[1:] - 1] = True, True
    left, right = np.where(is_first, ORIGIN, i - 1), np.where(is_last, i - 1, i + 1)
    lowest = np.where(is_first, 0.0, x[i - 1])
    share = np.where(is_last, 0.0, (x - lowest) / np.where(is_last, 1.0, x[right] - lowest))
    kept = ~(is_first & is_last)
    return Chords(i[kept], left[kept], right[kept], share[kept])


def _joined(first: Chords, second: Chords) -> Chords:
    return Chords(*(np.concatenate(each) for each in zip(first, second, strict=True)))


def _smallest_change(chords: Chords, call: FloatArray, x: FloatArray, weight: FloatArray) -> FloatArray:
    """Of the calls, such that each lies below its chords; its variables are the rises and the falls."""
    n, rows = len(call), len(chords.point)
    at_left, at_right = chords.left != ORIGIN, chords.share > 0.0
    left = np.where(at_left, call[chords.left], 1.0)
    above = call[chords.point] - left - chords.share * (call[chords.right] - left)
    # Of the rises: the call's, less the chord's.
    row = np.arange(rows)
    values = np.concatenate([np.ones(rows), -(1.0 - chords.share)[at_left], -chords.share[at_right]])
    columns = np.concatenate([chords.point, chords.left[at_left], chords.right[at_right]])
    places = np.concatenate([row, row[at_left], row[at_right]])
    upper = csr_array(
        (np.concatenate([values, -values]), (np.tile(places, 2), np.concatenate([columns, columns + n]))),
        shape=(rows, 2 * n),
    )
    limits = np.zeros((2 * n, 2))
    limits[:n, 1] = np.inf
    # A call falls no further than its intrinsic value.
    limits[n:, 1] = np.maximum(call - np.maximum(1.0 - x, 0.0) - _MARGIN, 0.0)
    found = linprog(
        np.concatenate([weight, weight]), A_ub=upper, b_ub=-above - _MARGIN, bounds=limits, method="highs-ds",
        options={"presolve": False, "primal_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    if found.x is None:
        raise BadInputError(f"The quotes cannot be repaired: {found.message}", "Clean them first.")
    change: FloatArray = found.x[:n] - found.x[n:]
    return change
