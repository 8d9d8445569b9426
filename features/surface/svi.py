r"""SVI: five numbers a smile, fitted in two layers of which the inner one is a linear problem.

w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + s^2)) (Gatheral 2004). At given m and s it is linear in a, d = rho b s and
c = b s of y = (k - m) / s: w = a + d y + c sqrt(1 + y^2) (De Marco and Martini 2009, "Quasi-explicit calibration of
Gatheral's SVI model"). So only m and log(s) are searched, by Nelder and Mead's simplex.

The inner problem keeps a variance that is nowhere negative and wings that Lee's moment formula allows: c >= 0,
|d| <= c, c + |d| <= 2 s (b (1 + |rho|) <= 2), a + sqrt(c^2 - d^2) >= 0. The outer one penalises where
Durrleman's g is negative (a butterfly): on a grid that reaches beyond the quotes, far beyond it, and about the bend.
What still has one after that is flattened until it has none.

A slice may also be kept below and above other variances (of the next expiry, of earlier quotes). Such bounds are linear
in a, d and c: they belong to the inner problem.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from features.kernel import kernel
from features.surface.cleaning import Points, weighed
from features.surface.model import FitReport, FloatArray, SliceSurface, expiry_fit
from features.surface.sparse import with_prior

Array = np.ndarray[Any, Any]

STEPS: Final = 160
GRID: Final = 41
FAR: Final = 24
"""Points on either side beyond the grid, each ``_GROWTH`` further out: a wing that looks free at four deviations may
bend the price of a call upwards at six."""
_GROWTH: Final = 1.1
NEAR: Final = 16
"""Points on either side of m, from s / 2 on, each 1.6 times as far: what is beside a narrow bend falls into the grid's
gaps."""
CHECKS: Final = GRID + 2 * (FAR + NEAR)
REACH: Final = 4.0
"""How far the grid goes at least, in standard deviations."""
_FIRST_S: Final = 0.04
_STARTS: Final = 5
"""Of s that a fit without a warm start tries: from ``_FIRST_S`` of the grid's width, each 2.5 times the one before."""
_TOLERANCE: Final = 1e-10
_PENALTY: Final = 1e6
FIRMNESS: Final = 1e4
"""Weight of what is beyond a bound, in mean weights of a point."""
_TURNS: Final = 8
_WORST: Final = 1e6
_MARGIN: Final = 1e-3
"""By which conditions hold on the grid: between its points, and after the simplex has settled, something is lost."""
_WIDEST: Final = 2.0
"""b (1 + |rho|) at most: the slope of total variance that Lee 2004 allows."""


@kernel
def svi_variance(a: float, b: float, rho: float, m: float, s: float, k: float) -> float:
    """Total variance at log-moneyness k."""
    x = k - m
    return a + b * (rho * x + math.sqrt(x * x + s * s))


@kernel
def svi_butterfly(a: float, b: float, rho: float, m: float, s: float, k: float) -> float:
    """Durrleman's g at k; minus infinity where the variance is not positive."""
    x = k - m
    root = math.sqrt(x * x + s * s)
    w = a + b * (rho * x + root)
    if not w > 0.0:
        return -math.inf
    first = b * (rho + x / root)
    second = b * s * s / (root * root * root)
    level = 1.0 - k * first / (2.0 * w)
    return level * level - 0.25 * first * first * (1.0 / w + 0.25) + 0.5 * second


