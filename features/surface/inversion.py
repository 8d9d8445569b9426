"""The volatility that Black-76 needs to give a price."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.kernel import kernel
from features.surface.black import broadcast_rows, normal_cdf, normal_pdf

MAX_DEVIATION: Final = 40.0
"""Largest volatility times sqrt(expiry): beyond it the price is its bound in double precision."""

MAX_LOG_RATIO: Final = 700.0
"""Largest |log(K / F)| whose exponential is finite."""

MAX_STEPS: Final = 100

SMALLEST_NORMAL: Final = 2.2250738585072014e-308
"""Time values below it (as a share of the smaller of forward and strike) have lost digits to underflow."""

_CUBIC: Final = 1e-5
"""A Halley step of this relative size leaves an error of its cube: no further step is needed."""

_SQRT_2PI: Final = 2.5066282746310002


@kernel
def _time_value_share(price: float, forward: float, strike: float, is_call: bool) -> float:
    """Price of the out-of-the-money option of the same strike, by parity, over the smaller of forward and strike."""
    intrinsic = forward - strike if is_call else strike - forward
    return (price - max(intrinsic, 0.0)) / min(forward, strike)


@kernel
def _first_deviation(share: float, log_ratio: float) -> float:
    """Start of the iteration: Newton from the price's inflection s^2 = 2 log_ratio, or its small-s asymptote below."""
    inflection = math.sqrt(2.0 * log_ratio)
    at_inflection = 0.5 - math.exp(log_ratio) * normal_cdf(-inflection)
    if share >= at_inflection:
        return inflection + (share - at_inflection) * _SQRT_2PI
    # Far below, share ~ s^3 exp(-log_ratio^2 / (2 s^2)): solve without the cube, then once with it.
    fall = math.log(at_inflection / share)
    deviation = log_ratio / math.sqrt(0.5 * log_ratio + 2.0 * fall)
    fall += 3.0 * math.log(deviation / inflection)
    return log_ratio / math.sqrt(0.5 * log_ratio + 2.0 * max(fall, 0.0))


@kernel
def implied_volatility_kernel(price: float, forward: float, strike: float, expiry: float, is_call: bool) -> float:
    """Implied volatility of one option by Halley's iteration on the logarithm of its out-of-the-money price.

    With s = volatility sqrt(T), m = |log(K / F)| and d1, d2 = -m / s +- s / 2, both the out-of-the-money call and put
    cost min(F, K) (N(d1) - e^m N(d2)). In its logarithm the iteration converges cubically at every moneyness (the idea
    of Jaeckel 2015, "Let's be rational", sec. 4); a bracket keeps every step.

    Returns:
        NaN at or below intrinsic value, at or above the bound (F for a call, K for a put), where the time value
        underflows, and when an input is unknown or not positive.
    """
    if not (price > 0.0 and forward > 0.0 and strike > 0.0 and expiry > 0.0):
        return math.nan
    share = _time_value_share(price, forward, strike, is_call)
    log_ratio = abs(math.log(strike / forward))
    if not (SMALLEST_NORMAL <= share < 1.0 and log_ratio < MAX_LOG_RATIO):
        return math.nan
    ratio = max(forward, strike) / min(forward, strike)
    low, high = 0.0, MAX_DEVIATION
    deviation = _first_deviation(share, log_ratio)
    for _ in range(MAX_STEPS):
        if not (low < deviation < high):
            deviation = 0.5 * (low + high)
        d1 = 0.5 * deviation - log_ratio / deviation
        d2 = d1 - deviation
        value = normal_cdf(d1) - ratio * normal_cdf(d2)
        if value < share:
            low = deviation
        else:
            high = deviation
        slope = normal_pdf(d1) / value
        newton = math.log(value / share) / slope
        step = newton / max(0.5, 1.0 - 0.5 * newton * (d1 * d2 / deviation - slope))
        if abs(step) < _CUBIC * deviation:
            return (deviation - step) / math.sqrt(expiry)
        # An underflow makes the step NaN: then the bracket is halved.
        deviation = deviation - step
    # Only where the time value is below the rounding of the formula, so that the bracket is all there is to know.
    return 0.5 * (low + high) / math.sqrt(expiry)


@kernel
def _rows(price: Any, forward: Any, strike: Any, expiry: Any, is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = implied_volatility_kernel(price[i], forward[i], strike[i], expiry[i], is_call[i])


def implied_volatility(
    price: ArrayLike, forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, is_call: ArrayLike
) -> NDArray[np.float64]:
    """Black-76 implied volatilities of undiscounted prices.

    Args:
        price, forward, strike: in quote currency; a coin price is multiplied by its forward first.
        expiry: in years of 365 days.
        is_call: call or put.

    Returns:
        Volatility in 1 / sqrt(year), of the broadcast shape; NaN at or below intrinsic value, at or above the bound
        (F for a call, K for a put), where the time value underflows, and where an input is unknown or not positive.

    >>> round(float(implied_volatility(7.965567455405804, 100.0, 100.0, 1.0, True)), 12)
    0.2
    """
    return broadcast_rows(_rows, price, forward, strike, expiry, is_call=is_call)
