"""What trading moves: Kyle's lambda, Amihud's ratio, Roll's spread. Windows run oldest to newest; NaN in, NaN out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from features.bar_state import R_EARLIER, R_LATER, R_PAIRS, R_PRODUCT, R_TRADES_OK
from features.events import NANO
from features.kernel import kernel
from features.realized import all_known

Array = np.ndarray[Any, Any]


@kernel
def kyle_lambda(log_return: Array, signed_volume: Array) -> float:
    """Slope of 1e4 r on signed volume, with intercept, in basis points a contract (Kyle 1985).

    With r = 1e-4, 3e-4 and signed volumes 1, 2 it is 2; NaN where the signed volume does not vary.
    """
    if not all_known(log_return) or not all_known(signed_volume):
        return math.nan
    n = len(log_return)
    mean_x, mean_y, same = 0.0, 0.0, True
    for i in range(n):
        mean_x += signed_volume[i]
        mean_y += log_return[i]
        same = same and signed_volume[i] == signed_volume[0]
    if same:
        return math.nan
    mean_x /= n
    mean_y /= n
    xx, xy = 0.0, 0.0
    for i in range(n):
        x = signed_volume[i] - mean_x
        xx += x * x
        xy += x * (log_return[i] - mean_y)
    return 10_000.0 * xy / xx


@kernel
def amihud(log_return: Array, notional: Array) -> float:
    """1e6 mean(|r| / notional) over the bars that have trades (Amihud 2002, eq. 1).

    With r = .01 on a notional of 50,000 it is .2; NaN where no bar has a trade.
    """
    if not all_known(log_return) or not all_known(notional):
        return math.nan
    total, traded = 0.0, 0
    for i in range(len(log_return)):
        if notional[i] > 0.0:
            total += abs(log_return[i]) / notional[i]
            traded += 1
    return 1e6 * total / traded if traded > 0 else math.nan


@kernel
def roll_spread(counts: Array, mid: float, tick_e9: int) -> float:
    """2e4 sqrt(-cov) / mid over consecutive changes of the trade price (Roll 1984).

    Trades at 100, 101, 100, 101 have the changes 1, -1, 1: two pairs, cov = -1 - 0 = -1; with a mid of 100.5 it is 199.

    Args:
        counts: (INTEGER_RINGS, n): the bars' sums over pairs of changes, in increments; exact until the last division.
        mid: at the end of the last bar, quote currency; NaN when unknown.
        tick_e9: price increment in units of 1e-9.

    Returns:
        Basis points of mid; NaN where a bar of the window lost a trade, there are fewer than two pairs, or cov > 0.
    """
    pairs, product, later, earlier = 0, 0, 0, 0
    for i in range(counts.shape[1]):
        if counts[R_TRADES_OK, i] == 0:
            return math.nan
        pairs += counts[R_PAIRS, i]
        product += counts[R_PRODUCT, i]
        later += counts[R_LATER, i]
        earlier += counts[R_EARLIER, i]
    if pairs < 2:
        return math.nan
    covariance = float(product) / pairs - (float(later) / pairs) * (float(earlier) / pairs)
    if covariance > 0.0:
        return math.nan
    return 20_000.0 * math.sqrt(-covariance) * tick_e9 / NANO / mid
