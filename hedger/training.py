"""Train a band policy by pathwise gradients: differentiate the expected shortfall of simulated hedges.

Tensors carry their shape: B paths, T times, N = T B rows, D inputs.

Each batch is fresh markets (:mod:`hedger.simulators`) and one short option a path (:mod:`hedger.episode`). The loss of
a hedge is differentiable in the band's offsets path by path: spread and impact push the band out, and the price's move
against what was left unhedged pulls it in. The risk measure is the expected shortfall at ``alpha`` given the regime
that the posterior names at the start, of losses in units of each option's expected gamma loss
(:func:`hedger.evaluation.objective`): so all options and all regimes are hedged for, not only the worst of them.

References:
    Buehler, Gonon, Teichmann and Wood 2019, "Deep hedging", section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import torch

from features.protocols import RegimePaths
from hedger.episode import band_positions, hedge_outcome
from hedger.evaluation import (
    Hedge,
    best_width,
    constant_hedge,
    hedge_metrics,
    judge,
    network_band,
    network_hedge,
    no_hedge,
    objective,
    whalley_wilmott_hedge,
)
from hedger.hedging_problem import HedgingProblem, Stream, TrainingConfig
from hedger.policy import BandNetwork, BandPolicy, torch_threads
from hedger.regime_parameters import RegimeParameters

__all__ = ["TrainedPolicy", "TrainingConfig", "TrainingStep", "train_policy"]

_MIN_INPUT_SCALE: Final = 1e-3
_LARGEST_WIDTH: Final = 0.5  # of a constant band: beyond it nothing is hedged
_LARGEST_SCALE: Final = 8.0  # of a Whalley-Wilmott band: that of risk aversion 1 / 512


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One batch: its number from 0, the objective on its paths before the step, and the mean half-width."""

    batch: int
    objective: float
    half_width: float


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    """The policy, how it did on fresh paths beside other hedges, and how it got there."""

    policy: BandPolicy
    metrics: Mapping[str, float]
    history: tuple[TrainingStep, ...]


def train_policy(
    parameters: RegimeParameters,
    regime_paths: RegimePaths,
    config: TrainingConfig,
    progress: Callable[[TrainingStep], None] = lambda _step: None,
) -> TrainedPolicy:
    """Train, then judge on fresh paths.

    Args:
        parameters: volatility, jumps and costs of each regime.
        regime_paths: regimes and filtered posteriors in steps of ``config.step_s``.
        config: budget and problem.
        progress: called after each batch.

    Returns:
        The policy with :func:`hedger.evaluation.hedge_metrics` against the Black delta at every step, the best band of
        constant width, the best Whalley-Wilmott band (both chosen on training paths) and no hedge. The same bits for
        the same arguments, device, number of threads and wheels.

    Raises:
        ConfigError: parameters and paths differ in their number of regimes.
    """
    with torch_threads(config.n_threads):
        problem = HedgingProblem.prepare(parameters, regime_paths, config)
        with torch.no_grad():
            constant = best_width(constant_hedge, problem.pilot, config.alpha, _LARGEST_WIDTH)
            width_scale = best_width(whalley_wilmott_hedge, problem.pilot, config.alpha, _LARGEST_SCALE)
        network = _network(problem, width_scale)
        history = _descend(network, problem, progress)
        hedges: dict[str, Hedge] = {
            "policy": network_hedge(network),
            "delta": constant_hedge(0.0),
            "constant_band": constant_hedge(constant),
            "whalley_wilmott": whalley_wilmott_hedge(width_scale),
            "no_hedge": no_hedge,
        }
        metrics = hedge_metrics(judge(hedges, problem.test_episodes()), "policy", config.alpha)
    metrics |= {"constant_band_half_width": constant, "whalley_wilmott_scale": width_scale}
    settings = {
        "config": asdict(config),
        "parameters": asdict(parameters),
        "implied_volatility": problem.implied_volatility,
    }
    return TrainedPolicy(BandPolicy(network.to("cpu").eval(), settings), metrics, history)


def _network(problem: HedgingProblem, width_scale: float) -> BandNetwork:
    inputs_ND = problem.pilot.inputs_ND
    # On the CPU whatever the device: the same start everywhere.
    generator = torch.Generator().manual_seed(problem.config.seed)
    network = BandNetwork(
        inputs_ND.mean(dim=0).cpu(),
        inputs_ND.std(dim=0).clamp(min=_MIN_INPUT_SCALE).cpu(),
        width_scale,
        problem.config.fee_bps,
        problem.config.hidden,
        generator,
    )
    return network.to(problem.config.device)


def _descend(
    network: BandNetwork, problem: HedgingProblem, progress: Callable[[TrainingStep], None]
) -> tuple[TrainingStep, ...]:
    config = problem.config
    history: list[TrainingStep] = []
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda batch: 1.0 - batch / max(config.n_batches, 1))
    for batch in range(config.n_batches):
        episode = problem.episode(Stream.TRAIN, batch)
        lower_TB, upper_TB = network_band(network, episode)
        outcome = hedge_outcome(episode, band_positions(episode, lower_TB, upper_TB))
        shortfall = objective(episode, outcome, config.alpha)
        adam.zero_grad()
        shortfall.backward()  # type: ignore[no-untyped-call]  # torch types it as Any
        adam.step()
        schedule.step()
        width = 0.5 * float((lower_TB + upper_TB).detach().mean())
        history.append(TrainingStep(batch, float(shortfall.detach()), width))
        progress(history[-1])
    return tuple(history)
