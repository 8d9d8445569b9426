"""What a surface of any model says: the numbers that stream (:mod:`features.surface.streamed_features`), by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from features.surface.black import black_price
from features.surface.cleaning import Points
from features.surface.delta_smile import volatility_at_deltas
from features.surface.held_out import residuals
from features.surface.model import Surface
from features.surface.streamed_features import DAYS, NAMES, STEP, SWAP_NODES, SWAP_REACH

Array = np.ndarray[Any, Any]

_YEAR_D = 365.0


def surface_features(surface: Surface, quotes: Points | None = None) -> dict[str, float]:
    """Features of one surface: its shape at constant times to expiry, and how it meets quotes.

    Volatilities are in 1 / sqrt(year), deltas are forward deltas of calls, so the 25-delta put is where the call's is
    75 (:func:`features.surface.streamed_features.surface_features_kernel` has the formulas; volatilities at a delta are
    right to 0.1 bp here). What needs the surfaces before it (principal factors), the underlying's returns (variance
    risk premia) or the streamed surface's own slices (their arbitrage) comes from
    :class:`features.surface.ChainSurface` and the stage ``features`` alone.

    Args:
        surface: of any model.
        quotes: that it is compared with, if any.

    Returns:
        By name, those of :data:`features.surface.streamed_features.NAMES`; with quotes also ``surface_residual``,
        ``surface_inside_share``, ``option_spread`` and ``option_quotes``. NaN where the surface does not tell: all of
        one without any expiry, slopes in time of one with a single expiry.
    """
    found = dict.fromkeys(NAMES, math.nan)
    if surface.report.expiries:
        found |= _shape(surface)
    return found if quotes is None else found | _beside(surface, quotes)


def _shape(surface: Surface) -> dict[str, float]:
    years = np.array(DAYS) / _YEAR_D
    month = 30.0 / _YEAR_D
    atm = dict(zip(DAYS, surface.implied_volatility(np.zeros(len(DAYS)), years).tolist(), strict=True))
    found = {f"atm_iv_{days}d": value for days, value in atm.items()}
    call25, put25, call10, put10 = volatility_at_deltas(surface, month, np.array([0.25, 0.75, 0.1, 0.9])).tolist()
    for name, call, put in (("25d", call25, put25), ("10d", call10, put10)):
        found[f"risk_reversal_{name}"] = call - put
        found[f"butterfly_{name}"] = 0.5 * (call + put) - atm[30]
    low, middle, high = surface.implied_volatility(np.array([-STEP, 0.0, STEP]), month).tolist()
    found["skew_slope_30d"] = (high - low) / (2.0 * STEP)
    found["smile_curvature_30d"] = (high - 2.0 * middle + low) / STEP**2
    if len(surface.report.expiries) > 1:
        found["term_slope"] = atm[90] - atm[7]
        found["term_curvature"] = atm[30] - 0.5 * (atm[7] + atm[90])
        gained = 90.0 * atm[90] ** 2 - 30.0 * atm[30] ** 2
        found["forward_iv_30d_90d"] = math.sqrt(gained / 60.0) if gained >= 0.0 else math.nan
    for days in (7, 30):
        found[f"variance_swap_{days}d"] = variance_swap_volatility(surface, days / _YEAR_D)
    return found


def variance_swap_volatility(surface: Surface, years: float) -> float:
    """sqrt(2 / T int O(K) / K^2 dK) of the surface's out-of-the-money options, 1 / sqrt(year).

    The rule is that of :func:`features.surface.streamed_features.variance_swap_level`. Far out, where a model has no
    digits left to tell a volatility from, an option counts nothing.
    """
    deviation = float(surface.implied_volatility(0.0, years)) * math.sqrt(years)
    step = math.asinh(0.5 * SWAP_REACH) / SWAP_NODES
    u = step * np.arange(-SWAP_NODES, SWAP_NODES + 1)
    k = 2.0 * deviation * np.sinh(u)
    price = black_price(1.0, np.exp(k), years, surface.implied_volatility(k, years), k > 0.0)
    height = np.where(np.isfinite(price), price, 0.0) * np.exp(-k) * 2.0 * deviation * np.cosh(u)
    # Simpson's weights; both sides share the money, where the integrand has its kink.
    weight = np.where(np.arange(len(u)) % 2 == 1, 4.0, 2.0)
    weight[[0, -1]] = 1.0
    total = float(weight @ height) * step / 3.0
    return math.sqrt(2.0 / years * total)


def _beside(surface: Surface, quotes: Points) -> dict[str, float]:
    rest = residuals(surface, quotes)
    known = rest[np.isfinite(rest)]
    inside = (rest + quotes.mid_Q >= quotes.bid_Q) & (rest + quotes.mid_Q <= quotes.ask_Q)
    any_known, any_quotes = bool(len(known)), bool(len(rest))
    return {
        "surface_residual": math.sqrt(float(np.mean(known**2))) if any_known else math.nan,
        "surface_inside_share": float(np.mean(inside)) if any_quotes else math.nan,
        "option_spread": float(np.mean(quotes.ask_Q - quotes.bid_Q)) if any_quotes else math.nan,
        "option_quotes": float(len(rest)),
    }
