"""The windowed features of a catalogue as a plan: which function, over how many bars, in the order of the columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from features.bar_state import INTERVAL, R_INTEREST, R_MID, R_NOTIONAL, R_RANGE, R_RETURN, R_SIGNED, Bars
from features.carry import open_interest_change, variance_risk_premium
from features.declared.trade import IMPACT_NS
from features.declared.windowed import FUNCTIONS
from features.errors import ConfigError
from features.feature import Feature
from features.kernel import kernel
from features.price_impact import amihud, kyle_lambda, roll_spread
from features.ranges import drawdown, garman_klass_variance, parkinson_variance
from features.realized import (
    bipower_variance,
    downside_semivariance,
    jump_share,
    realized_variance,
    return_autocorrelation,
    two_scale_variance,
    upside_semivariance,
)

Array = np.ndarray[Any, Any]

(
    _VARIANCE, _BIPOWER, _JUMP, _UPSIDE, _DOWNSIDE, _TWO_SCALE, _AUTOCORRELATION, _PARKINSON, _GARMAN_KLASS, _DRAWDOWN,
    _KYLE, _AMIHUD, _ROLL, _INTEREST, _PREMIUM,
) = range(len(FUNCTIONS))  # fmt: skip


class Plan(NamedTuple):
    """Windowed features in the order of their columns."""

    function: Array  # positions in FUNCTIONS
    window: Array  # bars
    typical: Array  # (1,): bars that say what a typical trade is


def plan_of(features: Sequence[Feature], interval_ns: int) -> Plan:
    """The plan of windowed features.

    Raises:
        ConfigError: a window is not a whole number of bars.
    """
    for feature in features:
        if feature.window_ns < interval_ns or feature.window_ns % interval_ns:
            raise ConfigError(
                f"The window of {feature.name}, {feature.window_ns} ns, is no multiple of a bar of {interval_ns} ns.",
                "Use bars of 1, 2, 5 or 10 seconds: `interval_ns`.",
            )
    return Plan(
        np.array([FUNCTIONS.index(f.implementation) for f in features], dtype=np.int64),
        np.array([f.window_ns // interval_ns for f in features], dtype=np.int64),
        np.array([IMPACT_NS // interval_ns], dtype=np.int64),
    )


@kernel
def windowed_features(plan: Plan, bars: Bars, s: int, atm_volatility: float, out: Array) -> None:
    """Fill ``out`` (features of the plan,) for the bar that closed last; NaN before a window is full.

    A ring of R bars is stored twice, one copy behind the other, so that every window lies in one piece.
    """
    ring = bars.rings.shape[2] // 2
    end = (bars.bars[s] - 1) % ring + ring + 1
    rings = bars.rings[s]
    for i in range(len(plan.function)):
        function, window = plan.function[i], plan.window[i]
        value = math.nan
        if bars.bars[s] >= window:
            first = end - window
            returns = rings[R_RETURN, first:end]
            if function == _VARIANCE:
                value = realized_variance(returns)
            elif function == _BIPOWER:
                value = bipower_variance(returns)
            elif function == _JUMP:
                value = jump_share(returns)
            elif function == _UPSIDE:
                value = upside_semivariance(returns)
            elif function == _DOWNSIDE:
                value = downside_semivariance(returns)
            elif function == _TWO_SCALE:
                value = two_scale_variance(returns)
            elif function == _AUTOCORRELATION:
                value = return_autocorrelation(returns)
            elif function == _PARKINSON:
                value = parkinson_variance(rings[R_RANGE, first:end])
            elif function == _GARMAN_KLASS:
                value = garman_klass_variance(rings[R_RANGE, first:end], returns)
            elif function == _DRAWDOWN:
                value = drawdown(rings[R_MID, first:end])
            elif function == _KYLE:
                value = kyle_lambda(returns, rings[R_SIGNED, first:end])
            elif function == _AMIHUD:
                value = amihud(returns, rings[R_NOTIONAL, first:end])
            elif function == _ROLL:
                value = roll_spread(bars.counts[s, :, first:end], rings[R_MID, end - 1], bars.tick_e9[s])
            elif function == _INTEREST and bars.bars[s] > window:
                value = open_interest_change(rings[R_INTEREST, first - 1 : end])
            elif function == _PREMIUM:
                value = variance_risk_premium(atm_volatility, realized_variance(returns), window * bars.clock[INTERVAL])
        out[i] = value
