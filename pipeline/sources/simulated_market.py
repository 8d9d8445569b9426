"""Prices of the simulated exchange: regimes, stochastic volatility, correlated diffusion and jumps.

Regimes switch at whole seconds. A common chain M runs with the regimes' mean dwell times. When it switches, each
underlying follows with probability c (``regime_coupling``); by itself an underlying switches at 1 - c times the rate.

Within the regime i of an underlying the log price S moves as

    d log S = -v^2 / 2 dt + v dW + dJ,    v = sigma_i exp(x - s^2),    dx = -x / tau dt + s sqrt(2 / tau) dB

an exponential Ornstein-Uhlenbeck volatility (Scott 1987) with E[v^2] = sigma_i^2; J is a compound Poisson process with
normal jumps (Merton 1976). W is correlated across underlyings, B with W (leverage).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from features.kernel import kernel
from features.surface.black import YEAR_NS
from pipeline.sources.simulated_regimes import NEXT, Regimes

Array = np.ndarray[Any, Any]

PRICE_CORRELATION: Final = 0.7
REGIME_COUPLING: Final = 0.85
LEVERAGE: Final = -0.3
CO_JUMP: Final = 0.5
"""Probability that a jump of one underlying is a jump of all."""

VOLATILITY_MEMORY_S: Final = 20.0  # tau
VOLATILITY_DEVIATION: Final = 0.2  # s

QUOTE_MEMORY_S: Final = 10.0
"""Time constant with which option quotes and funding follow the market."""

YEAR_S: Final = YEAR_NS / 1e9

# Columns of `opening`: what is known of an underlying when a second begins.
O_PRICE, O_VARIANCE, O_WIDTH, O_FUNDING, O_OPEN_INTEREST = range(5)
OPENING: Final = 5

# Columns of the table of regimes.
_DWELL_S, _VOLATILITY, _JUMPS_PER_S, _JUMP, _WIDTH, _FUNDING = range(6)


class MarketState(NamedTuple):
    """Where U underlyings stand; ``regime`` (U + 1,) ends with the common chain's, all others are (U,)."""

    regime: Array
    log_price: Array
    deviation: Array  # x
    variance: Array  # of the diffusion, as option quotes see it
    width: Array
    funding: Array
    open_interest: Array  # log of its ratio to that at the start
    jump: Array  # of the tick at hand


class MarketBlock(NamedTuple):
    """A stretch of N seconds and T ticks.

    ``price``, ``volatility`` (T, U) at the end of a tick; ``regime`` (N, U) of a second; ``opening`` (N, U, OPENING).
    """

    price: Array
    volatility: Array
    regime: Array
    opening: Array


@kernel
def _other_regime(rng: Any, current: int, following: Array) -> int:
    draw = rng.random()
    for regime in range(3):
        draw -= following[current, regime]
        if draw < 0.0:
            return regime
    return current


@kernel
def _switch(rng: Any, state: MarketState, table: Array, following: Array) -> None:
    """Let a second pass for the regimes."""
    underlyings = len(state.log_price)
    common = state.regime[underlyings]
    switched = rng.random() < 1.0 - math.exp(-1.0 / table[common, _DWELL_S])
    if switched:
        common = _other_regime(rng, common, following)
        state.regime[underlyings] = common
    for u in range(underlyings):
        own = state.regime[u]
        if switched and rng.random() < REGIME_COUPLING:
            state.regime[u] = common
        elif rng.random() < 1.0 - math.exp(-(1.0 - REGIME_COUPLING) / table[own, _DWELL_S]):
            state.regime[u] = _other_regime(rng, own, following)


@kernel
def _open_second(rng: Any, state: MarketState, table: Array, opening: Array) -> None:
    """Write what is known when the second begins, and let quotes follow the market one second further."""
    pull = 1.0 - math.exp(-1.0 / QUOTE_MEMORY_S)
    for u in range(len(state.log_price)):
        opening[u, O_PRICE] = math.exp(state.log_price[u])
        opening[u, O_VARIANCE] = state.variance[u]
        opening[u, O_WIDTH] = state.width[u]
        opening[u, O_FUNDING] = state.funding[u]
        opening[u, O_OPEN_INTEREST] = math.exp(state.open_interest[u])
        regime = state.regime[u]
        volatility = table[regime, _VOLATILITY] * math.exp(state.deviation[u] - VOLATILITY_DEVIATION**2)
        state.variance[u] += pull * (volatility * volatility - state.variance[u])
        state.width[u] += pull * (table[regime, _WIDTH] - state.width[u])
        state.funding[u] += pull * (table[regime, _FUNDING] - state.funding[u]) + 2e-6 * rng.standard_normal()
        # Positions are closed where it is stormy, and come back when it is calm.
        state.open_interest[u] += 1e-3 * (-0.05 * regime - state.open_interest[u]) + 1e-4 * rng.standard_normal()


