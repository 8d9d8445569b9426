"""A surface as the stream keeps it: slices of eSSVI, and of SVI where that is closer to the quotes and free.

eSSVI's three numbers an expiry exclude arbitrage, but not half a vol point of misfit at the money of a crypto smile;
SVI's five meet it. So each expiry has both, and SVI's is taken where Durrleman's g stays positive and the slice lies
below the one after it, on a grid; else the eSSVI slice stands in. The last expiry is fitted first: it is quoted
furthest out, and what lies beyond the quotes of an earlier one has to stay below it. Between slices total variance is
linear at fixed log-moneyness; before the first and beyond the last the smile keeps its volatilities.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from features.surface.essvi import essvi_variance
from features.surface.svi import GRID, REACH, fit_svi_kernel, grid_ends, lowest_butterfly, svi_variance

Array = np.ndarray[Any, Any]

TURNS: Final = 6
SPAN: Final = 1.0
"""Standard deviations that the points of an SVI slice span: what five numbers say of a closer cluster is its noise."""
CLEARANCE: Final = 1e-3
"""Share of the ceiling's variance below it at which a point is put that a fit is to pass."""


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
def _is_below(svi: Array, low: float, high: float, ceiling: Array, is_bounded: bool) -> bool:
    for i in range(GRID if is_bounded else 0):
        if svi_variance(svi[0], svi[1], svi[2], svi[3], svi[4], low + (high - low) * i / (GRID - 1)) > ceiling[i]:
            return False
    return lowest_butterfly(svi, low, high) >= 0.0


@kernel
def _fit_below(
    k: Array, w: Array, weight: Array, warm: Array, low: float, high: float, ceiling: Array, svi: Array
) -> bool:
    """Fit an SVI slice that stays below a ceiling on its grid (0: none); whether there is one without butterflies.

    Where a fit pierces it, points on the ceiling join the quotes, with ever more weight: the wing of an expiry beyond
    its quotes bends to what the next one, which is quoted further out, allows.
    """
    n = len(k)
    all_k, all_w, all_weight = np.empty(n + GRID), np.empty(n + GRID), np.zeros(n + GRID)
    all_k[:n], all_w[:n], all_weight[:n] = k, w, weight
    mean = 0.0
    for i in range(n):
        mean += weight[i] / n
    for i in range(GRID):
        all_k[n + i] = low + (high - low) * i / (GRID - 1)
        all_w[n + i] = ceiling[i] * (1.0 - CLEARANCE)
    begin = warm.copy()
    for _ in range(TURNS):
        fit_svi_kernel(all_k, all_w, all_weight, begin, low, high, svi)
        begin[:] = svi
        pierced = False
        for i in range(GRID):
            if ceiling[i] > 0.0 and svi_variance(svi[0], svi[1], svi[2], svi[3], svi[4], all_k[n + i]) > ceiling[i]:
                all_weight[n + i] = max(all_weight[n + i] * 16.0, mean)
                pierced = True
        if not pierced:
            return lowest_butterfly(svi, low, high) >= 0.0
    return False


@kernel
def fit_slices(
    start_F: Array, k_Q: Array, w_Q: Array, weight_Q: Array, essvi_E3: Array, warm_E5: Array, least: int, svi_E5: Array
) -> int:
    """Fit SVI slices where there are enough points, far enough apart, each below the next one; NaN where none is free.

    Args:
        start_F, k_Q, w_Q, weight_Q: points as :func:`features.surface.essvi_fit.fit_essvi_kernel` has them.
        essvi_E3: the slices that stand in.
        warm_E5: SVI slices to begin with, and what stays where there is no point; NaN for none.
        least: points that an SVI slice wants.
        svi_E5: gets a, b, rho, m, s of every expiry.

    Returns:
        How many slices that stand in cross the one after, on the grid.
    """
    crossings = 0
    none, ceiling = np.full(5, math.nan), np.zeros(GRID)
    last = len(essvi_E3) - 1
    for e in range(last, -1, -1):
        svi_E5[e] = none
        a, b = start_F[e], start_F[e + 1]
        low, high = -REACH * math.sqrt(essvi_E3[e, 0]), REACH * math.sqrt(essvi_E3[e, 0])
        if b > a:
            low, high = grid_ends(k_Q[a:b], w_Q[a:b])
        if e < last:
            for i in range(GRID):
                ceiling[i] = slice_variance(essvi_E3[e + 1], svi_E5[e + 1], low + (high - low) * i / (GRID - 1))
        if b == a and not math.isnan(warm_E5[e, 0]) and _is_below(warm_E5[e], low, high, ceiling, e < last):
            svi_E5[e] = warm_E5[e]
            continue
        if b - a >= least and k_Q[b - 1] - k_Q[a] >= SPAN * math.sqrt(essvi_E3[e, 0]):
            if _fit_below(k_Q[a:b], w_Q[a:b], weight_Q[a:b], warm_E5[e], low, high, ceiling, svi_E5[e]):
                continue
            svi_E5[e] = none
        for i in range(GRID if e < last else 0):
            if slice_variance(essvi_E3[e], none, low + (high - low) * i / (GRID - 1)) > ceiling[i]:
                crossings += 1
                break
    return crossings
