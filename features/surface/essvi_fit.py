"""Least squares for the slices of an eSSVI surface, warm from the last one and without arbitrage at every step.

Levenberg and Marquardt's steps in (theta, right, left) of one slice between its neighbours: the bounds of its box are
an active set, a step beyond what the two other conditions allow is halved until it is not, and a penalty on them bends
the direction along their edge. First every slice is fitted alone. Where the slices then cross, they are taken from the
first expiry on, each above the one before; after that in turns, each between its two neighbours, until nothing moves.
Slices that hold each other do not get far that way, so the same is done once more after a fit of all together
(:mod:`features.surface.essvi_joint`), and the better of the two taken.

A slice with few quotes keeps the shape of the last surface: three weak residuals pull it there, weighed by ``prior``
(the caller lets it decay with the age of that surface), those of the wings more where quotes do not tell a smile.
Without a last surface they pull towards what lies between the slices that tell their own shape, and without any such
slice towards a symmetric smile.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from features.surface.cleaning import is_thin
from features.surface.essvi import MAX_WING, essvi_like, no_butterfly, no_calendar
from features.surface.essvi_cost import prior_cost, slice_cost
from features.surface.essvi_joint import fit_jointly, joint_cost
from features.surface.essvi_step import solve_damped

Array = np.ndarray[Any, Any]

STEPS: Final = 40
TURNS: Final = 12
_SETTLED: Final = 1e-9
"""Relative change of the sum of squares, and of the parameters, at which a fit has settled."""

_SMALLEST: Final = 1e-9
_PENALTY: Final = 1e6
NEIGHBOURS: Final = 0.1
"""Weight of a prior from between the neighbouring slices: as that of the last surface."""
SHAPE: Final = 10.0
"""The same of the wings of a thin slice: the noise of quotes in a cluster would tilt them at will."""
MIN_SHAPE: Final = 1.0
"""That of a prior however old or general."""
_WEAK: Final = 1e-4
"""Weight of the generic prior against one quote at half its spread: enough for a slice of one quote to have a shape."""


@kernel
def _allowed(at: Array, before: Array, after: Array) -> bool:
    """Whether a slice has no butterfly and fits between its neighbours (theta 0: there is none)."""
    if not no_butterfly(at[0], at[1], at[2]):
        return False
    if before[0] > 0.0 and not no_calendar(before[0], before[1], before[2], at[0], at[1], at[2]):
        return False
    return not (after[0] > 0.0 and not no_calendar(at[0], at[1], at[2], after[0], after[1], after[2]))


@kernel
def _penalty(value: float, scale: float, by_theta: float, by_right: float, by_left: float, normal: Array) -> float:
    """Add the square of a violated condition ``value <= 0`` to the normal equations; its size."""
    if value <= 0.0:
        return 0.0
    value /= scale
    gradient = (by_theta / scale, by_right / scale, by_left / scale)
    for i in range(3):
        for j in range(3):
            normal[i, j] += _PENALTY * gradient[i] * gradient[j]
        normal[i, 3] -= _PENALTY * gradient[i] * value
    return _PENALTY * value * value


@kernel
def _cost(
    at: Array, k: Array, w: Array, weight: Array, prior: Array, prior_weight: Array, before: Array, after: Array,
    normal: Array,
) -> float:  # fmt: skip
    """Sum of squares at ``at``; ``normal`` gets J'J in its first three columns and -J'r in the fourth."""
    theta, right, left = at[0], at[1], at[2]
    psi = 0.5 * (right + left)
    normal[:] = 0.0
    total = slice_cost(at, k, w, weight, 0, normal) + prior_cost(at, prior, prior_weight, 0, normal)
    # The edges, from a thousandth inside: an iterate that may not cross one has to feel it before.
    near = 0.999
    total += _penalty(psi * right - near * 4.0 * theta, theta, -near * 4.0, psi + 0.5 * right, 0.5 * right, normal)
    total += _penalty(psi * left - near * 4.0 * theta, theta, -near * 4.0, 0.5 * left, psi + 0.5 * left, normal)
    if before[0] > 0.0:
        steepest = (before[1] + before[2]) / before[0]
        total += _penalty(right + left - steepest * theta, steepest * theta, -steepest, 1.0, 1.0, normal)
    if after[0] > 0.0:
        flattest = (after[1] + after[2]) / after[0]
        total += _penalty(flattest * theta - right - left, flattest * theta, flattest, -1.0, -1.0, normal)
    return total


@kernel
def _clamped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@kernel
def fit_slice(
    at: Array, k: Array, w: Array, weight: Array, prior: Array, prior_weight: Array, before: Array, after: Array
) -> tuple[float, int]:
    """Improve ``at``, which must be allowed, in place; the sum of squares and how many steps were taken."""
    normal, trial_normal = np.zeros((3, 4)), np.zeros((3, 4))
    low, high = np.empty(3), np.empty(3)
    for i in range(3):
        low[i] = max(before[i], _SMALLEST)
        high[i] = after[i] if after[0] > 0.0 else (math.inf if i == 0 else MAX_WING)
    fixed = np.zeros(3, np.bool_)
    lower, step, trial = np.zeros((3, 3)), np.zeros(3), np.zeros(3)
    cost = _cost(at, k, w, weight, prior, prior_weight, before, after, normal)
    damping, steps = 1e-3, 0
    while steps < STEPS:
        steps += 1
        for i in range(3):
            fixed[i] = (at[i] <= low[i] and normal[i, 3] < 0.0) or (at[i] >= high[i] and normal[i, 3] > 0.0)
        better = False
        while not better and damping < 1e8:
            if solve_damped(normal, damping, fixed, lower, step):
                share = 1.0
                for _ in range(12):
                    for i in range(3):
                        trial[i] = at[i] if fixed[i] else _clamped(at[i] + share * step[i], low[i], high[i])
                    if _allowed(trial, before, after):
                        break
                    share *= 0.5
                else:
                    trial[:] = at
                trial_cost = _cost(trial, k, w, weight, prior, prior_weight, before, after, trial_normal)
                better = trial_cost < cost
            if not better:
                damping *= 8.0
        if not better:
            break
        moved = max(abs(trial[0] - at[0]) / at[0], abs(trial[1] - at[1]) / at[1], abs(trial[2] - at[2]) / at[2])
        gained = cost - trial_cost
        at[:] = trial
        normal[:] = trial_normal
        cost = trial_cost
        damping = max(damping * 0.125, 1e-12)
        if gained <= _SETTLED * cost and moved <= 1e-6:
            break
    return cost, steps


@kernel
def _guess(k: Array, w: Array, at: Array) -> None:
    """A symmetric smile at the level of the point nearest to the money."""
    nearest = 0
    for i in range(len(k)):
        if abs(k[i]) < abs(k[nearest]):
            nearest = i
    theta = max(w[nearest], _SMALLEST)
    wing = min(math.sqrt(theta), 1.9)
    at[0], at[1], at[2] = theta, wing, wing


@kernel
def _pulled_inside(at: Array, before: Array, after: Array) -> None:
    """The nearest allowed slice on the way down to the one before: with its wings, any higher theta is allowed."""
    if before[0] > 0.0:
        for i in range(3):
            at[i] = max(at[i], before[i])
    at[1], at[2] = min(at[1], MAX_WING), min(at[2], MAX_WING)
    if _allowed(at, before, after):
        return
    right, left = at[1], at[2]
    floor_right, floor_left = max(before[1], _SMALLEST), max(before[2], _SMALLEST)
    low, high = 0.0, 1.0
    for _ in range(50):
        share = 0.5 * (low + high)
        at[1] = floor_right + share * (right - floor_right)
        at[2] = floor_left + share * (left - floor_left)
        if _allowed(at, before, after):
            low = share
        else:
            high = share
    at[1] = floor_right + low * (right - floor_right)
    at[2] = floor_left + low * (left - floor_left)


@kernel
def _is_free(slice_E3: Array) -> bool:
    for e in range(1, len(slice_E3)):
        a, b = slice_E3[e - 1], slice_E3[e]
        if not no_calendar(a[0], a[1], a[2], b[0], b[1], b[2]):
            return False
    return True


@kernel
def _from_the_first_on(
    start_F: Array, k_Q: Array, w_Q: Array, weight_Q: Array, prior: Array, weights: Array, slice_E3: Array
) -> int:
    """Fit each slice above the one before; how many steps were taken."""
    none, steps = np.zeros(3), 0
    for e in range(len(slice_E3)):
        a, b = start_F[e], start_F[e + 1]
        before = slice_E3[e - 1] if e > 0 else none
        _pulled_inside(slice_E3[e], before, none)
        _, taken = fit_slice(slice_E3[e], k_Q[a:b], w_Q[a:b], weight_Q[a:b], prior[e], weights[e], before, none)
        steps += taken
    return steps


@kernel
def _in_turns(
    start_F: Array, k_Q: Array, w_Q: Array, weight_Q: Array, prior: Array, weights: Array, slice_E3: Array
) -> int:
    """Improve allowed slices, each between its two neighbours, until none moves; how many steps were taken."""
    last, none, steps = len(slice_E3) - 1, np.zeros(3), 0
    for _ in range(TURNS):
        moved = 0.0
        for e in range(last + 1):
            a, b = start_F[e], start_F[e + 1]
            before = slice_E3[e - 1] if e > 0 else none
            after = slice_E3[e + 1] if e < last else none
            theta, right, left = slice_E3[e, 0], slice_E3[e, 1], slice_E3[e, 2]
            _, taken = fit_slice(slice_E3[e], k_Q[a:b], w_Q[a:b], weight_Q[a:b], prior[e], weights[e], before, after)
            steps += taken
            at = slice_E3[e]
            moved = max(moved, abs(at[0] - theta) / theta, abs(at[1] - right) / right, abs(at[2] - left) / left)
        if moved < 1e-6:
            break
    return steps


@kernel
def fit_essvi_kernel(
    years_E: Array,
    start_F: Array,
    k_Q: Array,
    w_Q: Array,
    weight_Q: Array,
    prior_E3: Array,
    prior_E: Array,
    slice_E3: Array,
) -> int:
    """Fit all slices; returns how many steps were taken.

    Args:
        years_E: times to expiry.
        start_F: points of slice e are ``start_F[e]`` to ``start_F[e + 1]``; one without any needs a prior.
        k_Q, w_Q, weight_Q: log-moneyness, total variance and its weight.
        prior_E3: theta, right, left of the last surface at these expiries; NaN for none.
        prior_E: weight of its three relative residuals.
        slice_E3: gets theta, right, left of every expiry.
    """
    expiries = len(start_F) - 1
    none = np.zeros(3)
    prior, weights = np.empty((expiries, 3)), np.empty((expiries, 2))
    told = np.zeros(expiries, np.bool_)
    for e in range(expiries):
        a, b = start_F[e], start_F[e + 1]
        told[e] = not math.isnan(prior_E3[e, 0]) or not is_thin(k_Q[a:b], w_Q[a:b])
    steps = 0
    # Those that tell their own shape come first: the others take it from between them.
    for tells in (True, False):
        for e in range(expiries):
            a, b = start_F[e], start_F[e + 1]
            k, w, weight = k_Q[a:b], w_Q[a:b], weight_Q[a:b]
            if told[e] != tells:
                continue
            if not math.isnan(prior_E3[e, 0]):
                prior[e] = prior_E3[e]
                weights[e] = max(prior_E[e], _WEAK)
            elif tells or not told.any():
                _guess(k, w, prior[e])
                weights[e] = _WEAK
            else:
                prior[e] = essvi_like(years_E[told], slice_E3[told], years_E[e])
                weights[e] = NEIGHBOURS
            if is_thin(k, w):
                weights[e, 1] = max(SHAPE * weights[e, 0] / NEIGHBOURS, MIN_SHAPE)
            if b == a:
                weights[e, 0] = weights[e, 1]
            slice_E3[e] = prior[e]
            _pulled_inside(slice_E3[e], none, none)
            _, taken = fit_slice(slice_E3[e], k, w, weight, prior[e], weights[e], none, none)
            steps += taken
    if _is_free(slice_E3):
        return steps
    together = slice_E3.copy()
    steps += _from_the_first_on(start_F, k_Q, w_Q, weight_Q, prior, weights, slice_E3)
    steps += _in_turns(start_F, k_Q, w_Q, weight_Q, prior, weights, slice_E3)
    steps += fit_jointly(start_F, k_Q, w_Q, weight_Q, prior, weights, together)
    for e in range(expiries):
        _pulled_inside(together[e], together[e - 1] if e > 0 else none, none)
    steps += _in_turns(start_F, k_Q, w_Q, weight_Q, prior, weights, together)
    normal = np.empty((3 * expiries, 3 * expiries + 1))
    costs = [
        joint_cost(each, start_F, k_Q, w_Q, weight_Q, prior, weights, 0.0, normal) for each in (slice_E3, together)
    ]
    if costs[1] < costs[0]:
        slice_E3[:] = together
    return steps
