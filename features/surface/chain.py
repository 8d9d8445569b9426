"""What one option chain says: at-the-money volatility, skew and term structure, straight from its quotes.

Per expiry the smile is the implied volatility of the out-of-the-money options, linear in log-moneyness
k = log(K / F) between neighbouring strikes.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from features.surface.black import YEAR_NS, normal_cdf
from features.surface.implied_volatility import implied_volatility_kernel

Array = np.ndarray[Any, Any]

DAY_NS: Final = 24 * 3_600 * 1_000_000_000
MAX_EXPIRIES: Final = 64


@kernel
def _interpolated(x0: float, y0: float, x1: float, y1: float, x: float) -> float:
    return y0 + (y1 - y0) * ((x - x0) / (x1 - x0))


@kernel
def _smile(order: Array, first: int, last: int, strike: Array, forward: Array, volatility: Array, k: Array) -> int:
    """Gather the out-of-the-money points of one expiry, by strike; returns how many and leaves them in ``k``."""
    points = 0
    for position in range(first, last):
        i = order[position]
        if math.isnan(volatility[i]):
            continue
        moneyness = math.log(strike[i] / forward[i])
        if points > 0 and moneyness <= k[points - 1, 0]:
            continue
        k[points, 0] = moneyness
        k[points, 1] = volatility[i]
        points += 1
    return points


@kernel
def _at_the_money(k: Array, points: int) -> float:
    for i in range(points):
        if k[i, 0] == 0.0:
            return float(k[i, 1])
        if i > 0 and k[i - 1, 0] < 0.0 < k[i, 0]:
            return _interpolated(k[i - 1, 0], k[i - 1, 1], k[i, 0], k[i, 1], 0.0)
    return math.nan


@kernel
def _call_delta(moneyness: float, volatility: float, years: float) -> float:
    deviation = volatility * math.sqrt(years)
    return normal_cdf(-moneyness / deviation + 0.5 * deviation)


@kernel
def _volatility_at_delta(k: Array, points: int, years: float, delta: float) -> float:
    """Volatility where the call's forward delta is ``delta``: found between strikes by bisection on the smile."""
    for i in range(1, points):
        left = _call_delta(k[i - 1, 0], k[i - 1, 1], years)
        right = _call_delta(k[i, 0], k[i, 1], years)
        if not (left >= delta >= right):
            continue
        low, high = k[i - 1, 0], k[i, 0]
        for _ in range(60):
            middle = 0.5 * (low + high)
            volatility = _interpolated(k[i - 1, 0], k[i - 1, 1], k[i, 0], k[i, 1], middle)
            if _call_delta(middle, volatility, years) > delta:
                low = middle
            else:
                high = middle
        return _interpolated(k[i - 1, 0], k[i - 1, 1], k[i, 0], k[i, 1], 0.5 * (low + high))
    return math.nan


@kernel
def _at_tenor(years: Array, volatility: Array, expiries: int, tenor: float) -> float:
    """Volatility at ``tenor``, linear in total variance; flat in volatility beyond the first and last expiry."""
    if expiries == 0:
        return math.nan
    if tenor <= years[0]:
        return float(volatility[0])
    for i in range(1, expiries):
        if tenor <= years[i]:
            left, right = volatility[i - 1] ** 2 * years[i - 1], volatility[i] ** 2 * years[i]
            return math.sqrt(_interpolated(years[i - 1], left, years[i], right, tenor) / tenor)
    return float(volatility[expiries - 1])


@kernel
def chain_features(
    expiry_ns: Array, strike: Array, is_call: Array, mid: Array, forward: Array, n: int, now_ns: int
) -> tuple[float, float, float]:
    """At-the-money volatility at 30 days, 25-delta risk reversal near 30 days, and the 90 - 7 day slope.

    Args:
        expiry_ns, strike, is_call: of option i; shapes (n,) or longer.
        mid: undiscounted mid price in quote currency, NaN when unknown.
        forward: of the option's expiry, NaN when unknown.
        n: how many options there are; their order does not matter.
        now_ns: the moment that times to expiry count from.

    Returns:
        (atm_iv_30d, risk_reversal_25d, term_slope) as the catalogue declares them, NaN for unknown.
    """
    volatility = np.full(n, math.nan)
    for i in range(n):
        out_of_the_money = is_call[i] == (strike[i] >= forward[i])
        if expiry_ns[i] > now_ns and out_of_the_money:
            years = (expiry_ns[i] - now_ns) / YEAR_NS
            volatility[i] = implied_volatility_kernel(mid[i], forward[i], strike[i], years, is_call[i])
    # By expiry, then strike: two stable sorts.
    by_strike = np.argsort(strike[:n], kind="mergesort")
    order = by_strike[np.argsort(expiry_ns[:n][by_strike], kind="mergesort")]
    years_of, atm_of = np.empty(MAX_EXPIRIES), np.empty(MAX_EXPIRIES)
    smile = np.empty((n, 2))
    expiries = 0
    risk_reversal, nearest = math.nan, math.inf
    first = 0
    while first < n and expiries < MAX_EXPIRIES:
        last = first
        while last < n and expiry_ns[order[last]] == expiry_ns[order[first]]:
            last += 1
        points = _smile(order, first, last, strike, forward, volatility, smile)
        years = (expiry_ns[order[first]] - now_ns) / YEAR_NS
        atm = _at_the_money(smile, points)
        if not math.isnan(atm):
            years_of[expiries] = years
            atm_of[expiries] = atm
            expiries += 1
        reversal = _volatility_at_delta(smile, points, years, 0.25) - _volatility_at_delta(smile, points, years, 0.75)
        distance = abs(years - 30 * DAY_NS / YEAR_NS)
        if not math.isnan(reversal) and distance < nearest:
            risk_reversal, nearest = reversal, distance
        first = last
    level = _at_tenor(years_of, atm_of, expiries, 30 * DAY_NS / YEAR_NS)
    slope = math.nan
    if expiries >= 2:
        long_end = _at_tenor(years_of, atm_of, expiries, 90 * DAY_NS / YEAR_NS)
        slope = long_end - _at_tenor(years_of, atm_of, expiries, 7 * DAY_NS / YEAR_NS)
    return level, risk_reversal, slope
