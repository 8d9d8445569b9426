"""Black-76 on the forward, undiscounted: price, delta, gamma, vega.

With d1 = log(F / K) / (s sqrt(T)) + s sqrt(T) / 2 and d2 = d1 - s sqrt(T), the undiscounted call is
F N(d1) - K N(d2) and the put K N(-d2) - F N(-d1) (Black 1976, eq. 16, without its discount factor). A coin-settled
(inverse) option costs this price divided by F, in coin.

Units: forward, strike and price in quote currency; expiry in years of 365 days; volatility in 1 / sqrt(year), so that
``volatility**2 * expiry`` is dimensionless. Kernels take scalars, also inside other kernels; the functions
without ``_kernel`` broadcast arrays. An input that is NaN, a negative volatility and a forward or strike that is not
positive give NaN, except that at or after expiry the value no longer depends on the volatility.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.kernel import kernel

YEAR_NS: Final = 365 * 24 * 3_600 * 1_000_000_000
"""A year of 365 days in nanoseconds: the clock of crypto options, exact in float64."""

_INV_SQRT_2: Final = 0.7071067811865476
_INV_SQRT_2_LOW: Final = -4.833646656726457e-17
"""What ``_INV_SQRT_2`` lacks to 1 / sqrt(2)."""
_INV_SQRT_2PI: Final = 0.3989422804014327
_SPLIT: Final = 134217729.0
"""2**27 + 1: splits a double into two halves whose products are exact (Dekker 1971)."""

FloatArray = NDArray[np.float64]


@kernel
def _rounding_of_product(a: float, b: float, product: float) -> float:
    """The exact a b - product, by Dekker's two-product (1971)."""
    a_high = _SPLIT * a - (_SPLIT * a - a)
    b_high = _SPLIT * b - (_SPLIT * b - b)
    a_low, b_low = a - a_high, b - b_high
    return a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


@kernel
def normal_cdf(x: float) -> float:
    """Standard normal distribution function N(x) = erfc(-x / sqrt(2)) / 2, to a relative 1e-15 in both tails.

    Far left the rounding of x / sqrt(2) alone would cost x^2 / 2 units in the last place; it is computed and taken out
    by d log(erfc(y)) / dy, which lies between -y - sqrt(y^2 + 2) and -y - sqrt(y^2 + 4 / pi).
    """
    y = -x * _INV_SQRT_2
    tail = 0.5 * math.erfc(y)
    if not y > 1.0 or tail == 0.0:
        return tail
    rest = _rounding_of_product(-x, _INV_SQRT_2, y) - x * _INV_SQRT_2_LOW
    return tail * (1.0 - rest * (y + math.sqrt(y * y + 1.6)))


@kernel
def normal_pdf(x: float) -> float:
    """Standard normal density."""
    return _INV_SQRT_2PI * math.exp(-0.5 * x * x)


@kernel
def _deviation(expiry: float, volatility: float) -> float:
    """Standard deviation s sqrt(T) of the log forward at expiry: 0 from expiry on, NaN when unknown."""
    if expiry <= 0.0:
        return 0.0
    return volatility * math.sqrt(expiry) if volatility >= 0.0 else math.nan


@kernel
def _d1(forward: float, strike: float, deviation: float) -> float:
    return math.log(forward / strike) / deviation + 0.5 * deviation


@kernel
def _is_unknown(forward: float, strike: float, deviation: float) -> bool:
    return not (forward > 0.0 and strike > 0.0 and deviation >= 0.0)


@kernel
def black_price_kernel(forward: float, strike: float, expiry: float, volatility: float, is_call: bool) -> float:
    """Undiscounted price of one option; its intrinsic value when no variance is left."""
    deviation = _deviation(expiry, volatility)
    if _is_unknown(forward, strike, deviation):
        return math.nan
    if deviation == 0.0:
        return max(forward - strike, 0.0) if is_call else max(strike - forward, 0.0)
    d1 = _d1(forward, strike, deviation)
    d2 = d1 - deviation
    if is_call:
        return max(forward * normal_cdf(d1) - strike * normal_cdf(d2), 0.0)
    return max(strike * normal_cdf(-d2) - forward * normal_cdf(-d1), 0.0)


