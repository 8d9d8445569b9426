"""The causal filter of a hidden Markov model with Gaussian observations: what is known now, and never later.

Arrays carry their shape: T times, K states, D observations.

References:
    Hamilton 1989, "A new approach to the economic analysis of nonstationary time series", eqs. 3-5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.kernel import kernel

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # without slots, which `cached_property` cannot fill
class HiddenMarkov:
    """A chain ``P(z' = j | z = i) = transition[i, j]`` seen through ``x | z = k ~ N(mean[k], covariance[k])``."""

    transition: Float  # KK
    mean: Float  # KD
    covariance: Float  # KDD

    @cached_property
    def stationary(self) -> Float:
        """``p_K`` with ``p = A' p``: what is known before the first observation."""
        return stationary_distribution(self.transition)

    @cached_property
    def whitening(self) -> Float:
        """``W_KDD = inv(cholesky(covariance))``, so that ``|W (x - mean)|`` is the Mahalanobis distance."""
        return np.ascontiguousarray(np.linalg.inv(np.linalg.cholesky(self.covariance)))

    @cached_property
    def log_norm(self) -> Float:
        """``log det W - D/2 log 2 pi`` (K), the logarithm of the density's constant."""
        diagonal = np.diagonal(self.whitening, axis1=1, axis2=2)
        return np.asarray(np.log(diagonal).sum(axis=1) - 0.5 * self.mean.shape[1] * math.log(2.0 * math.pi))

    def every(self, n_rows: int) -> HiddenMarkov:
        """The same states, seen every ``n_rows`` rows: the transition matrix to that power."""
        return HiddenMarkov(np.linalg.matrix_power(self.transition, n_rows), self.mean, self.covariance)

    def filter(self, x_TD: Float, state_K: Float | None = None) -> Float:
        """``posterior_TK``: ``P(z_t = k | x_1 ... x_t)`` of each row, continuing from ``state_K``.

        ``posterior_t = normalise((A' posterior_{t-1}) * N(x_t; mean, covariance))``; a row with a NaN or an infinity
        is unknown and takes the prediction ``A' posterior_{t-1}``. The bits do not depend on where rows are cut.
        """
        state = self.stationary if state_K is None else state_K
        x = np.ascontiguousarray(x_TD, dtype=float)
        posterior = np.empty((len(x), len(state)))
        filter_rows(state, x, self.transition, self.mean, self.whitening, self.log_norm, posterior)
        return posterior


@kernel
def filter_rows(
    state_K: Any, x_TD: Any, transition_KK: Any, mean_KD: Any, whitening_KDD: Any, log_norm_K: Any, posterior_TK: Any
) -> None:
    """Fill ``posterior_TK`` row by row; in logarithms, so that a far outlier cannot underflow all states."""
    t_rows, d = x_TD.shape
    k = len(state_K)
    before = state_K.copy()
    weight = np.empty(k)
    for t in range(t_rows):
        known = True
        for j in range(d):
            known = known and math.isfinite(x_TD[t, j])
        largest = -math.inf
        for to in range(k):
            predicted = 0.0
            for origin in range(k):
                predicted += transition_KK[origin, to] * before[origin]
            weight[to] = predicted
            if known:
                weight[to] = math.log(predicted) + log_density(x_TD[t], mean_KD[to], whitening_KDD[to], log_norm_K[to])
                largest = max(largest, weight[to])
        total = 0.0
        for to in range(k):
            if known:
                weight[to] = math.exp(weight[to] - largest)
            total += weight[to]
        for to in range(k):
            before[to] = weight[to] / total
            posterior_TK[t, to] = before[to]


@kernel
def log_density(x_D: Any, mean_D: Any, whitening_DD: Any, log_norm: float) -> float:
    """``log N(x; mean, covariance)`` with ``W = inv(cholesky(covariance))``, lower triangular."""
    square = 0.0
    for row in range(len(x_D)):
        z = 0.0
        for column in range(row + 1):
            z += whitening_DD[row, column] * (x_D[column] - mean_D[column])
        square += z * z
    return log_norm - 0.5 * square


def stationary_distribution(transition_KK: Float) -> Float:
    """The stationary distribution, by its linear equations with ``sum p = 1`` in place of the redundant one."""
    k = len(transition_KK)
    equations = transition_KK.T - np.eye(k)
    equations[-1] = 1.0
    right = np.zeros(k)
    right[-1] = 1.0
    solved = np.clip(np.linalg.solve(equations, right), 0.0, None)
    return np.asarray(solved / solved.sum())
