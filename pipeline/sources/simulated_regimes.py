"""What a regime of the simulated exchange means: volatility, jumps, liquidity, order flow, option quotes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from features.surface.black import YEAR_NS

Array = np.ndarray[Any, Any]

NEXT: Final = np.array([[0.0, 0.75, 0.25], [0.55, 0.0, 0.45], [0.4, 0.6, 0.0]])
"""Where a regime goes when it ends: row from, column to."""


@dataclass(frozen=True, slots=True)
class Regime:
    """One state of the market.

    Args:
        mean_dwell_s: how long it lasts on average.
        volatility: of the diffusion, per sqrt(year).
        jumps_per_hour, jump_bps: Poisson rate and standard deviation of the jumps in price.
        spread_bps: between the best bid and ask.
        level_gap_bps: between neighbouring price levels.
        level_size: size of a level, as a multiple of the underlying's own.
        updates_per_s: levels whose size is drawn again.
        trades_per_s: mean rate of market orders.
        trade_clustering: branching ratio of the self-exciting trade flow; 0 is a Poisson process, 1 explodes.
        trade_size: as a multiple of the underlying's own.
        quote_width: half of the bid-ask spread of an option, in volatility.
        funding_rate: to which the rate reverts, as a fraction of notional per 8 hours.
    """

    mean_dwell_s: float
    volatility: float
    jumps_per_hour: float
    jump_bps: float
    spread_bps: float
    level_gap_bps: float
    level_size: float
    updates_per_s: float
    trades_per_s: float
    trade_clustering: float
    trade_size: float
    quote_width: float
    funding_rate: float

    def variance(self) -> float:
        """Of the log price, jumps included, per year."""
        jumps_per_year = self.jumps_per_hour * YEAR_NS / 3.6e12
        return self.volatility**2 + jumps_per_year * (self.jump_bps * 1e-4) ** 2


CALM: Final = Regime(
    mean_dwell_s=120.0,
    volatility=0.35,
    jumps_per_hour=4.0,
    jump_bps=3.0,
    spread_bps=0.3,
    level_gap_bps=0.4,
    level_size=1.0,
    updates_per_s=90.0,
    trades_per_s=8.0,
    trade_clustering=0.3,
    trade_size=1.0,
    quote_width=0.005,
    funding_rate=1e-4,
)
STRESSED: Final = Regime(
    mean_dwell_s=100.0,
    volatility=0.80,
    jumps_per_hour=40.0,
    jump_bps=5.0,
    spread_bps=0.9,
    level_gap_bps=0.6,
    level_size=0.6,
    updates_per_s=150.0,
    trades_per_s=25.0,
    trade_clustering=0.7,
    trade_size=1.5,
    quote_width=0.012,
    funding_rate=-1e-4,
)
ILLIQUID: Final = Regime(
    mean_dwell_s=90.0,
    volatility=1.30,
    jumps_per_hour=30.0,
    jump_bps=8.0,
    spread_bps=5.0,
    level_gap_bps=1.5,
    level_size=0.2,
    updates_per_s=60.0,
    trades_per_s=5.0,
    trade_clustering=0.4,
    trade_size=0.8,
    quote_width=0.03,
    funding_rate=-3e-4,
)

Regimes = tuple[Regime, Regime, Regime]
"""Calm, stressed, illiquid: ``features.signals.REGIMES``, in order of their volatility."""


def occupancy(regimes: Regimes) -> Array:
    """Long-run share of time in each regime: the p with p Q = 0, where Q holds ``NEXT`` over the mean dwell."""
    rates = NEXT / np.array([[regime.mean_dwell_s] for regime in regimes])
    rates = rates - np.diag(rates.sum(axis=1))
    equations = np.vstack([rates.T, np.ones(3)])
    share: Array = np.linalg.lstsq(equations, np.array([0.0, 0.0, 0.0, 1.0]), rcond=None)[0]
    return share


def long_run_variance(regimes: Regimes) -> float:
    """Mean variance of the log price per year, over all regimes."""
    return float(sum(share * regime.variance() for share, regime in zip(occupancy(regimes), regimes, strict=True)))
