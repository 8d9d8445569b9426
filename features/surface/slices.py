"""A surface as the stream keeps it: slices of eSSVI, and of SVI where that is closer to the quotes and free.

eSSVI's three numbers an expiry exclude arbitrage, but not half a vol point of misfit at the money of a crypto smile;
SVI's five meet it. So each expiry has both, and SVI's is taken where Durrleman's g stays positive and the slice lies
below the one after it, on a grid that reaches six of that one's deviations; else the eSSVI slice stands in. The last
expiry is fitted first: it is quoted furthest out, and what lies beyond the quotes of an earlier one has to stay below
it; in turn, what lies beyond its own quotes is kept above what is bid at earlier expiries. Between slices total
variance is linear at fixed log-moneyness; before the first and beyond the last the smile keeps its volatilities.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from features.surface.cleaning import is_short
from features.surface.essvi import essvi_variance
from features.surface.svi import GRID, REACH, grid_ends, lowest_butterfly, svi_variance
from features.surface.svi_fit import FIRMNESS, fit_svi_kernel

Array = np.ndarray[Any, Any]

OTHER_SIDE: Final = 5
PRIOR_SHARE: Final = 1e-3
"""Weight of a point of the eSSVI slice, in mean weights of a quote."""
FAR: Final = 12
"""Stations on either side beyond the grid."""
BEND: Final = 9
"""Stations about the later slice's bend, half of its s apart: a narrow one fits between those of the grid."""
STATIONS: Final = GRID + 2 * FAR + BEND
MAX_REACH: Final = 6.0
"""How far out slices are kept apart, in standard deviations of the later one."""
FLOOR: Final = 1.0 / FIRMNESS
"""Share of a bound's firmness that what is bid at an earlier expiry has: it weighs as a quote of one's own."""
CLEARANCE: Final = 1e-3
"""Share of the ceiling's variance that a slice aims to stay below it: for what a penalty leaves, and for what lies
between two stations."""


@kernel
def slice_variance(essvi: Array, svi: Array, k: float) -> float:
    """Total variance at k: of the SVI slice where there is one (its first number is known), else of the eSSVI slice."""
    if math.isnan(svi[0]):
        return essvi_variance(essvi[0], essvi[1], essvi[2], k)
    return svi_variance(svi[0], svi[1], svi[2], svi[3], svi[4], k)


@kernel
def variance_at(years_E: Array, essvi_E3: Array, svi_E5: Array, k: float, years: float) -> float:
    """Total variance at log-moneyness k and a time to expiry; NaN without any slice."""
    last = len(years_E) - 1
    if last < 0 or not years > 0.0:
        return math.nan
    if years <= years_E[0]:
        return slice_variance(essvi_E3[0], svi_E5[0], k) * float(years / years_E[0])
    if years >= years_E[last]:
        return slice_variance(essvi_E3[last], svi_E5[last], k) * float(years / years_E[last])
    at = 1
    while years_E[at] < years:
        at += 1
    share = float((years - years_E[at - 1]) / (years_E[at] - years_E[at - 1]))
    before = slice_variance(essvi_E3[at - 1], svi_E5[at - 1], k)
    return before + share * (slice_variance(essvi_E3[at], svi_E5[at], k) - before)


