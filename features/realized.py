"""Variances of a window of log returns r_1 .. r_n, oldest first; every sum runs in that order. NaN in, NaN out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from features.declared.price import SLOW_SCALE_BARS
from features.kernel import kernel

Array = np.ndarray[Any, Any]


@kernel
def all_known(values: Array) -> bool:
    """Whether no value is NaN."""
    for value in values:  # noqa: SIM110 (numba compiles no generator)
        if math.isnan(value):
            return False
    return True


@kernel
def realized_variance(r: Array) -> float:
    """sum r_i^2 (Andersen, Bollerslev, Diebold and Labys 2003).

    With the returns .01, -.02 it is 1e-4 + 4e-4 = 5e-4.
    """
    total = 0.0
    for value in r:
        total += value * value
    return total


@kernel
def bipower_variance(r: Array) -> float:
    """(pi / 2) (n / (n - 1)) sum |r_i| |r_{i-1}|: robust to jumps (Barndorff-Nielsen and Shephard 2004).

    With .01, -.02 it is (pi / 2) 2 (.02 x .01) = 6.28e-4; NaN with fewer than two returns.
    """
    n = len(r)
    if n < 2:
        return math.nan
    total = 0.0
    for i in range(1, n):
        total += abs(r[i]) * abs(r[i - 1])
    return total * (math.pi / 2.0) * (n / (n - 1))


@kernel
def jump_share(r: Array) -> float:
    """max(0, 1 - bipower_variance / realized_variance); NaN where nothing moved (Huang and Tauchen 2005)."""
    total = realized_variance(r)
    if not total > 0.0:
        return math.nan
    share = 1.0 - bipower_variance(r) / total
    return 0.0 if share < 0.0 else share


@kernel
def upside_semivariance(r: Array) -> float:
    """sum r_i^2 1{r_i > 0} (Barndorff-Nielsen, Kinnebrock and Shephard 2010)."""
    if not all_known(r):
        return math.nan
    total = 0.0
    for value in r:
        if value > 0.0:
            total += value * value
    return total


@kernel
def downside_semivariance(r: Array) -> float:
    """sum r_i^2 1{r_i < 0} (Barndorff-Nielsen, Kinnebrock and Shephard 2010)."""
    if not all_known(r):
        return math.nan
    total = 0.0
    for value in r:
        if value < 0.0:
            total += value * value
    return total


@kernel
def two_scale_variance(r: Array) -> float:
    """Two-scale realized variance: robust to microstructure noise (Zhang, Mykland and Ait-Sahalia 2005, eqs. 55, 64).

    A = (1/K) sum of squared K-bar returns, k = (n - K + 1) / K, (A - (k/n) RV) / (1 - k/n); NaN where n < 2 K.
    """
    n, slow = len(r), SLOW_SCALE_BARS
    if n < 2 * slow:
        return math.nan
    total = 0.0
    for end in range(slow, n + 1):
        change = 0.0
        for i in range(end - slow, end):
            change += r[i]
        total += change * change
    share = (n - slow + 1) / slow / n
    return (total / slow - share * realized_variance(r)) / (1.0 - share)


@kernel
def return_autocorrelation(r: Array) -> float:
    """sum_{i>1} (r_i - m)(r_{i-1} - m) / sum (r_i - m)^2 with m the mean; NaN where the returns do not vary."""
    if not all_known(r):
        return math.nan
    n = len(r)
    mean, same = 0.0, True
    for value in r:
        mean += value
        same = same and value == r[0]
    if same:
        return math.nan
    mean /= n
    covariance, variance = 0.0, 0.0
    for i in range(n):
        deviation = r[i] - mean
        variance += deviation * deviation
        if i > 0:
            covariance += deviation * (r[i - 1] - mean)
    return covariance / variance
