"""Second-order and coin-adjusted greeks of Black-76 on the forward, undiscounted.

With d1 = log(F / K) / (s sqrt(T)) + s sqrt(T) / 2 and d2 = d1 - s sqrt(T), n the normal density:

- vanna = d2 price / dF ds = -n(d1) d2 / s
- volga = d2 price / ds2 = F n(d1) sqrt(T) d1 d2 / s
- theta = d price / dt = -F n(d1) s / (2 sqrt(T)), per year, at a fixed forward
- inverse delta: of a coin-settled option with coin price v = V / F, the coins of forward to hold against it are
  dV / dF - V / F = delta - v ("premium-adjusted" delta, Wystup 2017, FX Options and Structured Products, sec. 1.1): the
  premium itself is coin.

Units as in :mod:`features.surface.black`; delta, gamma and vega are there.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike

from features.kernel import kernel
from features.surface.black import (
    FloatArray,
    black_delta_kernel,
    black_price_kernel,
    broadcast_rows,
    normal_pdf,
)


@kernel
def _is_alive(forward: float, strike: float, expiry: float, volatility: float) -> bool:
    return bool(forward > 0.0 and strike > 0.0 and expiry > 0.0 and volatility > 0.0)


@kernel
def _is_unknown(forward: float, strike: float, expiry: float, volatility: float) -> bool:
    known = forward > 0.0 and strike > 0.0 and (volatility >= 0.0 or expiry <= 0.0)
    return not known or math.isnan(expiry)


@kernel
def black_vanna_kernel(forward: float, strike: float, expiry: float, volatility: float) -> float:
    """Derivative of the delta by the volatility; 0 when no variance is left."""
    if not _is_alive(forward, strike, expiry, volatility):
        return math.nan if _is_unknown(forward, strike, expiry, volatility) else 0.0
    deviation = volatility * math.sqrt(expiry)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return -normal_pdf(d1) * (d1 - deviation) / volatility


@kernel
def black_volga_kernel(forward: float, strike: float, expiry: float, volatility: float) -> float:
    """Second derivative by the volatility; 0 when no variance is left."""
    if not _is_alive(forward, strike, expiry, volatility):
        return math.nan if _is_unknown(forward, strike, expiry, volatility) else 0.0
    deviation = volatility * math.sqrt(expiry)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return forward * normal_pdf(d1) * math.sqrt(expiry) * d1 * (d1 - deviation) / volatility


@kernel
def black_theta_kernel(forward: float, strike: float, expiry: float, volatility: float) -> float:
    """Derivative by time, per year; 0 when no variance is left."""
    if not _is_alive(forward, strike, expiry, volatility):
        return math.nan if _is_unknown(forward, strike, expiry, volatility) else 0.0
    deviation = volatility * math.sqrt(expiry)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return -0.5 * forward * normal_pdf(d1) * volatility / math.sqrt(expiry)


@kernel
def inverse_delta_kernel(forward: float, strike: float, expiry: float, volatility: float, is_call: bool) -> float:
    """Delta less the coin price."""
    delta = black_delta_kernel(forward, strike, expiry, volatility, is_call)
    return delta - black_price_kernel(forward, strike, expiry, volatility, is_call) / forward


@kernel
def _vanna_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, _is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = black_vanna_kernel(forward[i], strike[i], expiry[i], volatility[i])


@kernel
def _volga_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, _is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = black_volga_kernel(forward[i], strike[i], expiry[i], volatility[i])


@kernel
def _theta_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, _is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = black_theta_kernel(forward[i], strike[i], expiry[i], volatility[i])


@kernel
def _inverse_delta_rows(forward: Any, strike: Any, expiry: Any, volatility: Any, is_call: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = inverse_delta_kernel(forward[i], strike[i], expiry[i], volatility[i], is_call[i])


def black_vanna(forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike) -> FloatArray:
    """Vannas -n(d1) d2 / s, per unit of volatility; of calls and puts alike."""
    return broadcast_rows(_vanna_rows, forward, strike, expiry, volatility, is_call=True)


def black_volga(forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike) -> FloatArray:
    """Volgas F n(d1) sqrt(T) d1 d2 / s, quote currency per squared unit of volatility; of calls and puts alike."""
    return broadcast_rows(_volga_rows, forward, strike, expiry, volatility, is_call=True)


def black_theta(forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike) -> FloatArray:
    """Thetas -F n(d1) s / (2 sqrt(T)), quote currency per year; of calls and puts alike."""
    return broadcast_rows(_theta_rows, forward, strike, expiry, volatility, is_call=True)


def inverse_delta(
    forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike, is_call: ArrayLike
) -> FloatArray:
    """Deltas of coin-settled options, delta - V / F, dimensionless: coins of forward per option."""
    return broadcast_rows(_inverse_delta_rows, forward, strike, expiry, volatility, is_call=is_call)
