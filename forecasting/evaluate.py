"""How good a variance forecast is, and whether it is better than another one by more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInputError

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

NORMAL_975: Final = 1.959963984540054
"""97.5 % quantile of the standard normal distribution: two-sided intervals of 95 %."""


def qlike(realized_N: Float, forecast_N: Float, floor: float = 0.0) -> Float:
    """``y / f - log(y / f) - 1`` of each row: 0 for a perfect forecast, robust to noise in y (Patton 2011).

    Args:
        realized_N: y, realized variance over the horizon.
        forecast_N: f, in the same unit.
        floor: smallest y to count. A market that did not move at all would give an infinite loss; take the
            model's ``variance_floor``.

    Returns:
        NaN where either is NaN.
    """
    ratio = np.maximum(realized_N, floor) / forecast_N
    return np.asarray(ratio - np.log(ratio) - 1.0)


@dataclass(frozen=True, slots=True)
class DieboldMariano:
    """Mean difference of two losses with its 95 % interval; negative: the first forecast is better."""

    difference: float
    low: float
    high: float
    t_statistic: float
    n: int


def diebold_mariano(loss_T: Float, other_loss_T: Float, lag: int) -> DieboldMariano:
    """Test of equal accuracy (Diebold and Mariano 1995), with the variance of Newey and West (1987).

    ``var(mean d) = (g_0 + 2 sum_{l=1}^{lag} (1 - l / (lag + 1)) g_l) / T`` with g_l the autocovariances of d.

    Args:
        loss_T, other_loss_T: losses in the order of time. Average the underlyings of a bar first
            (:func:`mean_by_bar`): their errors at one time are no independent evidence.
        lag: at least H - 1 for targets that overlap over H bars.

    Returns:
        NaN interval and statistic where the variance is not positive.

    Raises:
        BadInputError: the lengths differ, or there is no row.
    """
    if len(loss_T) != len(other_loss_T) or not len(loss_T):
        raise BadInputError(f"{len(loss_T)} losses against {len(other_loss_T)}.", "Compare forecasts of the same rows.")
    difference_T = loss_T - other_loss_T
    mean = float(difference_T.mean())
    centred, t_rows = difference_T - mean, len(difference_T)
    variance = float(centred @ centred)
    for k in range(1, min(lag, t_rows - 1) + 1):
        variance += 2.0 * (1.0 - k / (lag + 1.0)) * float(centred[k:] @ centred[:-k])
    error = math.sqrt(variance) / t_rows if variance > 0.0 else math.nan
    half = NORMAL_975 * error
    return DieboldMariano(mean, mean - half, mean + half, mean / error, t_rows)


def mean_by_bar(value_N: Float, bar_ts_N: Integer) -> Float:
    """``mean_T`` of the rows of each bar, in the order of time."""
    _, index = np.unique(bar_ts_N, return_inverse=True)
    return np.asarray(np.bincount(index, weights=value_N) / np.bincount(index))
