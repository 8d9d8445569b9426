from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from noisy_regimes import NoisyRegimes

from features.errors import ConfigError
from hedger.hedging_problem import HedgingProblem, Stream
from hedger.policy_inputs import policy_inputs
from hedger.regime_parameters import RegimeParameters
from hedger.training import TrainedPolicy, TrainingConfig, TrainingStep, train_policy

CHEAP = RegimeParameters(
    volatility_annual=(0.35, 0.8, 0.6),
    jump_intensity_per_year=(500.0, 8_000.0, 4_000.0),
    jump_std=(0.002, 0.004, 0.003),
    half_spread_bps=(0.5, 1.0, 4.0),
    impact_bps=(0.02, 0.04, 0.2),
)
SMALL = TrainingConfig(n_paths=512, n_steps=30, n_batches=30, n_pilot_batches=2, n_test_batches=4, fee_bps=0.0)


def costs(factor: float) -> RegimeParameters:
    return replace(
        CHEAP,
        half_spread_bps=tuple(factor * each for each in CHEAP.half_spread_bps),
        impact_bps=tuple(factor * each for each in CHEAP.impact_bps),
    )


def train(parameters: RegimeParameters = CHEAP, config: TrainingConfig = SMALL) -> TrainedPolicy:
    """Trained once for all tests that read it; that training again gives the same has a test of its own."""
    return _trained(parameters, config)


@cache
def _trained(parameters: RegimeParameters, config: TrainingConfig) -> TrainedPolicy:
    return train_policy(parameters, NoisyRegimes(), config)


def half_width(trained: TrainedPolicy, half_spread_bps: float = 1.0) -> float:
    """Of a month's option at the money, over the regimes."""
    x = policy_inputs(1.0, 1.0, 30.0 / 365.0, 0.6, True, np.eye(3), half_spread_bps)
    lower, upper = trained.policy.band(x)
    return float(np.mean(lower + upper)) / 2.0


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    config = replace(SMALL, n_paths=128, n_batches=4, n_pilot_batches=1, n_test_batches=1)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    configs = (config, config, replace(config, seed=1))
    first, again, other = (train_policy(CHEAP, NoisyRegimes(), each) for each in configs)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is nobody's
    assert first.metrics == again.metrics
    assert first.history == again.history
    for name, tensor in first.policy.network.state_dict().items():
        assert torch.equal(tensor, again.policy.network.state_dict()[name])
    assert first.metrics != other.metrics


def test_it_beats_the_delta_and_is_no_worse_than_any_fixed_band() -> None:
    steps: list[TrainingStep] = []
    trained = train_policy(CHEAP, NoisyRegimes(), replace(SMALL, n_test_batches=8), steps.append)
    metrics = trained.metrics
    for reference in ("delta", "no_hedge"):
        gain = f"policy_gain_over_{reference}_objective"
        assert metrics[gain] > 4.0 * metrics[f"{gain}_se"]
    for reference in ("constant_band", "whalley_wilmott"):
        gain = f"policy_gain_over_{reference}_objective"
        assert metrics[gain] > -2.0 * metrics[f"{gain}_se"]
    assert metrics["policy_turnover"] < 0.7 * metrics["delta_turnover"]
    assert metrics["policy_cost_bps"] < 0.7 * metrics["delta_cost_bps"]
    assert tuple(steps) == trained.history
    assert [step.batch for step in steps] == list(range(30))


def test_without_costs_it_hedges_by_the_delta() -> None:
    free = train(costs(0.0))
    assert half_width(free, 0.0) < 2e-4  # of the underlying, for one option
    gain = "policy_gain_over_delta_objective"
    assert abs(free.metrics[gain]) < 0.02 * free.metrics["delta_objective"]


def test_the_dearer_the_wider() -> None:
    widths = [half_width(train(costs(factor)), factor) for factor in (0.1, 1.0, 10.0)]
    assert widths[0] < 0.7 * widths[1] < 0.7**2 * widths[2]
    dear = half_width(train(config=replace(SMALL, fee_bps=20.0)))
    assert dear > 1.3 * widths[1]


def test_impact_widens_the_band_too() -> None:
    alone, many = train(), train(config=replace(SMALL, hedged_options=3_000.0))
    assert half_width(many) > 1.1 * half_width(alone)


def test_streams_differ_and_only_training_starts_off_the_delta() -> None:
    problem = HedgingProblem.prepare(CHEAP, NoisyRegimes(), replace(SMALL, n_pilot_batches=1))
    train_, test = problem.episode(Stream.TRAIN, 0), problem.episode(Stream.TEST, 0)
    spots = [each.market.spot_TB for each in (problem.pilot, train_, test, problem.episode(Stream.TRAIN, 1))]
    assert not any(torch.equal(a, b) for i, a in enumerate(spots) for b in spots[:i])
    assert torch.equal(test.initial_B, test.delta_TB[0])
    assert not torch.equal(train_.initial_B, train_.delta_TB[0])


def test_options_are_drawn_as_configured() -> None:
    problem = HedgingProblem.prepare(CHEAP, NoisyRegimes(), replace(SMALL, n_paths=4_000))
    claims = problem.pilot.claims
    assert float(claims.strike_B.log().std()) == pytest.approx(0.03, rel=0.05)
    assert 5.0 <= 365.0 * float(claims.expiry_years_B.min()) < 6.0
    assert 59.0 < 365.0 * float(claims.expiry_years_B.max()) <= 60.0
    assert float(claims.volatility_B.log().std()) == pytest.approx(0.2, rel=0.05)
    expected = math.sqrt(sum(v**2 for v in CHEAP.total_volatility_annual) / 3.0)
    assert problem.implied_volatility == pytest.approx(expected, rel=0.02)
    marked = HedgingProblem.prepare(CHEAP, NoisyRegimes(), replace(SMALL, implied_volatility=1.3))
    assert marked.implied_volatility == 1.3


@pytest.mark.gpu
def test_it_trains_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    trained = train(config=replace(SMALL, device="cuda"))
    gain = "policy_gain_over_delta_objective"
    assert trained.metrics[gain] > 4.0 * trained.metrics[f"{gain}_se"]
    assert all(tensor.device.type == "cpu" for tensor in trained.policy.network.state_dict().values())


@pytest.mark.parametrize(
    "change",
    [
        {"n_paths": 0},
        {"alpha": 1.0},
        {"alpha": -0.1},
        {"learning_rate": 0.0},
        {"step_s": float("nan")},
        {"implied_volatility": 0.0},
        {"min_expiry_days": 0.01},
        {"max_expiry_days": 1.0},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        replace(SMALL, **change)


def test_a_market_that_does_not_move_is_refused() -> None:
    zero = (0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="volatility"):
        train(RegimeParameters(zero, zero, zero, zero, zero))
