"""The functions that compute a feature from a window of closed bars, and how to declare one with another window."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from features.declared import derivative, price, trade
from features.errors import ConfigError
from features.feature import Feature, window_name

FUNCTIONS: Final = (
    "features.realized.realized_variance",
    "features.realized.bipower_variance",
    "features.realized.jump_share",
    "features.realized.upside_semivariance",
    "features.realized.downside_semivariance",
    "features.realized.two_scale_variance",
    "features.realized.return_autocorrelation",
    "features.ranges.parkinson_variance",
    "features.ranges.garman_klass_variance",
    "features.ranges.drawdown",
    "features.price_impact.kyle_lambda",
    "features.price_impact.amihud",
    "features.price_impact.roll_spread",
    "features.carry.open_interest_change",
    "features.carry.variance_risk_premium",
)
"""What a windowed feature names as its implementation."""


def is_windowed(feature: Feature) -> bool:
    """Whether one of ``FUNCTIONS`` computes it, over ``window_ns``."""
    return feature.implementation in FUNCTIONS


def windowed(name: str, window_ns: int) -> Feature:
    """A windowed feature of the house with another window: ``windowed("realized_variance", 30 * MINUTE)``.

    Args:
        name: of the function, the feature's name without its window.
        window_ns: a whole number of bars; its memory is 208 bytes a bar and instrument.

    Raises:
        ConfigError: there is no such feature, or the window is not positive.
    """
    ours = (*price.FEATURES, *trade.FEATURES, *derivative.FEATURES)
    known = {each.implementation.rpartition(".")[2]: each for each in ours if is_windowed(each)}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
        raise ConfigError(f"No windowed feature is called {name!r}.", hint)
    if window_ns <= 0:
        raise ConfigError(f"A window of {window_ns} ns is none.", "Give a positive number of nanoseconds.")
    ours_window = window_name(known[name].window_ns)
    formula = (
        known[name]
        .formula.replace(f"_{ours_window}", f"_{window_name(window_ns)}")
        .replace(f" {ours_window} ", f" {window_name(window_ns)} ")
    )
    return replace(known[name], name=f"{name}_{window_name(window_ns)}", formula=formula, window_ns=window_ns)
