"""How the market moves and what trading costs in each regime, fitted to bars that carry a regime's label.

Arrays carry their shape: N bars, K regimes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInputError, ConfigError
from features.signals import REGIMES

if TYPE_CHECKING:
    import polars as pl

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

YEAR_S: Final = 365 * 24 * 3_600.0
JUMP_SIGMAS: Final = 5.0
"""A return beyond this many robust standard deviations of its regime is a jump."""
MIN_MOVES: Final = 30
"""Bars that moved, below which there is nothing to fit."""
MIN_ROWS: Final = 120
"""Bars that moved, below which a regime's scale is that of all bars."""
SHRINKAGE_ROWS: Final = 10.0
"""Bars of the pooled market that are added to each regime's own: a regime without bars of its own is the pool."""
DEPTH_BPS: Final = 10.0
"""Distance from the mid within which the catalogue's depth columns count."""

COLUMNS: Final = ("log_return", "spread_bps", "bid_depth_10bps", "ask_depth_10bps", "regime")


@dataclass(frozen=True, slots=True)
class RegimeParameters:
    """A jump diffusion and its trading costs per regime; every field has one value a regime, calmest first.

    Attributes:
        volatility_annual: of the diffusion, in 1 / sqrt(year).
        jump_intensity_per_year: expected number of jumps in a year.
        jump_std: standard deviation of a jump of the log price, with mean 0.
        half_spread_bps: half the bid-ask spread, in basis points of the mid.
        impact_bps: by which the average price of a trade worsens for each unit of the underlying traded.
    """

    volatility_annual: tuple[float, ...]
    jump_intensity_per_year: tuple[float, ...]
    jump_std: tuple[float, ...]
    half_spread_bps: tuple[float, ...]
    impact_bps: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in self.__slots__:
            values = getattr(self, name)
            if len(values) != len(self.volatility_annual) or not values:
                raise ConfigError(f"{name} has {len(values)} values.", "Every field has one value for each regime.")
            if not all(math.isfinite(value) and value >= 0.0 for value in values):
                raise ConfigError(f"{name} is {values}.", "Values are finite and not negative.")

    @property
    def n_regimes(self) -> int:
        """K."""
        return len(self.volatility_annual)

    @property
    def total_volatility_annual(self) -> tuple[float, ...]:
        """``sqrt(volatility^2 + intensity jump_std^2)``: of the log price, jumps included."""
        rows = zip(self.volatility_annual, self.jump_intensity_per_year, self.jump_std, strict=True)
        return tuple(math.sqrt(volatility**2 + rate * size**2) for volatility, rate, size in rows)


def calibrate(
    frame: pl.DataFrame, bar_s: float, *, n_regimes: int = len(REGIMES), contract_size: float = 1.0
) -> RegimeParameters:
    """Fit the parameters to bars of one underlying.

    With r the log returns of a regime's bars, its robust standard deviation is 1.4826 median |r| over the bars that
    moved (a book that rests through most bars would else turn every tick into a jump). Returns beyond 5 of them are
    jumps: their number gives the intensity, their squares the size, and the squares of all others the volatility, so
    that the fitted variance per year is the realized one. Jumps too small to stand out count as diffusion. The half
    spread is half the mean ``spread_bps``; a book whose depth D within 10 bps lies evenly costs 10 / (2 D) bps per
    contract traded.

    Every mean is shrunk towards that of all bars, (n own + 10 pooled) / (n + 10): a regime that was hardly seen gets
    the pooled market.

    Args:
        frame: universe rows with a ``regime`` column (int, null where unknown); see :data:`COLUMNS`.
        bar_s: length of a bar in seconds.
        n_regimes: K; labels are 0 ... K - 1.
        contract_size: units of the underlying in a contract.

    Raises:
        BadInputError: a column is missing, a label is no regime, or there are too few usable bars.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise BadInputError(f"The bars lack {missing}.", "Join universe rows with the regime of each bar.")
    labelled = frame.select(COLUMNS).drop_nulls("regime")
    regime_N = labelled["regime"].cast(int).to_numpy()
    if len(regime_N) and (regime_N.min() < 0 or regime_N.max() >= n_regimes):
        raise BadInputError(
            f"Regimes run from {regime_N.min()} to {regime_N.max()}.", f"Expected 0 to {n_regimes - 1}."
        )
    return_N = _known(labelled, "log_return")
    moved = int(np.count_nonzero(np.nan_to_num(return_N)))
    if moved < MIN_MOVES:
        raise BadInputError(
            f"{moved} of {len(return_N)} labelled bars have a return other than zero; {MIN_MOVES} are needed.",
            "Calibrate on a longer window.",
        )
    volatility, intensity, size = _jump_diffusion(return_N, regime_N, n_regimes, YEAR_S / bar_s)
    half_spread = _shrunk_mean(0.5 * _known(labelled, "spread_bps"), regime_N, n_regimes)
    depth_N = 0.5 * (_known(labelled, "bid_depth_10bps") + _known(labelled, "ask_depth_10bps")) * contract_size
    depth = _shrunk_mean(np.where(depth_N > 0.0, depth_N, np.nan), regime_N, n_regimes)
    return RegimeParameters(
        volatility_annual=_numbers(volatility),
        jump_intensity_per_year=_numbers(intensity),
        jump_std=_numbers(size),
        half_spread_bps=_numbers(half_spread),
        impact_bps=_numbers(DEPTH_BPS / (2.0 * depth)),
    )


def _jump_diffusion(
    return_N: Float, regime_N: Integer, n_regimes: int, bars_per_year: float
) -> tuple[Float, Float, Float]:
    seen = ~np.isnan(return_N)
    square_N, regime_N = return_N[seen] ** 2, regime_N[seen]
    pooled_scale = _robust_scale(square_N)
    jump_N = np.empty(len(square_N), dtype=np.bool_)
    for k in range(n_regimes):
        own = regime_N == k
        scale = _robust_scale(square_N[own]) if np.count_nonzero(square_N[own]) >= MIN_ROWS else pooled_scale
        jump_N[own] = square_N[own] > (JUMP_SIGMAS * scale) ** 2
    variance = _shrunk_mean(np.where(jump_N, 0.0, square_N), regime_N, n_regimes) * bars_per_year
    rate = _shrunk_mean(jump_N.astype(float), regime_N, n_regimes)
    jump_variance = _shrunk_mean(np.where(jump_N, square_N, 0.0), regime_N, n_regimes)
    size = np.sqrt(jump_variance / np.maximum(rate, np.finfo(float).tiny))
    return np.sqrt(variance), rate * bars_per_year, size


def _robust_scale(square_N: Float) -> float:
    """Standard deviation of a normal variable with the median size of those that are not zero."""
    return 1.4826 * math.sqrt(float(np.median(square_N[square_N > 0.0])))


def _shrunk_mean(value_N: Float, regime_N: Integer, n_regimes: int) -> Float:
    seen = ~np.isnan(value_N)
    if not seen.any():
        raise BadInputError("No labelled bar has a spread and a depth.", "Calibrate on bars with a valid book.")
    pooled = float(value_N[seen].mean())
    own = [value_N[seen & (regime_N == k)] for k in range(n_regimes)]
    return np.array([(values.sum() + SHRINKAGE_ROWS * pooled) / (len(values) + SHRINKAGE_ROWS) for values in own])


def _known(frame: pl.DataFrame, column: str) -> Float:
    """NaN where null."""
    return frame[column].cast(float).to_numpy().astype(float)


def _numbers(values: Float) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
