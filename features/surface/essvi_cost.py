"""What a slice of eSSVI costs in a fit: how far it misses its points, and how far it is off its prior.

Both add their derivatives to normal equations: J'J, and -J'r as the last column.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel

Array = np.ndarray[Any, Any]

MOST_GROWN: Final = 2.0
"""Ratio of deviations up to which the prior's wings go with them."""


@kernel
def slice_cost(at: Array, k: Array, w: Array, weight: Array, first: int, normal: Array) -> float:
    """Sum of squares of the points of a slice; its derivatives into ``normal`` from row ``first`` on."""
    theta, right, left = at[0], at[1], at[2]
    psi, skew = 0.5 * (right + left), 0.5 * (right - left)
    last = normal.shape[1] - 1
    by, total = np.empty(3), 0.0
    for i in range(len(k)):
        x = k[i]
        root = math.sqrt(max(psi * psi * x * x + 2.0 * theta * skew * x + theta * theta, 1e-300))
        rest = 0.5 * (theta + skew * x + root) - w[i]
        by_skew, by_psi = 0.5 * (x + theta * x / root), 0.5 * psi * x * x / root
        by[0] = 0.5 * (1.0 + (skew * x + theta) / root)
        by[1], by[2] = 0.5 * (by_psi + by_skew), 0.5 * (by_psi - by_skew)
        total += weight[i] * rest * rest
        for p in range(3):
            for q in range(3):
                normal[first + p, first + q] += weight[i] * by[p] * by[q]
            normal[first + p, last] -= weight[i] * by[p] * rest
    return total


@kernel
def prior_cost(at: Array, prior: Array, weight: Array, first: int, normal: Array) -> float:
    """Sum of squares of what a slice is off its prior, whose wings go with the deviation; as :func:`slice_cost`."""
    last = normal.shape[1] - 1
    rest = (at[0] - prior[0]) / prior[0]
    total = float(weight[0] * rest * rest)
    normal[first, first] += weight[0] / (prior[0] * prior[0])
    normal[first, last] -= weight[0] * rest / prior[0]
    # As far as it is the same smile: no level is to follow wings that others press.
    scale, grown = 0.5 * (prior[1] + prior[2]), math.sqrt(at[0] / prior[0])
    moves = 1.0 / MOST_GROWN < grown < MOST_GROWN
    grown = min(max(grown, 1.0 / MOST_GROWN), MOST_GROWN)
    for i in range(1, 3):
        rest = (at[i] - prior[i] * grown) / scale
        by_theta = -0.5 * prior[i] * grown / (at[0] * scale) if moves else 0.0
        total += weight[1] * rest * rest
        normal[first + i, first + i] += weight[1] / (scale * scale)
        normal[first, first + i] += weight[1] * by_theta / scale
        normal[first + i, first] += weight[1] * by_theta / scale
        normal[first, first] += weight[1] * by_theta * by_theta
        normal[first + i, last] -= weight[1] * rest / scale
        normal[first, last] -= weight[1] * rest * by_theta
    return total
