"""Judge hedges side by side, on the same paths, with standard errors.

Tensors carry their shape: B paths, T times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from hedger.episode import Episode, HedgeOutcome, band_positions, hedge_outcome, unhedged
from hedger.policy import BandNetwork, reference_width
from hedger.risk_measures import conditional_expected_shortfall, shortfall_influence

Hedge = Callable[[Episode], HedgeOutcome]
"""A hedging strategy, applied to an episode."""

_SMALLEST: Final = 1e-5


def network_band(network: BandNetwork, episode: Episode) -> tuple[Tensor, Tensor]:
    """``lower_TB, upper_TB``: the network, evaluated once over all steps and paths."""
    lower_N, upper_N = network(episode.inputs_ND.to(network.input_mean.dtype))
    shape = (episode.n_steps, -1)
    return lower_N.view(shape), upper_N.view(shape)


def network_hedge(network: BandNetwork) -> Hedge:
    """The band of a network."""

    def hedge(episode: Episode) -> HedgeOutcome:
        return hedge_outcome(episode, band_positions(episode, *network_band(network, episode)))

    return hedge


def constant_hedge(half_width: float) -> Hedge:
    """The same band everywhere; 0 is the Black delta at every step."""

    def hedge(episode: Episode) -> HedgeOutcome:
        width = episode.delta_TB.new_tensor(half_width)
        return hedge_outcome(episode, band_positions(episode, width, width))

    return hedge


def whalley_wilmott_hedge(width_scale: float) -> Hedge:
    """``width_scale`` times the Whalley-Wilmott half-width at risk aversion 1."""

    def hedge(episode: Episode) -> HedgeOutcome:
        width_TB = width_scale * reference_width(episode.inputs_ND, episode.fee_bps).view(episode.n_steps, -1)
        return hedge_outcome(episode, band_positions(episode, width_TB, width_TB))

    return hedge


def no_hedge(episode: Episode) -> HedgeOutcome:
    """Neither a position nor a trade."""
    position_TB = torch.zeros_like(episode.delta_TB[:-1])
    return hedge_outcome(unhedged(episode), position_TB)


def objective(episode: Episode, outcome: HedgeOutcome, alpha: float) -> Tensor:
    """Expected shortfall given the regime at the start, of losses in units of their expected gamma loss."""
    return conditional_expected_shortfall(outcome.loss_B / episode.loss_scale_B, episode.stratum_B, alpha)


def best_width(hedge_of_width: Callable[[float], Hedge], episode: Episode, alpha: float, largest: float) -> float:
    """The width with the smallest objective, to 2 %, between ``largest`` and 1e-5 of it."""

    def score(log_width: float) -> float:
        return float(objective(episode, hedge_of_width(math.exp(log_width))(episode), alpha))

    bounds = (math.log(largest * _SMALLEST), math.log(largest))
    return math.exp(minimize_scalar(score, bounds=bounds, method="bounded", options={"xatol": 0.02}).x)


@dataclass(frozen=True, slots=True)
class Judged:
    """Per path: loss in units of its scale and in basis points of the price, its stratum, cost and turnover."""

    scaled_B: Tensor
    loss_bps_B: Tensor
    stratum_B: Tensor
    cost_bps_B: Tensor
    turnover_B: Tensor


@torch.no_grad()
def judge(hedges: Mapping[str, Hedge], episodes: Iterable[Episode]) -> dict[str, Judged]:
    """Apply every hedge to every episode; episodes come one by one, so memory holds one."""
    parts: dict[str, list[Judged]] = {name: [] for name in hedges}
    for episode in episodes:
        for name, hedge in hedges.items():
            outcome = hedge(episode)
            parts[name].append(
                Judged(
                    scaled_B=outcome.loss_B / episode.loss_scale_B,
                    loss_bps_B=1e4 * outcome.loss_B,
                    stratum_B=episode.stratum_B,
                    cost_bps_B=1e4 * outcome.cost_B,
                    turnover_B=outcome.turnover_B,
                )
            )
    return {
        name: Judged(*(torch.cat([getattr(each, field) for each in own]) for field in Judged.__slots__))
        for name, own in parts.items()
    }


def hedge_metrics(judged: Mapping[str, Judged], reference: str, alpha: float) -> dict[str, float]:
    """Numbers for a manifest.

    For each hedge: ``objective``; ``expected_shortfall_bps``, ``mean_loss_bps`` and ``sd_loss_bps`` of all paths
    together; ``cost_bps`` and ``turnover`` (fraction of the option's underlying) on average. For ``reference`` against
    each other hedge, on the same paths: by how much its objective and its shortfall are lower, with the standard error
    of that difference. ``_se`` marks standard errors.
    """
    metrics: dict[str, float] = {}
    for name, own in judged.items():
        own_metrics = {
            "objective": shortfall_influence(own.scaled_B, own.stratum_B, alpha),
            "expected_shortfall_bps": _pooled_influence(own, alpha),
            "mean_loss_bps": own.loss_bps_B,
            "cost_bps": own.cost_bps_B,
            "turnover": own.turnover_B,
        }
        for measure, value_B in own_metrics.items():
            metrics |= _mean(f"{name}_{measure}", value_B)
        metrics[f"{name}_sd_loss_bps"] = float(own.loss_bps_B.std())
    best = judged[reference]
    for name, own in judged.items():
        if name != reference:
            gain_B = shortfall_influence(own.scaled_B, own.stratum_B, alpha) - shortfall_influence(
                best.scaled_B, best.stratum_B, alpha
            )
            metrics |= _mean(f"{reference}_gain_over_{name}_objective", gain_B)
            gain_bps_B = _pooled_influence(own, alpha) - _pooled_influence(best, alpha)
            metrics |= _mean(f"{reference}_gain_over_{name}_expected_shortfall_bps", gain_bps_B)
    return metrics


def _pooled_influence(own: Judged, alpha: float) -> Tensor:
    return shortfall_influence(own.loss_bps_B, torch.zeros_like(own.stratum_B), alpha)


def _mean(name: str, value_B: Tensor) -> dict[str, float]:
    return {name: float(value_B.mean()), f"{name}_se": float(value_B.std()) / math.sqrt(len(value_B))}