@kernel
def _stations(low: float, high: float, far: float, later: Array, k: Array) -> None:
    """Where a slice is compared with the one after it.

    On its grid, ever further out to ``far`` on both sides, and about the bend of the later SVI slice, if it is one.
    """
    for i in range(GRID):
        k[i] = low + (high - low) * i / (GRID - 1)
    for i in range(FAR):
        share = (i + 1) / FAR
        k[GRID + 2 * i] = low * (max(far, -2.0 * low) / -low) ** share
        k[GRID + 2 * i + 1] = high * (max(far, 2.0 * high) / high) ** share
    for i in range(BEND):
        k[GRID + 2 * FAR + i] = 0.0 if math.isnan(later[0]) else later[3] + later[4] * (i - BEND // 2) / 2.0


@kernel
def _is_below(svi: Array, low: float, high: float, ceiling: Array) -> bool:
    for i in range(ceiling.shape[1]):
        if svi_variance(svi[0], svi[1], svi[2], svi[3], svi[4], ceiling[0, i]) > ceiling[1, i]:
            return False
    return lowest_butterfly(svi, low, high) >= 0.0


@kernel
def _fit_within(
    k: Array, w: Array, weight: Array, bounds: Array, warm: Array, low: float, high: float, ceiling: Array, svi: Array
) -> bool:
    """Fit an SVI slice within bounds; whether there is one that stays below the ceiling and has no butterflies.

    A warm start may lead into a valley of its own, and so may bounds. While what is found is not free, or misses the
    quotes by more than half their spreads, the slice is fitted anew, and then from the smile that knows no bounds; the
    best of them is taken.
    """
    least, trial, begin = math.inf, np.empty(5), warm.copy()
    for attempt in range(3):
        if attempt == 0 and math.isnan(warm[0]):
            continue
        if attempt == 1:
            begin[:] = math.nan
        elif attempt == 2:
            begin[:] = math.nan
            fit_svi_kernel(k, w, weight, bounds[:, :0], FIRMNESS, begin, low, high, trial)
            begin[:] = trial
        cost, _ = fit_svi_kernel(k, w, weight, bounds, FIRMNESS, begin, low, high, trial)
        if cost < least and _is_below(trial, low, high, ceiling):
            least = cost
            svi[:] = trial
        if least <= len(k):
            break
    return least < math.inf


@kernel
def _bounds(k_Q: Array, bid_w_Q: Array, first: int, stop: int, ceiling: Array, bounds: Array) -> int:
    """What the slice of points ``first`` to ``stop`` is kept within; how many bounds there are.

    Above: the ceiling, less the clearance. Below, beyond its own quotes: what is bid for the same log-moneyness at
    earlier expiries, since a later option is worth no less.
    """
    count = int(ceiling.shape[1])
    bounds[0, :count], bounds[1, :count], bounds[2, :count] = ceiling[0], ceiling[1] * (1.0 - CLEARANCE), 1.0
    for i in range(first):
        if k_Q[i] < k_Q[first] or k_Q[i] > k_Q[stop - 1]:
            bounds[0, count], bounds[1, count], bounds[2, count] = k_Q[i], bid_w_Q[i], -FLOOR
            count += 1
    return count


@kernel
def _with_other_side(k: Array, w: Array, weight: Array, essvi: Array) -> tuple[Array, Array, Array]:
    """Points on one side of the money, with some of the eSSVI slice on the other, which weigh next to nothing."""
    side = -1.0 if k[0] > 0.0 else 1.0
    deviation = math.sqrt(essvi[0])
    added = np.empty(OTHER_SIDE)
    for i in range(OTHER_SIDE):
        # From the money out to 2.5 deviations, in increasing order.
        step = i if side > 0.0 else OTHER_SIDE - 1 - i
        added[i] = side * 2.5 * deviation * step / (OTHER_SIDE - 1)
    level = np.empty(OTHER_SIDE)
    for i in range(OTHER_SIDE):
        level[i] = essvi_variance(essvi[0], essvi[1], essvi[2], added[i])
    light = np.full(OTHER_SIDE, PRIOR_SHARE * weight.mean())
    if side < 0.0:
        return np.concatenate((added, k)), np.concatenate((level, w)), np.concatenate((light, weight))
    return np.concatenate((k, added)), np.concatenate((w, level)), np.concatenate((weight, light))


@kernel
def fit_slices(
    start_F: Array, k_Q: Array, bid_w_Q: Array, w_Q: Array, weight_Q: Array, essvi_E3: Array, warm_E5: Array,
    svi_E5: Array,
) -> int:  # fmt: skip
    """Fit SVI slices where points tell a smile or one side of it, each below the next one; NaN where none is free.

    Args:
        start_F, k_Q, w_Q, weight_Q: points as :func:`features.surface.essvi_fit.fit_essvi_kernel` has them.
        bid_w_Q: total variance of their bids.
        essvi_E3: the slices that stand in; those that cross the one after are lowered until they do not. All three
            numbers times a share below one: total variance times that share, and still no butterfly.
        warm_E5: SVI slices to begin with, and what stays where there is no point; NaN for none.
        svi_E5: gets a, b, rho, m, s of every expiry.

    Returns:
        How many slices that stand in crossed the one after, and were lowered.
    """
    lowered = 0
    everywhere, bounds = np.empty((2, STATIONS)), np.empty((3, STATIONS + len(k_Q)))
    none = np.full(5, math.nan)
    last = len(essvi_E3) - 1
    for e in range(last, -1, -1):
        svi_E5[e] = none
        a, b = start_F[e], start_F[e + 1]
        low, high = -REACH * math.sqrt(essvi_E3[e, 0]), REACH * math.sqrt(essvi_E3[e, 0])
        if b > a:
            low, high = grid_ends(k_Q[a:b], w_Q[a:b])
        ceiling = everywhere[:, : STATIONS if e < last else 0]
        if e < last:
            far = MAX_REACH * math.sqrt(slice_variance(essvi_E3[e + 1], svi_E5[e + 1], 0.0))
            _stations(low, high, far, svi_E5[e + 1], ceiling[0])
            for i in range(STATIONS):
                ceiling[1, i] = slice_variance(essvi_E3[e + 1], svi_E5[e + 1], ceiling[0, i])
        if b == a and not math.isnan(warm_E5[e, 0]) and _is_below(warm_E5[e], low, high, ceiling):
            svi_E5[e] = warm_E5[e]
            continue
        if b > a and not is_short(k_Q[a:b], w_Q[a:b]):
            within = bounds[:, : _bounds(k_Q, bid_w_Q, a, b, ceiling, bounds)]
            k, w, weight = k_Q[a:b], w_Q[a:b], weight_Q[a:b]
            if k[0] > 0.0 or k[-1] < 0.0:
                k, w, weight = _with_other_side(k, w, weight, essvi_E3[e])
            if _fit_within(k, w, weight, within, warm_E5[e], low, high, ceiling, svi_E5[e]):
                continue
            svi_E5[e] = none
        share = 1.0
        for i in range(ceiling.shape[1]):
            share = min(share, ceiling[1, i] / slice_variance(essvi_E3[e], none, ceiling[0, i]))
        if share < 1.0:
            essvi_E3[e] *= share * (1.0 - CLEARANCE)
            lowered += 1
    return lowered
