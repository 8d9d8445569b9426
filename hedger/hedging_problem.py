"""What a policy is trained and judged on: the distribution of markets, options and starting positions.

Tensors carry their shape: B paths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from features.errors import ConfigError
from features.protocols import RegimePaths
from hedger.black_tensors import scaled_gamma
from hedger.episode import Claims, Episode, make_episode
from hedger.regime_parameters import RegimeParameters
from hedger.simulators import MarketPaths, simulate_market

_DAYS_PER_YEAR = 365.0
_DAY_S = 86_400.0


class Stream(IntEnum):
    """Streams of random numbers that never meet: what is chosen on one is never judged on it."""

    PILOT = 0
    TRAIN = 1
    TEST = 2


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a policy is trained.

    Attributes:
        n_paths: paths in a batch.
        n_steps: decisions in an episode.
        step_s: seconds between them; that of the regime paths.
        n_batches: steps of Adam.
        learning_rate: at the first step, falling linearly to zero.
        alpha: level of the expected shortfall.
        hidden: units in each of the network's two hidden layers.
        hedged_options: options that one decision trades for, in options on one unit of the underlying: scales impact.
        fee_bps: of a trade's notional, beside half the spread.
        log_moneyness_sd: of log(K / S) at the start.
        min_expiry_days, max_expiry_days: the time to expiry at the start lies evenly between them.
        implied_volatility: at which the options are marked, in the median, in 1 / sqrt(year); None takes the square
            root of the mean variance over the regimes, jumps included.
        volatility_log_sd: of the logarithm of an option's implied volatility.
        half_spread_log_sd: see :func:`hedger.simulators.simulate_market`.
        initial_offset_sd: of the position at the start about the delta, in standard deviations of the delta's
            change over the episode. Tests start at the delta.
        n_pilot_batches: batches, seen at once, for standardising inputs and for choosing the best constant widths.
        n_test_batches: batches for judging, never used for anything else.
        seed: of everything random.
        device: of simulation and training; the trained policy runs on the CPU.
        n_threads: of torch on the CPU; part of the bits.
    """

    n_paths: int = 2048
    n_steps: int = 60
    step_s: float = 30.0
    n_batches: int = 240
    learning_rate: float = 3e-3
    alpha: float = 0.95
    hidden: int = 32
    hedged_options: float = 1.0
    fee_bps: float = 5.0
    log_moneyness_sd: float = 0.03
    min_expiry_days: float = 5.0
    max_expiry_days: float = 60.0
    implied_volatility: float | None = None
    volatility_log_sd: float = 0.2
    half_spread_log_sd: float = 0.3
    initial_offset_sd: float = 0.25
    n_pilot_batches: int = 8
    n_test_batches: int = 16
    seed: int = 0
    device: str = "cpu"
    n_threads: int = 1

    def __post_init__(self) -> None:
        may_be_zero = {"seed", "n_batches", "alpha", "hedged_options", "fee_bps", "initial_offset_sd"}
        may_be_zero |= {"log_moneyness_sd", "volatility_log_sd", "half_spread_log_sd"}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "device" or (field.name == "implied_volatility" and value is None):
                continue
            if not (0 < value < math.inf or (value == 0 and field.name in may_be_zero)):
                raise ConfigError(f"{field.name} is {value}.", "Set a positive number.")
        if not self.alpha < 1.0:
            raise ConfigError(f"alpha is {self.alpha}.", "The level of an expected shortfall lies in [0, 1).")
        episode_days = self.n_steps * self.step_s / _DAY_S
        if not episode_days < self.min_expiry_days <= self.max_expiry_days:
            raise ConfigError(
                f"Options live {self.min_expiry_days} to {self.max_expiry_days} days, an episode {episode_days:.3g}.",
                "Options must outlive the episode.",
            )


