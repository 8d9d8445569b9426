from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from noisy_regimes import NoisyRegimes

from hedger.evaluation import (
    best_width,
    constant_hedge,
    hedge_metrics,
    judge,
    no_hedge,
    objective,
    whalley_wilmott_hedge,
)
from hedger.hedging_problem import HedgingProblem, TrainingConfig
from hedger.regime_parameters import RegimeParameters

PARAMETERS = RegimeParameters((0.4, 0.8, 0.6), (0.0, 1_000.0, 0.0), (0.0, 0.005, 0.0), (0.5, 1.0, 4.0), (0.0,) * 3)
CONFIG = TrainingConfig(n_paths=1_000, n_steps=20, n_pilot_batches=1, n_test_batches=3)


@pytest.fixture(scope="module")
def problem() -> HedgingProblem:
    return HedgingProblem.prepare(PARAMETERS, NoisyRegimes(), CONFIG)


@pytest.mark.parametrize("hedge_of_width", [constant_hedge, whalley_wilmott_hedge])
def test_the_best_width_is_better_than_those_around_it(problem: HedgingProblem, hedge_of_width: object) -> None:
    assert callable(hedge_of_width)
    best = best_width(hedge_of_width, problem.pilot, 0.95, 1.0)
    scores = {
        factor: float(objective(problem.pilot, hedge_of_width(best * factor)(problem.pilot), 0.95))
        for factor in (0.1, 0.5, 1.0, 2.0, 10.0)
    }
    assert min(scores.values()) == scores[1.0]


def test_metrics_are_the_plain_statistics_of_all_paths(problem: HedgingProblem) -> None:
    hedges = {"delta": constant_hedge(0.0), "no_hedge": no_hedge}
    judged = judge(hedges, problem.test_episodes())
    metrics = hedge_metrics(judged, "delta", 0.95)
    episodes = list(problem.test_episodes())
    for name, hedge in hedges.items():
        loss = np.concatenate([1e4 * hedge(each).loss_B.numpy() for each in episodes])
        worst = np.sort(loss)[-150:]  # 5 % of 3,000
        assert metrics[f"{name}_expected_shortfall_bps"] == pytest.approx(worst.mean(), rel=1e-10)
        assert metrics[f"{name}_mean_loss_bps"] == pytest.approx(loss.mean(), rel=1e-10)
        assert metrics[f"{name}_sd_loss_bps"] == pytest.approx(loss.std(ddof=1), rel=1e-10)
        assert metrics[f"{name}_mean_loss_bps_se"] == pytest.approx(loss.std(ddof=1) / math.sqrt(3_000), rel=1e-10)
    difference = metrics["no_hedge_objective"] - metrics["delta_objective"]
    assert metrics["delta_gain_over_no_hedge_objective"] == pytest.approx(difference, rel=1e-10)


def test_a_difference_on_the_same_paths_is_known_better_than_its_parts(problem: HedgingProblem) -> None:
    judged = judge({"delta": constant_hedge(0.0), "narrow": constant_hedge(1e-3)}, problem.test_episodes())
    metrics = hedge_metrics(judged, "delta", 0.95)
    assert metrics["delta_gain_over_narrow_objective_se"] < 0.5 * metrics["narrow_objective_se"]


def test_all_starts_count_in_the_objective(problem: HedgingProblem) -> None:
    """Losses that are worse in one regime only raise that regime's share."""
    episode = problem.pilot
    outcome = constant_hedge(0.0)(episode)
    before = float(objective(episode, outcome, 0.95))
    calm_B = episode.stratum_B == 0
    worse = replace(outcome, loss_B=outcome.loss_B + torch.where(calm_B, episode.loss_scale_B, 0.0))
    share = float(calm_B.double().mean())
    assert float(objective(episode, worse, 0.95)) == pytest.approx(before + share, rel=1e-9)
