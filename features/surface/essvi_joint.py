"""All slices of an eSSVI surface at once: Levenberg and Marquardt's steps, and a penalty on what slices must not do.

Taken in turns, slices that hold each other cannot move together: of an inverted term structure, whose variance at the
money hardly rises from one expiry to the next, the turns end far from the best. Here every condition that is broken
adds the square of its relative excess to the sum of squares, with a weight that grows in three rounds; what is then
left of it is a millionth, and is taken out by :func:`features.surface.essvi_fit.fit_essvi_kernel`, slice by slice.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from features.surface.essvi import MAX_WING
from features.surface.essvi_cost import prior_cost, slice_cost
from features.surface.essvi_step import solve_damped

Array = np.ndarray[Any, Any]

ROUNDS: Final = (1e3, 1e5, 1e7)
"""Weight of a condition that is broken by its own size, against one quote missed by half its spread."""
STEPS: Final = 25
_SMALLEST: Final = 1e-9
_SETTLED: Final = 1e-7


@kernel
def _add_condition(value: float, scale: float, gradient: Array, at: Array, weight: float, normal: Array) -> float:
    """Add the square of a violated condition ``value <= 0`` to the normal equations; its size.

    Args:
        value, scale: of the condition, and what it is relative to.
        gradient, at: derivatives of the value by some parameters, and which.
        weight: of its square.
        normal: J'J with -J'r as its last column.
    """
    if value <= 0.0:
        return 0.0
    last = normal.shape[1] - 1
    share = value / scale
    for i in range(len(at)):
        for j in range(len(at)):
            normal[at[i], at[j]] += weight * gradient[i] * gradient[j] / (scale * scale)
        normal[at[i], last] -= weight * gradient[i] / scale * share
    return weight * share * share


@kernel
def joint_cost(
    slice_E3: Array, start_F: Array, k_Q: Array, w_Q: Array, weight_Q: Array, prior_E3: Array, weight_E2: Array,
    penalty: float, normal: Array,
) -> float:  # fmt: skip
    """Sum of squares of all slices, with the prior's and the broken conditions'; J'J and -J'r into ``normal``."""
    normal[:] = 0.0
    normal.shape[1] - 1
    total = 0.0
    gradient, at = np.empty(6), np.empty(6, np.int64)
    for e in range(len(slice_E3)):
        a, b, first = start_F[e], start_F[e + 1], 3 * e
        theta, right, left = slice_E3[e, 0], slice_E3[e, 1], slice_E3[e, 2]
        total += slice_cost(slice_E3[e], k_Q[a:b], w_Q[a:b], weight_Q[a:b], first, normal)
        total += prior_cost(slice_E3[e], prior_E3[e], weight_E2[e], first, normal)
        at[0], at[1], at[2] = first, first + 1, first + 2
        psi = 0.5 * (right + left)
        for wing, other in ((1, 2), (2, 1)):
            steep = slice_E3[e, wing]
            gradient[0], gradient[wing], gradient[other] = -4.0, psi + 0.5 * steep, 0.5 * steep
            total += _add_condition(psi * steep - 4.0 * theta, 4.0 * theta, gradient[:3], at[:3], penalty, normal)
        if e == 0:
            continue
        before = slice_E3[e - 1]
        for i in range(3):
            at[0], at[1] = first - 3 + i, first + i
            gradient[0], gradient[1] = 1.0, -1.0
            total += _add_condition(
                before[i] - slice_E3[e, i], 0.5 * (before[i] + slice_E3[e, i]), gradient[:2], at[:2], penalty, normal
            )
        for i in range(6):
            at[i] = first - 3 + i
        wings, wings_before = right + left, before[1] + before[2]
        gradient[0], gradient[1], gradient[2] = wings, -theta, -theta
        gradient[3], gradient[4], gradient[5] = -wings_before, before[0], before[0]
        total += _add_condition(
            wings * before[0] - wings_before * theta, wings_before * theta, gradient, at, penalty, normal
        )
    return total


@kernel
def fit_jointly(
    start_F: Array, k_Q: Array, w_Q: Array, weight_Q: Array, prior_E3: Array, weight_E2: Array, slice_E3: Array
) -> int:
    """Improve the slices in place, within a millionth of what slices ask of each other; how many steps were taken.

    Arguments as those of :func:`features.surface.essvi_fit.fit_essvi_kernel`, with priors that are all known; their
    weights are two, of theta and of the wings.
    """
    n = 3 * len(slice_E3)
    normal, trial_normal = np.zeros((n, n + 1)), np.zeros((n, n + 1))
    lower, step, fixed = np.zeros((n, n)), np.zeros(n), np.zeros(n, np.bool_)
    trial = np.empty_like(slice_E3)
    steps = 0
    for penalty in ROUNDS:
        cost = joint_cost(slice_E3, start_F, k_Q, w_Q, weight_Q, prior_E3, weight_E2, penalty, normal)
        damping = 1e-3
        for _ in range(STEPS):
            steps += 1
            better = False
            trial_cost = cost
            while not better and damping < 1e8:
                if solve_damped(normal, damping, fixed, lower, step):
                    for e in range(len(slice_E3)):
                        for i in range(3):
                            # A step of more than half of a parameter is none to believe.
                            value = slice_E3[e, i] + min(max(step[3 * e + i], -0.5 * slice_E3[e, i]), slice_E3[e, i])
                            trial[e, i] = min(max(value, _SMALLEST), math.inf if i == 0 else MAX_WING)
                    trial_cost = joint_cost(
                        trial, start_F, k_Q, w_Q, weight_Q, prior_E3, weight_E2, penalty, trial_normal
                    )
                    better = trial_cost < cost
                if not better:
                    damping *= 8.0
            if not better:
                break
            gained = cost - trial_cost
            slice_E3[:] = trial
            normal[:] = trial_normal
            cost = trial_cost
            damping = max(damping * 0.125, 1e-12)
            if gained <= _SETTLED * cost:
                break
    return steps