@dataclass(frozen=True, slots=True)
class HedgingProblem:
    """Episodes by stream and number.

    Attributes:
        parameters, regime_paths, config: as given.
        implied_volatility: that of the configuration, or what stands for it there.
        pilot: the episode on which constants are chosen.
    """

    parameters: RegimeParameters
    regime_paths: RegimePaths
    config: TrainingConfig
    implied_volatility: float
    pilot: Episode

    @classmethod
    def prepare(cls, parameters: RegimeParameters, regime_paths: RegimePaths, config: TrainingConfig) -> HedgingProblem:
        """Simulate the pilot.

        Raises:
            ConfigError: parameters and paths differ in their number of regimes, or no regime has any volatility.
        """
        n_paths = config.n_paths * config.n_pilot_batches
        market_seed, claims_seed = _seeds(config, Stream.PILOT, 0)
        market = _market(parameters, regime_paths, config, n_paths, market_seed)
        implied_volatility = config.implied_volatility or _mean_volatility(parameters, market.regime_TB)
        if not implied_volatility > 0.0:
            raise ConfigError("No regime has any volatility.", "Calibrate on a market that moves.")
        pilot = _episode(market, config, implied_volatility, claims_seed, 0.0)
        return cls(parameters, regime_paths, config, implied_volatility, pilot)

    def episode(self, stream: Stream, batch: int) -> Episode:
        """One batch; the same bits for the same arguments. Only in training does it start off the delta."""
        config = self.config
        market_seed, claims_seed = _seeds(config, stream, batch)
        market = _market(self.parameters, self.regime_paths, config, config.n_paths, market_seed)
        offset_sd = config.initial_offset_sd if stream is Stream.TRAIN else 0.0
        return _episode(market, config, self.implied_volatility, claims_seed, offset_sd)

    def test_episodes(self) -> Iterator[Episode]:
        """Fresh batches to judge on."""
        for batch in range(self.config.n_test_batches):
            yield self.episode(Stream.TEST, batch)


def _mean_volatility(parameters: RegimeParameters, regime_TB: Tensor) -> float:
    total_K = torch.tensor(parameters.total_volatility_annual, dtype=torch.float64, device=regime_TB.device)
    return math.sqrt(float((total_K**2)[regime_TB].mean()))


def _seeds(config: TrainingConfig, stream: Stream, batch: int) -> tuple[int, int]:
    market_seed, claims_seed = np.random.SeedSequence([config.seed, stream, batch]).generate_state(2)
    return int(market_seed), int(claims_seed)


def _market(
    parameters: RegimeParameters, regime_paths: RegimePaths, config: TrainingConfig, n_paths: int, seed: int
) -> MarketPaths:
    return simulate_market(
        parameters,
        regime_paths,
        n_paths=n_paths,
        n_steps=config.n_steps,
        step_s=config.step_s,
        half_spread_log_sd=config.half_spread_log_sd,
        seed=seed,
        device=config.device,
    )


def _episode(
    market: MarketPaths, config: TrainingConfig, implied_volatility: float, seed: int, offset_sd: float
) -> Episode:
    generator = torch.Generator(config.device).manual_seed(seed)
    spot_B = market.spot_TB[0]

    def normal(sd: float) -> Tensor:
        return sd * torch.randn(len(spot_B), generator=generator, dtype=torch.float64, device=config.device)

    uniform_B = torch.rand(len(spot_B), generator=generator, dtype=torch.float64, device=config.device)
    days_B = config.min_expiry_days + (config.max_expiry_days - config.min_expiry_days) * uniform_B
    expiry_years_B = days_B / _DAYS_PER_YEAR
    strike_B = normal(config.log_moneyness_sd).exp()
    volatility_B = implied_volatility * normal(config.volatility_log_sd).exp()
    gamma_B = scaled_gamma(spot_B, strike_B, expiry_years_B, volatility_B)
    delta_change_B = gamma_B * volatility_B * math.sqrt(config.n_steps * market.step_years)
    claims = Claims(strike_B, expiry_years_B, volatility_B, normal(offset_sd) * delta_change_B)
    return make_episode(market, claims, hedged_options=config.hedged_options, fee_bps=config.fee_bps)
