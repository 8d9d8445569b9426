from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from features.errors import ConfigError
from hedger.risk_measures import (
    conditional_expected_shortfall,
    expected_shortfall,
    shortfall_influence,
    value_at_risk,
)

LOSSES = st.lists(st.floats(-100.0, 100.0), min_size=2, max_size=40).map(lambda x: torch.tensor(x, dtype=torch.float64))
LEVELS = st.floats(0.0, 0.99)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 0.95, 0.99])
def test_of_a_normal_loss_it_is_the_closed_form(alpha: float) -> None:
    mu, sigma, n = 0.3, 2.0, 200_000
    loss_B = mu + sigma * torch.from_numpy(norm.ppf((np.arange(n) + 0.5) / n))
    z = norm.ppf(alpha) if alpha > 0.0 else -np.inf
    assert float(expected_shortfall(loss_B, alpha)) == pytest.approx(mu + sigma * norm.pdf(z) / (1.0 - alpha), abs=2e-3)


@given(loss_B=LOSSES, alpha=LEVELS)
@settings(max_examples=100, deadline=None)
def test_it_is_the_minimum_of_rockafellar_and_uryasev(loss_B: torch.Tensor, alpha: float) -> None:
    # Piecewise linear and convex in q: the minimum lies at one of the losses.
    over_q = [float(q + torch.relu(loss_B - q).mean() / (1.0 - alpha)) for q in loss_B]
    assert float(expected_shortfall(loss_B, alpha)) == pytest.approx(min(over_q), rel=1e-9, abs=1e-9)


@given(loss_B=LOSSES, alpha=LEVELS, seed=st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_it_is_coherent(loss_B: torch.Tensor, alpha: float, seed: int) -> None:
    other_B = loss_B[torch.randperm(len(loss_B), generator=torch.Generator().manual_seed(seed))]
    es = float(expected_shortfall(loss_B, alpha))
    close = {"rel": 1e-9, "abs": 1e-9}
    assert float(expected_shortfall(3.0 * loss_B + 7.0, alpha)) == pytest.approx(3.0 * es + 7.0, **close)
    assert float(expected_shortfall(loss_B + other_B, alpha)) <= 2.0 * es + 1e-9
    assert es >= float(value_at_risk(loss_B, alpha)) - 1e-9
    assert es >= float(loss_B.mean()) - 1e-9


def test_its_gradient_is_the_share_of_each_loss_in_the_tail() -> None:
    loss_B = torch.arange(10.0, dtype=torch.float64, requires_grad=True)
    expected_shortfall(loss_B, 0.75).backward()  # the tail is 2.5 losses: 9, 8 and half of 7, which sets the level
    step = 1e-6
    numeric = [
        (expected_shortfall(loss_B.detach() + bump, 0.75) - expected_shortfall(loss_B.detach() - bump, 0.75)) / 2 / step
        for bump in step * torch.eye(10, dtype=torch.float64)
    ]
    assert loss_B.grad is not None
    np.testing.assert_allclose(loss_B.grad, numeric, atol=1e-8)
    np.testing.assert_allclose(loss_B.grad[7:], [0.2, 0.4, 0.4], rtol=1e-12)


def test_given_the_start_it_is_the_average_over_the_starts() -> None:
    generator = torch.Generator().manual_seed(0)
    loss_B = torch.randn(3_000, generator=generator, dtype=torch.float64)
    stratum_B = torch.randint(3, (3_000,), generator=generator)
    loss_B = loss_B * (1.0 + stratum_B)
    parts = [loss_B[stratum_B == k] for k in range(3)]
    expected = sum(float(expected_shortfall(part, 0.9)) * len(part) / 3_000 for part in parts)
    assert float(conditional_expected_shortfall(loss_B, stratum_B, 0.9)) == pytest.approx(expected, rel=1e-12)
    assert float(shortfall_influence(loss_B, stratum_B, 0.9).mean()) == pytest.approx(expected, rel=1e-12)


def test_its_standard_error_is_the_spread_of_the_estimate_over_samples() -> None:
    generator = torch.Generator().manual_seed(1)
    one = torch.zeros(1_000, dtype=torch.int64)
    samples = [torch.randn(1_000, generator=generator, dtype=torch.float64) for _ in range(400)]
    estimates = torch.stack([expected_shortfall(sample, 0.9) for sample in samples])
    errors = [float(shortfall_influence(sample, one, 0.9).std()) / 1_000**0.5 for sample in samples]
    assert np.mean(errors) == pytest.approx(float(estimates.std()), rel=0.1)


@pytest.mark.parametrize(("n", "alpha"), [(10, 1.0), (10, -0.1), (10, float("nan")), (0, 0.5)])
def test_no_level_no_shortfall(n: int, alpha: float) -> None:
    with pytest.raises(ConfigError, match="No value at risk"):
        expected_shortfall(torch.zeros(n), alpha)
