"""How the surface moves: its principal factors, from what was seen so far and nothing later.

The logarithms of nine volatilities (7, 30 and 90 days; 25-delta put, at the money, 25-delta call) have an exponentially
weighted mean and covariance, whose three largest eigenvectors are the factors (Cont and da Fonseca 2002, "Dynamics of
implied volatility surfaces"). Which is which is said by what it resembles most: all nine alike (level), long against
short (slope), wings against the middle (curvature). Scores are taken with the factors of all earlier surfaces, and in
units of their standard deviation.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.events import NANO
from features.kernel import kernel
from features.surface.slices import variance_at
from features.surface.streamed_features import volatility_at_delta

Array = np.ndarray[Any, Any]

NAMES: Final = ("surface_level", "surface_slope", "surface_curvature")
DAYS: Final = (7.0, 30.0, 90.0)
NODES: Final = 9
HALF_LIFE_NS: Final = 86_400 * NANO
LEAST: Final = 60
"""Surfaces before which nine numbers have no covariance to speak of."""

_SWEEPS: Final = 12
_FLOOR: Final = 1e-8
"""Added to each variance: what a volatility is not exact to."""

STATE: Final = 2 + NODES + NODES * NODES
"""Numbers of the state: surfaces seen, time of the last, mean, covariance."""


@kernel
def nodes_of(years_E: Array, essvi_E3: Array, svi_E5: Array, x: Array) -> None:
    """Logarithms of the nine volatilities: by tenor, and within it put, middle, call."""
    for i in range(3):
        years = DAYS[i] / 365.0
        middle = math.sqrt(max(variance_at(years_E, essvi_E3, svi_E5, 0.0, years), 1e-12) / years)
        x[3 * i] = math.log(max(volatility_at_delta(years_E, essvi_E3, svi_E5, years, 0.75), 1e-6))
        x[3 * i + 1] = math.log(middle)
        x[3 * i + 2] = math.log(max(volatility_at_delta(years_E, essvi_E3, svi_E5, years, 0.25), 1e-6))


@kernel
def eigenvectors(matrix: Array, vectors: Array) -> None:
    """Of a symmetric matrix, by Jacobi's rotations in a fixed order: values onto its diagonal, vectors by column."""
    n = len(matrix)
    vectors[:] = 0.0
    for i in range(n):
        vectors[i, i] = 1.0
    for _ in range(_SWEEPS):
        off = 0.0
        for p in range(n - 1):
            for q in range(p + 1, n):
                off += matrix[p, q] * matrix[p, q]
                if matrix[p, q] == 0.0:
                    continue
                theta = (matrix[q, q] - matrix[p, p]) / (2.0 * matrix[p, q])
                t = 1.0 / (abs(theta) + math.sqrt(theta * theta + 1.0))
                if theta < 0.0:
                    t = -t
                c = 1.0 / math.sqrt(t * t + 1.0)
                s = t * c
                for i in range(n):
                    a, b = matrix[i, p], matrix[i, q]
                    matrix[i, p], matrix[i, q] = c * a - s * b, s * a + c * b
                for i in range(n):
                    a, b = matrix[p, i], matrix[q, i]
                    matrix[p, i], matrix[q, i] = c * a - s * b, s * a + c * b
                for i in range(n):
                    a, b = vectors[i, p], vectors[i, q]
                    vectors[i, p], vectors[i, q] = c * a - s * b, s * a + c * b
        if off < 1e-30:
            break


@kernel
def _resemblance(factor: int, i: int) -> float:
    """Entry i of what the factor is recognised by."""
    if factor == 0:
        return 1.0
    if factor == 1:
        return float(i // 3 - 1)
    return -2.0 if i % 3 == 1 else 1.0


@kernel
def principal_scores(state: Array, x: Array, now_ns: int, out: Array) -> None:
    """Scores of ``x`` by the factors of all earlier surfaces into ``out`` (NaN before :data:`LEAST`); then learn ``x``.

    Args:
        state: shape (``STATE``,); zeros to begin with.
        x: of :func:`nodes_of`.
        now_ns: of the surface.
        out: level, slope, curvature, in standard deviations.
    """
    out[:] = math.nan
    for i in range(NODES):
        if math.isnan(x[i]):
            return
    seen, mean, covariance = state[0], state[2 : 2 + NODES], state[2 + NODES :].reshape(NODES, NODES)
    if seen >= LEAST:
        matrix, vectors = covariance.copy(), np.empty((NODES, NODES))
        for i in range(NODES):
            matrix[i, i] += _FLOOR
        eigenvectors(matrix, vectors)
        largest = np.empty(3, np.int64)
        for rank in range(3):
            best = -1
            for j in range(NODES):
                taken = False
                for earlier in range(rank):
                    taken = taken or largest[earlier] == j
                if not taken and (best < 0 or matrix[j, j] > matrix[best, best]):
                    best = j
            largest[rank] = best
        used = np.zeros(3, np.bool_)
        for factor in range(3):
            best, most, sign = -1, -1.0, 1.0
            for rank in range(3):
                if used[rank]:
                    continue
                likeness = 0.0
                for i in range(NODES):
                    likeness += vectors[i, largest[rank]] * _resemblance(factor, i)
                if abs(likeness) > most:
                    best, most, sign = rank, abs(likeness), (1.0 if likeness >= 0.0 else -1.0)
            used[best] = True
            score = 0.0
            for i in range(NODES):
                score += vectors[i, largest[best]] * (x[i] - mean[i])
            out[factor] = sign * score / math.sqrt(matrix[largest[best], largest[best]])
    # The weight of the past falls by half a day; the first surfaces weigh alike.
    keep = 0.5 ** (max(now_ns - state[1], 0.0) / HALF_LIFE_NS) if seen > 0.0 else 0.0
    gain = max(1.0 - keep, 1.0 / (seen + 1.0))
    for i in range(NODES):
        for j in range(NODES):
            moved = (x[i] - mean[i]) * (x[j] - mean[j])
            covariance[i, j] = (1.0 - gain) * (covariance[i, j] + gain * moved)
    for i in range(NODES):
        mean[i] += gain * (x[i] - mean[i])
    state[0] = seen + 1.0
    state[1] = now_ns