@kernel
def _draw_jumps(rng: Any, state: MarketState, table: Array, dt_s: float) -> None:
    underlyings = len(state.jump)
    state.jump[:] = 0.0
    for u in range(underlyings):
        regime = state.regime[u]
        if rng.random() >= table[regime, _JUMPS_PER_S] * dt_s:
            continue
        shock = rng.standard_normal()
        state.jump[u] += table[regime, _JUMP] * shock
        if rng.random() < CO_JUMP:
            for other in range(underlyings):
                if other != u:
                    state.jump[other] += table[state.regime[other], _JUMP] * shock


@kernel
def _move(rng: Any, state: MarketState, table: Array, dt_s: float, price: Array, volatility: Array) -> None:
    """One tick of all underlyings."""
    decay = math.exp(-dt_s / VOLATILITY_MEMORY_S)
    kick = VOLATILITY_DEVIATION * math.sqrt(1.0 - decay * decay)
    dt = dt_s / YEAR_S
    common = rng.standard_normal()
    _draw_jumps(rng, state, table, dt_s)
    for u in range(len(state.log_price)):
        shock = math.sqrt(PRICE_CORRELATION) * common + math.sqrt(1.0 - PRICE_CORRELATION) * rng.standard_normal()
        level = table[state.regime[u], _VOLATILITY]
        v = level * math.exp(state.deviation[u] - VOLATILITY_DEVIATION**2)
        state.log_price[u] += -0.5 * v * v * dt + v * math.sqrt(dt) * shock + state.jump[u]
        turn = LEVERAGE * shock + math.sqrt(1.0 - LEVERAGE * LEVERAGE) * rng.standard_normal()
        state.deviation[u] = decay * state.deviation[u] + kick * turn
        price[u] = math.exp(state.log_price[u])
        volatility[u] = v


@kernel
def _advance(
    rng: Any, state: MarketState, table: Array, following: Array, ticks_per_s: int, block: MarketBlock
) -> None:
    for second in range(len(block.regime)):
        _open_second(rng, state, table, block.opening[second])
        _switch(rng, state, table, following)
        for u in range(len(state.log_price)):
            block.regime[second, u] = state.regime[u]
        for tick in range(second * ticks_per_s, (second + 1) * ticks_per_s):
            _move(rng, state, table, 1.0 / ticks_per_s, block.price[tick], block.volatility[tick])


class Market:
    """The fair prices of the simulated exchange, tick by tick.

    Args:
        rng: every draw of the market comes from it, in order of time, so blocks may be cut anywhere.
        regimes: calm, stressed, illiquid.
        prices_usd: at the start.
        ticks_per_s: how finely prices move.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        regimes: Regimes,
        prices_usd: Sequence[float],
        ticks_per_s: int,
    ) -> None:
        self._rng = rng
        self._ticks_per_s = ticks_per_s
        self._table = np.array(
            [
                (
                    each.mean_dwell_s,
                    each.volatility,
                    each.jumps_per_hour / 3_600.0,
                    each.jump_bps * 1e-4,
                    each.quote_width,
                    each.funding_rate,
                )
                for each in regimes
            ]
        )
        count = len(prices_usd)
        self._state = MarketState(
            regime=np.zeros(count + 1, dtype=np.int64),
            log_price=np.log(np.array(prices_usd, dtype=np.float64)),
            deviation=np.zeros(count),
            variance=np.full(count, regimes[0].volatility ** 2),
            width=np.full(count, regimes[0].quote_width),
            funding=np.full(count, regimes[0].funding_rate),
            open_interest=np.zeros(count),
            jump=np.zeros(count),
        )

    def advance(self, seconds: int) -> MarketBlock:
        """The next ``seconds`` seconds."""
        ticks, count = seconds * self._ticks_per_s, len(self._state.log_price)
        block = MarketBlock(
            price=np.empty((ticks, count)),
            volatility=np.empty((ticks, count)),
            regime=np.empty((seconds, count), dtype=np.int64),
            opening=np.empty((seconds, count, OPENING)),
        )
        _advance(self._rng, self._state, self._table, NEXT, self._ticks_per_s, block)
        return block
