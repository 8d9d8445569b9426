"""The functions that compute a feature from a window of closed bars."""

from __future__ import annotations

from typing import Final

from features.feature import Feature

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
"""What a windowed feature names as its implementation, one of ours or one that a user declares with another window."""


def is_windowed(feature: Feature) -> bool:
    """Whether one of ``FUNCTIONS`` computes it, over ``window_ns``."""
    return feature.implementation in FUNCTIONS
