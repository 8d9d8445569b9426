"""The linear layer of an SVI fit: the best a, d and c at given m and s, within a wedge and between bounds.

With y = (k - m) / s total variance is w = a + d y + c sqrt(1 + y^2), d = rho b s and c = b s: linear in all three (De
Marco and Martini 2009, "Quasi-explicit calibration of Gatheral's SVI model"). They keep a variance that is nowhere
negative and wings that Lee's moment formula allows: c >= 0, |d| <= c, c + |d| <= 2 s (b (1 + |rho|) <= 2) and
a + sqrt(c^2 - d^2) >= 0. A smile may also be kept below and above other variances; these bounds are linear, too.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel

Array = np.ndarray[Any, Any]

_TURNS: Final = 8
_WIDEST: Final = 2.0
"""b (1 + |rho|) at most: the slope of total variance that Lee 2004 allows."""


@kernel
def _add_row(sums: Array, u: float, y: float, z: float, w: float) -> None:
    """Add a point of weight u to the normal equations of (1, y, z): products, with the target, the target's square."""
    sums[0] += u
    sums[1] += u * y
    sums[2] += u * z
    sums[3] += u * y * y
    sums[4] += u * y * z
    sums[5] += u * z * z
    sums[6] += u * w
    sums[7] += u * y * w
    sums[8] += u * z * w
    sums[9] += u * w * w


@kernel
def _wedge(sums: Array, s: float, out: Array) -> bool:
    """The best (a, d, c) of the normal equations into ``out``; whether there is one.

    Where their solution leaves the allowed wedge, the best on each of its edges, of which each is a linear problem of
    one unknown less.
    """
    n0, n1, n2, n11, n12, n22 = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    v0, v1, v2, vv = sums[6], sums[7], sums[8], sums[9]
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
def squares(k: Array, w: Array, weight: Array, bounds: Array, excess: float, m: float, s: float, adc: Array) -> float:
    """Sum of squares of a smile, with that of what lies beyond the bounds.

    Of the residuals themselves, not from the normal equations, whose squares cancel.
    """
    total = 0.0
    for i in range(len(k)):
        y = (k[i] - m) / s
        rest = adc[0] + adc[1] * y + adc[2] * math.sqrt(1.0 + y * y) - w[i]
        total += weight[i] * rest * rest
    for i in range(bounds.shape[1]):
        y = (bounds[0, i] - m) / s
        rest = adc[0] + adc[1] * y + adc[2] * math.sqrt(1.0 + y * y) - bounds[1, i]
        if rest * bounds[2, i] > 0.0:
            total += excess * abs(bounds[2, i]) * rest * rest
    return total


@kernel
def fit_inner(k: Array, w: Array, weight: Array, bounds: Array, excess: float, m: float, s: float, out: Array) -> float:
    """The best (a, d, c) at m and s into ``out``; its :func:`squares`, or infinity where there is none.

    What is beyond a bound counts on one side only, so the problem is convex: solved, the bounds that the solution
    breaks join the normal equations and those that it no longer breaks leave them, until none does.
    """
    points = np.zeros(10)
    for i in range(len(k)):
        y = (k[i] - m) / s
        _add_row(points, weight[i], y, math.sqrt(1.0 + y * y), w[i])
    if not _wedge(points, s, out):
        return math.inf
    count = bounds.shape[1]
    active = np.zeros(count, np.bool_)
    for _ in range(_TURNS if count else 0):
        sums = points.copy()
        changed = False
        for i in range(count):
            y = (bounds[0, i] - m) / s
            z = math.sqrt(1.0 + y * y)
            broken = (out[0] + out[1] * y + out[2] * z - bounds[1, i]) * bounds[2, i] > 0.0
            changed |= broken != active[i]
            active[i] = broken
            if broken:
                _add_row(sums, excess * abs(bounds[2, i]), y, z, bounds[1, i])
        if not changed:
            break
        if not _wedge(sums, s, out):
            return math.inf
    return squares(k, w, weight, bounds, excess, m, s, out)