@kernel
def _wedge(
    n0: float, n1: float, n2: float, n11: float, n12: float, n22: float, v0: float, v1: float, v2: float, vv: float,
    s: float, out: Array,
) -> bool:  # fmt: skip
    """The best (a, d, c) of the normal equations into ``out``; whether there is one.

    Where their solution leaves the allowed wedge, the best on each of its edges, of which each is a linear problem of
    one unknown less.
    """
    best = math.inf
    # Bases of the wedge's faces: (d, c) = p x + q y. Inside it both are free; on an edge d = +-c, or c + |d| = 2 s.
    for face in range(7):
        if face == 0:
            determinant = n0 * (n11 * n22 - n12 * n12) - n1 * (n1 * n22 - n12 * n2) + n2 * (n1 * n12 - n11 * n2)
            if not abs(determinant) > 1e-14 * n0 * n11 * n22:
                continue
            a = (v0 * (n11 * n22 - n12 * n12) - n1 * (v1 * n22 - n12 * v2) + n2 * (v1 * n12 - n11 * v2)) / determinant
            d = (n0 * (v1 * n22 - n12 * v2) - v0 * (n1 * n22 - n12 * n2) + n2 * (n1 * v2 - v1 * n2)) / determinant
            c = (n0 * (n11 * v2 - v1 * n12) - n1 * (n1 * v2 - v1 * n2) + v0 * (n1 * n12 - n11 * n2)) / determinant
        else:
            # (d, c) = base + x direction
            base_d = base_c = 0.0
            direction_d = direction_c = 0.0
            if face == 1:
                direction_d, direction_c = 1.0, 1.0
            elif face == 2:
                direction_d, direction_c = -1.0, 1.0
            elif face == 3:
                base_c, direction_d, direction_c = _WIDEST * s, 1.0, -1.0
            elif face == 4:
                base_c, direction_d, direction_c = _WIDEST * s, -1.0, -1.0
            elif face == 5:
                base_d, base_c = 0.5 * _WIDEST * s, 0.5 * _WIDEST * s
            else:
                base_d, base_c = -0.5 * _WIDEST * s, 0.5 * _WIDEST * s
            # rows: f = direction_d y + direction_c z, target w - base_d y - base_c z
            t0 = v0 - base_d * n1 - base_c * n2
            t1 = v1 - base_d * n11 - base_c * n12
            t2 = v2 - base_d * n12 - base_c * n22
            f0 = direction_d * n1 + direction_c * n2
            ff = direction_d * direction_d * n11 + direction_c * direction_c * n22
            ff += 2.0 * direction_d * direction_c * n12
            tf = direction_d * t1 + direction_c * t2
            determinant = n0 * ff - f0 * f0
            x = 0.0
            if ff > 0.0 and determinant > 1e-14 * n0 * ff:
                x = (n0 * tf - f0 * t0) / determinant
            if face <= 4:
                x = min(max(x, 0.0), _WIDEST * s * 0.5)
            a = (t0 - x * f0) / n0
            d, c = base_d + x * direction_d, base_c + x * direction_c
        if c < 0.0 or abs(d) > c * (1.0 + 1e-12) or c + abs(d) > _WIDEST * s * (1.0 + 1e-12):
            continue
        lowest = -math.sqrt(max(c * c - d * d, 0.0))
        lifted = a < lowest
        if lifted:
            a = lowest
        cost = (
            vv
            + a * a * n0
            + d * d * n11
            + c * c * n22
            + 2.0 * (a * d * n1 + a * c * n2 + d * c * n12 - a * v0 - d * v1 - c * v2)
        )
        if cost < best:
            best = cost
            out[0], out[1], out[2] = a, d, c
        if face == 0 and not lifted:
            break
    return best < math.inf


@kernel
def _inner(k: Array, w: Array, weight: Array, bounds: Array, excess: float, m: float, s: float, out: Array) -> float:
    """The best (a, d, c) at m and s into ``out``; the sum of squares, with that of what lies beyond the bounds.

    That counts on one side only, so the problem is convex: solved, the bounds that the solution breaks join the normal
    equations and those that it no longer breaks leave them, until none does.
    """
    n0 = n1 = n2 = n11 = n12 = n22 = v0 = v1 = v2 = vv = 0.0
    for i in range(len(k)):
        y = (k[i] - m) / s
        z = math.sqrt(1.0 + y * y)
        u = weight[i]
        n0 += u
        n1 += u * y
        n2 += u * z
        n11 += u * y * y
        n12 += u * y * z
        n22 += u * z * z
        v0 += u * w[i]
        v1 += u * y * w[i]
        v2 += u * z * w[i]
        vv += u * w[i] * w[i]
    if not _wedge(n0, n1, n2, n11, n12, n22, v0, v1, v2, vv, s, out):
        return math.inf
    count = bounds.shape[1]
    active = np.zeros(count, np.bool_)
    for _ in range(_TURNS if count else 0):
        p0, p1, p2, p11, p12, p22 = n0, n1, n2, n11, n12, n22
        q0, q1, q2, qq = v0, v1, v2, vv
        changed = False
        for i in range(count):
            y = (bounds[0, i] - m) / s
            z = math.sqrt(1.0 + y * y)
            broken = (out[0] + out[1] * y + out[2] * z - bounds[1, i]) * bounds[2, i] > 0.0
            changed |= broken != active[i]
            active[i] = broken
            if broken:
                u = excess * abs(bounds[2, i])
                p0 += u
                p1 += u * y
                p2 += u * z
                p11 += u * y * y
                p12 += u * y * z
                p22 += u * z * z
                q0 += u * bounds[1, i]
                q1 += u * y * bounds[1, i]
                q2 += u * z * bounds[1, i]
                qq += u * bounds[1, i] * bounds[1, i]
        if not changed:
            break
        if not _wedge(p0, p1, p2, p11, p12, p22, q0, q1, q2, qq, s, out):
            return math.inf
    # Not from the normal equations, whose squares cancel.
    total = 0.0
    for i in range(len(k)):
        y = (k[i] - m) / s
        rest = out[0] + out[1] * y + out[2] * math.sqrt(1.0 + y * y) - w[i]
        total += weight[i] * rest * rest
    for i in range(count):
        y = (bounds[0, i] - m) / s
        rest = out[0] + out[1] * y + out[2] * math.sqrt(1.0 + y * y) - bounds[1, i]
        if rest * bounds[2, i] > 0.0:
            total += excess * abs(bounds[2, i]) * rest * rest
    return total


