"""The fit of SVI: m and log(s) are searched by a simplex (Nelder and Mead), the other three follow linearly.

The linear layer is :mod:`features.surface.svi_inner`. The search penalises where Durrleman's g is negative (there is a
butterfly: :func:`features.surface.svi.lowest_butterfly`); what still has one after that is flattened until it has none.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from features.surface.cleaning import Points, weighed
from features.surface.model import FitReport, SliceSurface, expiry_fit
from features.surface.sparse import with_prior
from features.surface.svi import CHECKS, SVI, check_point, grid_ends, lowest_butterfly, svi_butterfly
from features.surface.svi_inner import fit_inner, squares

Array = np.ndarray[Any, Any]

STEPS: Final = 160
FIRMNESS: Final = 1e4
"""Weight of what is beyond a bound, in mean weights of a point."""
UNBOUNDED: Final[Array] = np.zeros((3, 0))
_FIRST_S: Final = 0.04
_STARTS: Final = 5
"""Of s that a fit without a warm start tries: from ``_FIRST_S`` of the grid's width, each 2.5 times the one before."""
_TOLERANCE: Final = 1e-10
_PENALTY: Final = 1e6
_WORST: Final = 1e6
_MARGIN: Final = 1e-3
"""By which conditions hold on the grid: between its points, and after the simplex has settled, something is lost."""


@kernel
def _raw(inner: Array, m: float, s: float, out: Array) -> None:
    b = inner[2] / s
    out[0], out[1], out[2], out[3], out[4] = inner[0], b, (inner[1] / inner[2] if inner[2] > 0.0 else 0.0), m, s


@kernel
def _outer(
    k: Array, w: Array, weight: Array, bounds: Array, excess: float, low: float, high: float, m: float,
    log_s: float, enough: float, inner: Array, raw: Array,
) -> float:  # fmt: skip
    """The cost at m and log(s), with the penalty of butterflies; without it where it is ``enough`` to be refused."""
    s = math.exp(log_s)
    cost = fit_inner(k, w, weight, bounds, excess, m, s, inner)
    if cost >= enough:
        return cost
    _raw(inner, m, s, raw)
    penalty = 0.0
    for i in range(CHECKS):
        g = svi_butterfly(raw[0], raw[1], raw[2], raw[3], raw[4], check_point(raw, low, high, i))
        if g < _MARGIN:
            # A square, and from one on its tangent: far out of bounds there has to be a way back.
            short = min(_MARGIN - g, _WORST)
            penalty += short * short if short < 1.0 else 2.0 * short - 1.0
    return cost + _PENALTY * (1.0 + cost) * penalty


@kernel
def _sorted(simplex: Array, cost: Array) -> None:
    """The corners by cost: best, middle, worst."""
    for i in range(2):
        for j in range(2 - i):
            if cost[j + 1] < cost[j]:
                cost[j], cost[j + 1] = cost[j + 1], cost[j]
                for axis in range(2):
                    simplex[j, axis], simplex[j + 1, axis] = simplex[j + 1, axis], simplex[j, axis]


@kernel
def _descend(
    k: Array, w: Array, weight: Array, bounds: Array, excess: float, low: float, high: float, m: float,
    log_s: float, spread: float, raw: Array,
) -> tuple[float, int]:  # fmt: skip
    """Nelder and Mead's simplex from (m, log s); its best into ``raw``, the cost and how many steps were taken.

    Args:
        k, w, weight, bounds, low, high: as in :func:`fit_svi_kernel`.
        excess: weight of what is beyond the bounds.
        m, log_s: to begin with.
        spread: of the first simplex: of log s, and a fifth of it of m in widths of the grid.
        raw: gets a, b, rho, m, s.
    """
    width = max(0.5 * (high - low), 1e-3)
    lowest_s, highest_s = math.log(1e-4 * width + 1e-6), math.log(20.0 * width + 1e-3)
    inner, simplex, cost = np.empty(3), np.empty((3, 2)), np.empty(3)
    for i in range(3):
        simplex[i, 0] = m + (0.2 * spread * width if i == 1 else 0.0)
        simplex[i, 1] = log_s + (spread if i == 2 else 0.0)
        cost[i] = _outer(k, w, weight, bounds, excess, low, high, simplex[i, 0], simplex[i, 1], math.inf, inner, raw)
    steps = 0
    while steps < STEPS:
        steps += 1
        _sorted(simplex, cost)
        size = abs(simplex[2, 0] - simplex[0, 0]) / width + abs(simplex[2, 1] - simplex[0, 1])
        size += abs(simplex[1, 0] - simplex[0, 0]) / width + abs(simplex[1, 1] - simplex[0, 1])
        if cost[2] - cost[0] <= _TOLERANCE * (cost[0] + 1e-12) or size < 1e-7:
            break
        middle_m = 0.5 * (simplex[0, 0] + simplex[1, 0])
        middle_s = 0.5 * (simplex[0, 1] + simplex[1, 1])
        way_m, way_s = middle_m - simplex[2, 0], middle_s - simplex[2, 1]
        m, log_s = middle_m + way_m, min(max(middle_s + way_s, lowest_s), highest_s)
        reflected = _outer(k, w, weight, bounds, excess, low, high, m, log_s, cost[2], inner, raw)
        if reflected < cost[0]:
            far_m, far_s = middle_m + 2.0 * way_m, min(max(middle_s + 2.0 * way_s, lowest_s), highest_s)
            far = _outer(k, w, weight, bounds, excess, low, high, far_m, far_s, reflected, inner, raw)
            if far < reflected:
                m, log_s, reflected = far_m, far_s, far
        if reflected < cost[1]:
            simplex[2, 0], simplex[2, 1], cost[2] = m, log_s, reflected
            continue
        towards = 0.5 if reflected < cost[2] else -0.5
        m, log_s = middle_m + towards * way_m, middle_s + towards * way_s
        near = _outer(k, w, weight, bounds, excess, low, high, m, log_s, min(reflected, cost[2]), inner, raw)
        if near < min(reflected, cost[2]):
            simplex[2, 0], simplex[2, 1], cost[2] = m, log_s, near
            continue
        for i in range(1, 3):
            for axis in range(2):
                simplex[i, axis] = 0.5 * (simplex[i, axis] + simplex[0, axis])
            cost[i] = _outer(
                k, w, weight, bounds, excess, low, high, simplex[i, 0], simplex[i, 1], math.inf, inner, raw
            )
    _sorted(simplex, cost)
    return _outer(k, w, weight, bounds, excess, low, high, simplex[0, 0], simplex[0, 1], math.inf, inner, raw), steps


