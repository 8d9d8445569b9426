"""What a surface says, in numbers that a model and a trader read: of the streamed one, in kernels.

All at constant times to expiry, by the surface's interpolation. A volatility is in 1 / sqrt(year); deltas are forward
deltas N(d1) of calls, so that the 25-delta put is where the call's is 75. :func:`features.surface.surface_features`
reads the same off a surface of any model.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from features.surface.black import black_price_kernel, normal_cdf
from features.surface.slices import variance_at

Array = np.ndarray[Any, Any]

DAYS: Final = (7, 30, 60, 90, 180)
NAMES: Final = (
    *(f"atm_iv_{days}d" for days in DAYS),
    "risk_reversal_25d", "butterfly_25d", "risk_reversal_10d", "butterfly_10d", "skew_slope_30d", "smile_curvature_30d",
    "term_slope", "term_curvature", "forward_iv_30d_90d", "variance_swap_7d", "variance_swap_30d",
)  # fmt: skip
"""In the order of :func:`surface_features_kernel`."""

_YEAR_D: Final = 365.0
STEP: Final = 1e-3
"""Of the differences at the money, in log-moneyness."""
SWAP_NODES: Final = 200
SWAP_REACH: Final = 40.0
"""Standard deviations: the wings beyond eight are some basis points of a variance swap."""


@kernel
def _volatility(years_E: Array, essvi_E3: Array, svi_E5: Array, k: float, years: float) -> float:
    return math.sqrt(max(variance_at(years_E, essvi_E3, svi_E5, k, years), 0.0) / years)


@kernel
def volatility_at_delta(years_E: Array, essvi_E3: Array, svi_E5: Array, years: float, call_delta: float) -> float:
    """Volatility where the call's forward delta is ``call_delta``: the root in k next to the money, by bisection."""
    step = math.sqrt(max(variance_at(years_E, essvi_E3, svi_E5, 0.0, years), 1e-12))
    side = 1.0 if call_delta < normal_cdf(0.5 * step) else -1.0
    inner, outer = 0.0, side * 0.25 * step
    for _ in range(60):
        deviation = math.sqrt(max(variance_at(years_E, essvi_E3, svi_E5, outer, years), 1e-300))
        if side * (call_delta - normal_cdf(0.5 * deviation - outer / deviation)) >= 0.0:
            break
        inner, outer = outer, outer + side * 0.25 * step
    for _ in range(60):
        middle = 0.5 * (inner + outer)
        deviation = math.sqrt(max(variance_at(years_E, essvi_E3, svi_E5, middle, years), 1e-300))
        if side * (call_delta - normal_cdf(0.5 * deviation - middle / deviation)) >= 0.0:
            outer = middle
        else:
            inner = middle
    return _volatility(years_E, essvi_E3, svi_E5, 0.5 * (inner + outer), years)


@kernel
def variance_swap_level(years_E: Array, essvi_E3: Array, svi_E5: Array, years: float) -> float:
    """Volatility whose square a variance swap pays for: sqrt(2 / T int O(K) / K^2 dK) of the out-of-the-money options.

    Model-free replication (Demeterfi, Derman, Kamal and Zou 1999, eq. 27) with the forward as the boundary; Simpson's
    rule in u, log-moneyness being two standard deviations times sinh(u): dense at the money, and far out in the wings.
    """
    deviation = math.sqrt(max(variance_at(years_E, essvi_E3, svi_E5, 0.0, years), 1e-12))
    step = math.asinh(0.5 * SWAP_REACH) / SWAP_NODES
    total = 0.0
    for side in (-1.0, 1.0):
        for i in range(SWAP_NODES + 1):
            k = side * 2.0 * deviation * math.sinh(step * i)
            volatility = _volatility(years_E, essvi_E3, svi_E5, k, years)
            price = black_price_kernel(1.0, math.exp(k), years, volatility, side > 0.0)
            weight = 1.0 if i == 0 or i == SWAP_NODES else (4.0 if i % 2 == 1 else 2.0)
            total += weight * price * math.exp(-k) * 2.0 * deviation * math.cosh(step * i)
    return math.sqrt(max(2.0 / years * total * step / 3.0, 0.0))


@kernel
def surface_features_kernel(years_E: Array, essvi_E3: Array, svi_E5: Array, out: Array) -> None:
    """The features of :data:`NAMES` into ``out``; NaN without any slice, and slopes in time with fewer than two.

    - risk reversal = s(call) - s(put), butterfly = (s(call) + s(put)) / 2 - s(0), at 30 days and equal deltas;
    - skew slope = ds/dk and smile curvature = d2s/dk2 at k = 0 and 30 days;
    - term slope = s(90 d) - s(7 d), term curvature = s(30 d) - (s(7 d) + s(90 d)) / 2, at the money;
    - forward volatility = sqrt((w(90 d) - w(30 d)) / 60 d), at the money; NaN where that variance is negative;
    - variance swap levels at 7 and 30 days (:func:`variance_swap_level`).
    """
    out[:] = math.nan
    if not len(years_E):
        return
    atm_7, atm_30, atm_60, atm_90, atm_180 = (
        _volatility(years_E, essvi_E3, svi_E5, 0.0, 7.0 / _YEAR_D),
        _volatility(years_E, essvi_E3, svi_E5, 0.0, 30.0 / _YEAR_D),
        _volatility(years_E, essvi_E3, svi_E5, 0.0, 60.0 / _YEAR_D),
        _volatility(years_E, essvi_E3, svi_E5, 0.0, 90.0 / _YEAR_D),
        _volatility(years_E, essvi_E3, svi_E5, 0.0, 180.0 / _YEAR_D),
    )
    out[0], out[1], out[2], out[3], out[4] = atm_7, atm_30, atm_60, atm_90, atm_180
    month = 30.0 / _YEAR_D
    call = volatility_at_delta(years_E, essvi_E3, svi_E5, month, 0.25)
    put = volatility_at_delta(years_E, essvi_E3, svi_E5, month, 0.75)
    out[5], out[6] = call - put, 0.5 * (call + put) - atm_30
    call = volatility_at_delta(years_E, essvi_E3, svi_E5, month, 0.10)
    put = volatility_at_delta(years_E, essvi_E3, svi_E5, month, 0.90)
    out[7], out[8] = call - put, 0.5 * (call + put) - atm_30
    low = _volatility(years_E, essvi_E3, svi_E5, -STEP, month)
    high = _volatility(years_E, essvi_E3, svi_E5, STEP, month)
    out[9] = (high - low) / (2.0 * STEP)
    out[10] = (high - 2.0 * atm_30 + low) / (STEP * STEP)
    if len(years_E) > 1:
        out[11] = atm_90 - atm_7
        out[12] = atm_30 - 0.5 * (atm_7 + atm_90)
        gained = atm_90 * atm_90 * 90.0 - atm_30 * atm_30 * 30.0
        out[13] = math.sqrt(gained / 60.0) if gained >= 0.0 else math.nan
    out[14] = variance_swap_level(years_E, essvi_E3, svi_E5, 7.0 / _YEAR_D)
    out[15] = variance_swap_level(years_E, essvi_E3, svi_E5, month)
