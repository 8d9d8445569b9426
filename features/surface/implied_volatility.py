"""The volatility that Black-76 needs to give a price.

The out-of-the-money price p of the option is matched in log(p), where Halley's iteration is nearly quadratic from any
start (Jaeckel 2015, sec. 3, in spirit); a bracket keeps every step.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.kernel import kernel
from features.surface.black import black_price_kernel, normal_pdf

MAX_DEVIATION: Final = 40.0
"""Largest volatility times sqrt(expiry): beyond it the price is its bound in double precision."""

MAX_STEPS: Final = 100


@kernel
def implied_volatility_kernel(price: float, forward: float, strike: float, expiry_years: float, is_call: bool) -> float:
    """Implied volatility of one option; NaN below intrinsic, at or above the bound, or when an input is unknown."""
    if not (price > 0.0 and forward > 0.0 and strike > 0.0 and expiry_years > 0.0):
        return math.nan
    # Parity moves an in-the-money price to the out-of-the-money side, where nothing cancels.
    call = forward <= strike
    time_value = price
    if is_call != call:
        time_value = price - (forward - strike) if is_call else price - (strike - forward)
    bound = forward if call else strike
    if not (0.0 < time_value < bound):
        return math.nan
    target = math.log(time_value)
    moneyness = math.log(forward / strike)
    low, high = 0.0, MAX_DEVIATION
    # The inflection point of the price in the deviation: a good start for every moneyness.
    deviation = max(math.sqrt(2.0 * abs(moneyness)), 0.05)
    for _ in range(MAX_STEPS):
        value = black_price_kernel(forward, strike, 1.0, deviation, call)
        if value <= 0.0:
            low = deviation
            deviation = 0.5 * (low + high)
            continue
        error = math.log(value) - target
        if error > 0.0:
            high = deviation
        else:
            low = deviation
        d1 = moneyness / deviation + 0.5 * deviation
        d2 = d1 - deviation
        vega = forward * normal_pdf(d1)
        slope = vega / value
        newton = error / slope if slope > 0.0 else math.inf
        # The second derivative of the log price, over the first.
        bend = d1 * d2 / deviation - slope
        step = newton / max(0.5, 1.0 - 0.5 * newton * bend) if math.isfinite(newton) else math.inf
        following = deviation - step
        if not (low < following < high):
            following = 0.5 * (low + high)
        if abs(following - deviation) <= 4e-16 * deviation:
            deviation = following
            break
        deviation = following
    return deviation / math.sqrt(expiry_years)


@kernel
def _rows(price: Any, forward: Any, strike: Any, expiry_years: Any, is_call: Any, out: Any) -> None:
    for i in range(len(price)):
        out[i] = implied_volatility_kernel(price[i], forward[i], strike[i], expiry_years[i], is_call[i])


def implied_volatility(
    price: ArrayLike, forward: ArrayLike, strike: ArrayLike, expiry_years: ArrayLike, is_call: ArrayLike
) -> NDArray[np.float64]:
    """Black-76 implied volatilities of undiscounted prices.

    Args:
        price, forward, strike: in quote currency; a coin price is multiplied by its forward first.
        expiry_years: in years of 365 days.
        is_call: call or put.

    Returns:
        Volatility per sqrt(year), of the broadcast shape; NaN at or below intrinsic value and where an input is NaN.
    """
    arrays = np.broadcast_arrays(price, forward, strike, expiry_years)
    floats = [np.ascontiguousarray(array, dtype=np.float64).ravel() for array in arrays]
    calls = np.ascontiguousarray(np.broadcast_to(is_call, arrays[0].shape), dtype=np.bool_).ravel()
    out = np.empty(len(calls))
    _rows(*floats, calls, out)
    return out.reshape(arrays[0].shape)
