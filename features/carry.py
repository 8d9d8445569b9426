"""Funding, basis and open interest of an instrument; what its volatility costs over what it was."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.bar_state import END, FUTURE, INDEX, PERPETUAL, RATE, Bars
from features.events import NANO
from features.kernel import kernel
from features.surface.black import YEAR_NS

Array = np.ndarray[Any, Any]

COLUMNS: Final = ("funding_rate", "basis_annualised", "funding_age_s")

PERIODS_A_YEAR: Final = 1095
"""Funding periods of eight hours."""


@kernel
def variance_risk_premium(atm_volatility: float, realized_variance: float, window_ns: int) -> float:
    """Implied variance a year less realized variance, annualised (Bollerslev, Tauchen and Zhou 2009).

    With a volatility of .5 and a realized variance of 2e-6 in 5 minutes: .25 - 2e-6 x 105,120 = .03976.
    """
    return atm_volatility * atm_volatility - realized_variance * (YEAR_NS / window_ns)


@kernel
def _basis(bars: Bars, s: int, mid: float) -> float:
    index = bars.carry[s, INDEX]
    if bars.carry_kind[s] == PERPETUAL:
        return float(PERIODS_A_YEAR * (mid / index - 1.0))
    left_ns = bars.expiry_ns[s] - bars.clock[END]
    if bars.carry_kind[s] == FUTURE and left_ns > 0:
        return float(math.log(mid / index) / (left_ns / YEAR_NS))
    return math.nan


@kernel
def carry_features(bars: Bars, s: int, mid: float, out: Array) -> None:
    """Fill the columns ``COLUMNS``; ``mid`` in quote currency, NaN when unknown.

    A perpetual at 60,060 over an index of 60,000 has a basis of 1095 x .001 = 1.095 a year.
    """
    if bars.carry_ts[s] < 0:
        return
    out[0] = bars.carry[s, RATE]
    out[1] = _basis(bars, s, mid)
    out[2] = (bars.clock[END] - bars.carry_ts[s]) / NANO


@kernel
def open_interest_change(interest: Array) -> float:
    """log(last / first) of the open interest at the bar ends of the window and at the one before it."""
    return math.log(interest[-1] / interest[0])
