"""Black-76 on the forward, undiscounted: price, delta, gamma, vega.

With d1 = (log(F / K) + s^2 T / 2) / (s sqrt(T)) and d2 = d1 - s sqrt(T), the undiscounted call is
F N(d1) - K N(d2) (Black 1976, eq. 16, without the discount factor). A coin-settled (inverse) option costs this price
divided by F, in coin.

Units: forward, strike and price in quote currency; expiry in years of 365 days; volatility in 1 / sqrt(year), so that
``volatility**2 * expiry`` is dimensionless. Kernels take scalars; the functions without ``_kernel`` broadcast arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.kernel import kernel

YEAR_NS: Final = 365 * 24 * 3_600 * 1_000_000_000
"""A year of 365 days in nanoseconds: the clock of crypto options."""

_SQRT_2: Final = math.sqrt(2.0)
_INV_SQRT_2PI: Final = 1.0 / math.sqrt(2.0 * math.pi)

FloatArray = NDArray[np.float64]


@kernel
def normal_cdf(x: float) -> float:
    """Standard normal distribution function, accurate in both tails."""
    return 0.5 * math.erfc(-x / _SQRT_2)


@kernel
def normal_pdf(x: float) -> float:
    """Standard normal density."""
    return _INV_SQRT_2PI * math.exp(-0.5 * x * x)


@kernel
def black_price_kernel(forward: float, strike: float, expiry_years: float, volatility: float, is_call: bool) -> float:
    """Undiscounted price of one option; its intrinsic value when no variance is left."""
    deviation = volatility * math.sqrt(expiry_years) if expiry_years > 0.0 else 0.0
    if deviation <= 0.0:
        return max(forward - strike, 0.0) if is_call else max(strike - forward, 0.0)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    d2 = d1 - deviation
    if is_call:
        return forward * normal_cdf(d1) - strike * normal_cdf(d2)
    return strike * normal_cdf(-d2) - forward * normal_cdf(-d1)


@kernel
def black_delta_kernel(forward: float, strike: float, expiry_years: float, volatility: float, is_call: bool) -> float:
    """Derivative of the price with respect to the forward: N(d1), less 1 for a put."""
    deviation = volatility * math.sqrt(expiry_years) if expiry_years > 0.0 else 0.0
    if deviation <= 0.0:
        if is_call:
            return 1.0 if forward > strike else 0.0
        return -1.0 if forward < strike else 0.0
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return normal_cdf(d1) if is_call else -normal_cdf(-d1)


@kernel
def black_gamma_kernel(forward: float, strike: float, expiry_years: float, volatility: float) -> float:
    """Second derivative with respect to the forward: n(d1) / (F s sqrt(T)); 0 when no variance is left."""
    deviation = volatility * math.sqrt(expiry_years) if expiry_years > 0.0 else 0.0
    if deviation <= 0.0:
        return 0.0
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return normal_pdf(d1) / (forward * deviation)


@kernel
def black_vega_kernel(forward: float, strike: float, expiry_years: float, volatility: float) -> float:
    """Derivative with respect to the volatility: F n(d1) sqrt(T); 0 when no variance is left."""
    deviation = volatility * math.sqrt(expiry_years) if expiry_years > 0.0 else 0.0
    if deviation <= 0.0:
        return 0.0
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return forward * normal_pdf(d1) * math.sqrt(expiry_years)


def _rows(function: Callable[..., float], *columns: ArrayLike) -> FloatArray:
    """Apply a scalar kernel to broadcast columns, row by row."""
    arrays = np.broadcast_arrays(*columns)
    flat: list[Any] = [array.ravel().tolist() for array in arrays]
    return np.array([function(*row) for row in zip(*flat, strict=True)], dtype=np.float64).reshape(arrays[0].shape)


def black_price(
    forward: ArrayLike, strike: ArrayLike, expiry_years: ArrayLike, volatility: ArrayLike, is_call: ArrayLike
) -> FloatArray:
    """Undiscounted prices, in quote currency.

    >>> round(float(black_price(100.0, 100.0, 1.0, 0.2, True)), 6)
    7.965567
    """
    return _rows(black_price_kernel, forward, strike, expiry_years, volatility, is_call)


def black_delta(
    forward: ArrayLike, strike: ArrayLike, expiry_years: ArrayLike, volatility: ArrayLike, is_call: ArrayLike
) -> FloatArray:
    """Forward deltas, dimensionless."""
    return _rows(black_delta_kernel, forward, strike, expiry_years, volatility, is_call)


def black_gamma(forward: ArrayLike, strike: ArrayLike, expiry_years: ArrayLike, volatility: ArrayLike) -> FloatArray:
    """Gammas, per unit of quote currency."""
    return _rows(black_gamma_kernel, forward, strike, expiry_years, volatility)


def black_vega(forward: ArrayLike, strike: ArrayLike, expiry_years: ArrayLike, volatility: ArrayLike) -> FloatArray:
    """Vegas, in quote currency per unit of volatility (100 vol points)."""
    return _rows(black_vega_kernel, forward, strike, expiry_years, volatility)