@kernel
def _raw(inner: Array, m: float, s: float, out: Array) -> None:
    b = inner[2] / s
    out[0], out[1], out[2], out[3], out[4] = inner[0], b, (inner[1] / inner[2] if inner[2] > 0.0 else 0.0), m, s


@kernel
def grid_ends(k: Array, w: Array) -> tuple[float, float]:
    """Where the grid of a slice begins and ends: at its quotes, or ``REACH`` deviations out."""
    nearest = 0
    for i in range(len(k)):
        if abs(k[i]) < abs(k[nearest]):
            nearest = i
    reach = REACH * math.sqrt(w[nearest])
    return min(k[0], -reach), max(k[len(k) - 1], reach)


@kernel
def lowest_butterfly(raw: Array, low: float, high: float) -> float:
    """Durrleman's g of a, b, rho, m, s: the least of where a slice is checked."""
    found = math.inf
    for i in range(CHECKS):
        found = min(found, svi_butterfly(raw[0], raw[1], raw[2], raw[3], raw[4], check_point(raw, low, high, i)))
    return found


@kernel
def check_point(raw: Array, low: float, high: float, i: int) -> float:
    """Where a slice is checked: on the grid, ever further out beyond it, and about its own bend."""
    if i < GRID:
        return low + (high - low) * i / (GRID - 1)
    side = -1.0 if i % 2 == 0 else 1.0
    at = (i - GRID) // 2
    if at < FAR:
        return (low if side < 0.0 else high) * _GROWTH ** (at + 1)
    return float(raw[3] + side * 0.5 * raw[4] * 1.6 ** (at - FAR))


@kernel
def _outer(
    k: Array, w: Array, weight: Array, bounds: Array, excess: float, low: float, high: float, m: float,
    log_s: float, enough: float, inner: Array, raw: Array,
) -> float:  # fmt: skip
    """The cost at m and log(s), with the penalty of butterflies; without it where it is ``enough`` to be refused."""
    s = math.exp(log_s)
    cost = _inner(k, w, weight, bounds, excess, m, s, inner)
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
def _cost_of(k: Array, w: Array, weight: Array, bounds: Array, excess: float, raw: Array) -> float:
    """Sum of squares of a slice, with that of what lies beyond the bounds."""
    total = 0.0
    for i in range(len(k)):
        total += weight[i] * (svi_variance(raw[0], raw[1], raw[2], raw[3], raw[4], k[i]) - w[i]) ** 2
    for i in range(bounds.shape[1]):
        rest = svi_variance(raw[0], raw[1], raw[2], raw[3], raw[4], bounds[0, i]) - bounds[1, i]
        if rest * bounds[2, i] > 0.0:
            total += excess * abs(bounds[2, i]) * rest * rest
    return total


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
        best = _cost_of(k, w, weight, bounds, excess, raw)
    return best, steps


UNBOUNDED: Final[Array] = np.zeros((3, 0))


@dataclass(frozen=True, slots=True)
class SVI:
    """A smile w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + s^2))."""

    a: float
    b: float
    rho: float
    m: float
    s: float

    def total_variance(self, k: ArrayLike) -> FloatArray:
        """w(k), of the shape of k."""
        x = np.asarray(k, np.float64) - self.m
        found: FloatArray = self.a + self.b * (self.rho * x + np.sqrt(x * x + self.s * self.s))
        return found

    def slopes(self, k: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """w with w' = b (rho + x / r) and w'' = b s^2 / r^3, where x = k - m and r = sqrt(x^2 + s^2)."""
        x = np.asarray(k, np.float64) - self.m
        root = np.maximum(np.sqrt(x * x + self.s * self.s), 1e-150)
        first, second = self.b * (self.rho + x / root), self.b * self.s * (self.s / root) / root**2
        return self.a + self.b * (self.rho * x + root), first, second

    @property
    def bend(self) -> tuple[float, float]:
        """m and s."""
        return self.m, self.s


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
