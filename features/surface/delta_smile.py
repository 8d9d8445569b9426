"""A surface of any model by delta, as option traders quote a smile.

Deltas are forward deltas N(d1) of calls, d1 = s sqrt(T) / 2 - k / (s sqrt(T)): the 25-delta put is where the call's
is 0.75. d1 falls in k wherever a smile has no arbitrage that a trader would see, so k is read off over d1, on a grid
about the money.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from scipy.special import ndtri

from features.surface.model import FloatArray, Surface

Array = np.ndarray[Any, Any]

NODES: Final = 801
REACH: Final = 6.0
"""Of the grid, in standard deviations at the money: beyond the 1-delta options of any smile one meets."""


def volatility_at_deltas(surface: Surface, years: float, call_delta: Any) -> FloatArray:
    """Implied volatility where the call's forward delta is ``call_delta``, 1 / sqrt(year).

    Args:
        surface: of any model.
        years: to expiry.
        call_delta: between 0 and 1, of any shape.

    Returns:
        Of the shape of ``call_delta``; NaN where the surface does not reach it. Linear in d1 between grid points that
        are 0.015 deviations apart: right to 0.1 bp for smooth smiles.
    """
    k, volatility = _smile(surface, years)
    deviation = volatility * math.sqrt(years)
    with np.errstate(invalid="ignore", divide="ignore"):
        d1 = 0.5 * deviation - k / deviation
    inner = _around_money(d1)
    wanted = ndtri(np.asarray(call_delta, np.float64))
    if inner.stop - inner.start < 2:
        return np.full(wanted.shape, np.nan)
    # np.interp wants rising abscissae; d1 falls with k.
    found: FloatArray = np.interp(-wanted, -d1[inner], volatility[inner], left=np.nan, right=np.nan)
    return found


def log_moneyness_at_deltas(surface: Surface, years: float, call_delta: Any) -> FloatArray:
    """k = log(K / F) where the call's forward delta is ``call_delta``: k = s sqrt(T) (s sqrt(T) / 2 - N^-1(delta))."""
    delta = np.asarray(call_delta, np.float64)
    deviation = volatility_at_deltas(surface, years, delta) * math.sqrt(years)
    found: FloatArray = deviation * (0.5 * deviation - ndtri(delta))
    return found


def _smile(surface: Surface, years: float) -> tuple[FloatArray, FloatArray]:
    level = float(surface.implied_volatility(0.0, years))
    reach = REACH * level * math.sqrt(years) if level > 0.0 else 1.0
    k = np.linspace(-reach, reach, NODES)
    return k, surface.implied_volatility(k, years)


def _around_money(d1: FloatArray) -> slice:
    """The longest run of grid points about the money in which d1 falls."""
    falls = np.diff(d1) < 0.0  # False beside NaN, too
    middle = len(d1) // 2
    low, high = middle, middle
    while low > 0 and falls[low - 1]:
        low -= 1
    while high < len(falls) and falls[high]:
        high += 1
    return slice(low, high + 1)