@kernel
def black_delta_kernel(forward: float, strike: float, expiry: float, volatility: float, is_call: bool) -> float:
    """Derivative of the price with respect to the forward: N(d1) for a call, N(d1) - 1 for a put."""
    deviation = _deviation(expiry, volatility)
    if _is_unknown(forward, strike, deviation):
        return math.nan
    if deviation > 0.0:
        d1 = _d1(forward, strike, deviation)
    else:
        d1 = 0.0 if forward == strike else math.copysign(math.inf, forward - strike)
    return normal_cdf(d1) if is_call else -normal_cdf(-d1)


@kernel
def black_gamma_kernel(forward: float, strike: float, expiry: float, volatility: float) -> float:
    """Second derivative with respect to the forward: n(d1) / (F s sqrt(T)); 0 when no variance is left."""
    deviation = _deviation(expiry, volatility)
    if _is_unknown(forward, strike, deviation):
        return math.nan
    return normal_pdf(_d1(forward, strike, deviation)) / (forward * deviation) if deviation > 0.0 else 0.0


@kernel
def black_vega_kernel(forward: float, strike: float, expiry: float, volatility: float) -> float:
    """Derivative with respect to the volatility: F n(d1) sqrt(T); 0 when no variance is left."""
    deviation = _deviation(expiry, volatility)
    if _is_unknown(forward, strike, deviation):
        return math.nan
    return forward * normal_pdf(_d1(forward, strike, deviation)) * math.sqrt(expiry) if deviation > 0.0 else 0.0


@kernel
def _price_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = black_price_kernel(forward[i], strike[i], expiry[i], volatility[i], is_call[i])


@kernel
def _delta_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = black_delta_kernel(forward[i], strike[i], expiry[i], volatility[i], is_call[i])


@kernel
def _gamma_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, _is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = black_gamma_kernel(forward[i], strike[i], expiry[i], volatility[i])


@kernel
def _vega_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, _is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = black_vega_kernel(forward[i], strike[i], expiry[i], volatility[i])


def broadcast_rows(rows: Callable[..., None], *columns: ArrayLike, is_call: ArrayLike) -> FloatArray:
    """Broadcast the columns and ``is_call``, and let ``rows`` fill an array of that shape."""
    *floats, calls = np.broadcast_arrays(*columns, is_call)
    flat = [_flat(column, np.float64) for column in floats]
    out = np.empty(calls.size)
    rows(*flat, _flat(calls, np.bool_), out)
    return out.reshape(calls.shape)


def _flat(column: NDArray[Any], dtype: Any) -> NDArray[Any]:
    flat = np.ascontiguousarray(column, dtype=dtype).ravel()
    # A single value may still be numpy's view of a broadcast one, which numba warns of.
    return flat.copy() if flat.size == 1 else flat


def black_price(
    forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike, is_call: ArrayLike
) -> FloatArray:
    """Undiscounted prices in quote currency, F N(d1) - K N(d2) for calls; divide by the forward for coin prices.

    >>> round(float(black_price(100.0, 100.0, 1.0, 0.2, True)), 6)
    7.965567
    """
    return broadcast_rows(_price_rows, forward, strike, expiry, volatility, is_call=is_call)


def black_delta(
    forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike, is_call: ArrayLike
) -> FloatArray:
    """Forward deltas N(d1) of calls and N(d1) - 1 of puts, dimensionless."""
    return broadcast_rows(_delta_rows, forward, strike, expiry, volatility, is_call=is_call)


def black_gamma(forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike) -> FloatArray:
    """Gammas n(d1) / (F s sqrt(T)), per unit of quote currency; of calls and puts alike."""
    return broadcast_rows(_gamma_rows, forward, strike, expiry, volatility, is_call=True)


def black_vega(forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike) -> FloatArray:
    """Vegas F n(d1) sqrt(T), in quote currency per unit of volatility (100 vol points); of calls and puts alike."""
    return broadcast_rows(_vega_rows, forward, strike, expiry, volatility, is_call=True)
