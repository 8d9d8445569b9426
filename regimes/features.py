"""What the regimes are seen by: logarithms of volatility, spread and depth, standardised per underlying.

Arrays carry their shape: N rows, C raw columns, D observations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.kernel import kernel
from features.rows import raw_rows as raw_rows

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """``log(sum of columns + floor)``.

    Args:
        columns: columns of the universe rows.
        floor: in their unit. Below it the tick grid rather than the market makes the number.
    """

    columns: tuple[str, ...]
    floor: float


OBSERVATIONS: Final = (
    # Per second 1e-10, a volatility of 5.6 % a year: a mid that rests for ten seconds is calm, not infinitely calm.
    Observation(("realized_variance_10s",), 1e-9),
    Observation(("spread_bps",), 1e-3),
    Observation(("bid_depth_10bps", "ask_depth_10bps"), 1e-3),
)
"""The first one orders the states. No direction (returns, imbalance): a regime is how the market moves, not where to.
No longer windows: for a minute after a switch ``realized_variance_1m`` lies between two regimes, which the model can
only explain by states of its own."""

SCALE_FLOOR: Final = 0.05
"""Smallest standard deviation to divide by. All observations are logarithms, so changes below 5 % are no regime: a
spread that always is one tick, say, changes only with the price."""


def columns_of(observations: tuple[Observation, ...]) -> tuple[str, ...]:
    """The raw columns in the order in which a row holds them."""
    return tuple(column for observation in observations for column in observation.columns)


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """``x = (log observation - location) / scale`` of one underlying, from the training window and only from there."""

    location: Float  # D
    scale: Float  # D


def fit_scalers(log_by_underlying: Mapping[str, Float]) -> dict[str, Scaler]:
    """A location for each underlying, one scale for all.

    BTC and ETH differ in level (contracts, ticks, volatility), but a state means the same for both: calm, or
    stressed, *for this market*; so their rows can be pooled in one fit. All observations are logarithms: how far a
    state lies above another is a ratio, the same for all, and a scale of its own would only hide that one
    underlying happened to be calm throughout.

    Args:
        log_by_underlying: underlying -> ``log_ND``; rows with a NaN are left out, and one row must be left.
    """
    known = {name: log_ND[~np.isnan(log_ND).any(axis=1)] for name, log_ND in log_by_underlying.items()}
    location = {name: _moments(rows)[0] for name, rows in known.items()}
    within = np.concatenate([rows - location[name] for name, rows in known.items()])
    scale = np.maximum(_moments(within)[1], SCALE_FLOOR)
    return {name: Scaler(location[name], scale) for name in known}


def log_observations(raw_NC: Float, observations: tuple[Observation, ...]) -> Float:
    """``log_ND`` before standardising."""
    identity = Scaler(np.zeros(len(observations)), np.ones(len(observations)))
    return observe(raw_NC, observations, identity)


def observe(raw_NC: Float, observations: tuple[Observation, ...], scaler: Scaler) -> Float:
    """``x_ND = (log(sum of columns + floor) - location) / scale``; NaN where a column is NaN.

    Each row is computed by itself, so live and batch rows have the same bits.
    """
    widths = np.array([len(observation.columns) for observation in observations])
    floors = np.array([observation.floor for observation in observations])
    x_ND: Float = _observe(np.ascontiguousarray(raw_NC, dtype=float), widths, floors, scaler.location, scaler.scale)
    return x_ND


@kernel
def _observe(raw_NC: Any, width_D: Any, floor_D: Any, location_D: Any, scale_D: Any) -> Any:
    n, d = raw_NC.shape[0], len(width_D)
    out = np.empty((n, d))
    for i in range(n):
        c = 0
        for j in range(d):
            total = 0.0
            for _ in range(width_D[j]):
                total += raw_NC[i, c]
                c += 1
            # A negative sum is damaged input and as unknown as a missing one.
            out[i, j] = (math.log(total + floor_D[j]) - location_D[j]) / scale_D[j] if total >= 0.0 else math.nan
    return out


@kernel
def _moments(x_ND: Any) -> Any:
    n, d = x_ND.shape
    mean, deviation = np.zeros(d), np.zeros(d)
    for j in range(d):
        for i in range(n):
            mean[j] += x_ND[i, j] / n
        for i in range(n):
            deviation[j] += (x_ND[i, j] - mean[j]) ** 2 / n
        deviation[j] = math.sqrt(deviation[j])
    return mean, deviation
