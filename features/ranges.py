"""Variances from the highest and lowest mids of bars, and drawdown. Windows run oldest to newest; NaN in, NaN out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from features.kernel import kernel
from features.realized import all_known

Array = np.ndarray[Any, Any]


@kernel
def parkinson_variance(log_range: Array) -> float:
    """sum log(H / L)^2 / (4 log 2) (Parkinson 1980). One bar with log(H / L) = .02: 4e-4 / 2.7726 = 1.4427e-4."""
    total = 0.0
    for value in log_range:
        total += value * value
    return total / (4.0 * math.log(2.0))


@kernel
def garman_klass_variance(log_range: Array, log_return: Array) -> float:
    """sum log(H / L)^2 / 2 - (2 log 2 - 1) log(C / O)^2 (Garman and Klass 1980, eq. 20)."""
    total = 0.0
    for i in range(len(log_range)):
        spread, change = log_range[i], log_return[i]
        total += 0.5 * spread * spread - (2.0 * math.log(2.0) - 1.0) * change * change
    return total


@kernel
def drawdown(mid: Array) -> float:
    """1 - mid / largest mid at the bar ends of the window. With 100, 110, 99 it is 1 - 99 / 110 = .1."""
    if not all_known(mid):
        return math.nan
    largest = 0.0
    for value in mid:
        largest = max(largest, value)
    return float(1.0 - mid[-1] / largest)