@kernel
def _flattened(k: Array, w: Array, weight: Array, low: float, high: float, raw: Array) -> bool:
    """Where a slice has butterflies, the nearest without on the way to a flat one; whether it had some."""
    if lowest_butterfly(raw, low, high) >= 0.0:
        return False
    level = total = 0.0
    for i in range(len(k)):
        level += weight[i] * w[i]
        total += weight[i]
    level /= total
    found, trial = np.array([level, 0.0, raw[2], raw[3], raw[4]]), raw.copy()
    below, above = 0.0, 1.0
    for _ in range(40):
        share = 0.5 * (below + above)
        trial[0], trial[1] = level + share * (raw[0] - level), share * raw[1]
        if lowest_butterfly(trial, low, high) >= 0.0:
            below = share
            found[:] = trial
        else:
            above = share
    raw[:] = found
    return True


@kernel
def fit_svi_kernel(
    k: Array, w: Array, weight: Array, bounds: Array, firmness: float, warm: Array, low: float, high: float, raw: Array
) -> tuple[float, int]:
    """The best (a, b, rho, m, s) into ``raw``; the cost and how many steps were taken.

    Args:
        k, w, weight: points; at least one, and of positive weight.
        bounds: log-moneynesses, total variances, and shares of the firmness: positive where the smile shall not exceed
            a variance, negative where it shall not fall below it; shape (3, B).
        firmness: weight of what is beyond them, in mean weights of a point.
        warm: (a, b, rho, m, s) to begin with; NaN for none.
        low, high: ends of the grid (:func:`grid_ends`).
        raw: gets the parameters, shape (5,).
    """
    excess = 0.0
    for i in range(len(weight)):
        excess += firmness * weight[i] / len(weight)
    best, steps = math.inf, 0
    if not math.isnan(warm[0]):
        log_s = math.log(max(warm[4], 1e-6))
        best, steps = _descend(k, w, weight, bounds, excess, low, high, warm[3], log_s, 0.1, raw)
    else:
        # A skewed smile has a second valley, where m lies beyond the lowest point: so one way down from either side.
        width = max(0.5 * (high - low), 1e-3)
        inner, trial = np.empty(3), np.empty(5)
        for i in range(3):
            m = 0.5 * (low + high) + 0.5 * width * (i - 1)
            log_s, least = math.log(_FIRST_S * width), math.inf
            for j in range(_STARTS):
                each = math.log(_FIRST_S * width) + j * math.log(2.5)
                found = _outer(k, w, weight, bounds, excess, low, high, m, each, least, inner, trial)
                if found < least:
                    log_s, least = each, found
            found, taken = _descend(k, w, weight, bounds, excess, low, high, m, log_s, 0.5, trial)
            steps += taken
            if found < best or i == 0:
                best = found
                raw[:] = trial
    if _flattened(k, w, weight, low, high, raw):
        adc = np.array([raw[0], raw[1] * raw[2] * raw[4], raw[1] * raw[4]])
        best = squares(k, w, weight, bounds, excess, raw[3], raw[4], adc)
    return best, steps


def fit_svi(quotes: Points, warm: SliceSurface | None = None) -> SliceSurface:
    """A smile an expiry, each by itself; of few quotes with the help of the others (:mod:`features.surface.sparse`).

    Args:
        quotes: of :func:`features.surface.clean`.
        warm: the last surface, to begin with.
    """
    began = time.perf_counter()
    known = {} if warm is None else warm.by_expiry()
    told = with_prior(quotes, warm)
    w, weight = weighed(told)
    smiles, fits = [], []
    for e, expiry in enumerate(quotes.expiry_E.tolist()):
        part = slice(int(told.start_F[e]), int(told.start_F[e + 1]))
        years = float(quotes.years_E[e])
        before = known.get(expiry)
        start = np.full(5, np.nan)
        if isinstance(before, SVI):
            start[:] = (before.a, before.b, before.rho, before.m, before.s)
        raw = np.empty(5)
        low, high = grid_ends(told.k_Q[part], w[part])
        _, steps = fit_svi_kernel(told.k_Q[part], w[part], weight[part], UNBOUNDED, FIRMNESS, start, low, high, raw)
        smile = SVI(*raw.tolist())
        smiles.append(smile)
        k = quotes.k_Q[quotes.start_F[e] : quotes.start_F[e + 1]]
        volatility = np.sqrt(np.maximum(smile.total_variance(k), 0.0) / years)
        fits.append(expiry_fit(quotes, e, volatility, steps))
    report = FitReport("svi", tuple(fits), time.perf_counter() - began)
    return SliceSurface(quotes.years_E, tuple(smiles), report)
