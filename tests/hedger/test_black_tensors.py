from __future__ import annotations

import numpy as np
import torch

from features.surface.black import black_delta, black_gamma, black_price
from hedger.black_tensors import black_call, black_call_delta, policy_input_tensor, scaled_gamma
from hedger.policy_inputs import policy_inputs

RNG = np.random.default_rng(1)
N = 500
SPOT, STRIKE = RNG.uniform(0.5, 2.0, N), RNG.uniform(0.5, 2.0, N)
EXPIRY, VOLATILITY = RNG.uniform(0.001, 2.0, N), RNG.uniform(0.05, 2.0, N)
POSTERIOR, HALF_SPREAD = RNG.dirichlet(np.ones(3), N), RNG.uniform(0.0, 5.0, N)
CLAIM = tuple(torch.from_numpy(column) for column in (SPOT, STRIKE, EXPIRY, VOLATILITY))


def test_price_delta_and_gamma_are_those_of_the_kernels() -> None:
    np.testing.assert_allclose(
        black_call(*CLAIM), black_price(SPOT, STRIKE, EXPIRY, VOLATILITY, True), rtol=1e-11, atol=1e-15
    )
    np.testing.assert_allclose(
        black_call_delta(*CLAIM), black_delta(SPOT, STRIKE, EXPIRY, VOLATILITY, True), rtol=1e-11, atol=1e-15
    )
    np.testing.assert_allclose(
        scaled_gamma(*CLAIM), SPOT * black_gamma(SPOT, STRIKE, EXPIRY, VOLATILITY), rtol=1e-11, atol=1e-15
    )


def test_training_sees_the_inputs_that_the_policy_sees_live() -> None:
    live = policy_inputs(SPOT, STRIKE, EXPIRY, VOLATILITY, True, POSTERIOR, HALF_SPREAD)
    trained = policy_input_tensor(*CLAIM, torch.from_numpy(POSTERIOR), torch.from_numpy(HALF_SPREAD))
    np.testing.assert_allclose(trained, live, rtol=1e-11, atol=1e-14)


def test_at_expiry_a_call_is_worth_what_it_pays() -> None:
    spot = torch.tensor([0.9, 1.0, 1.1], dtype=torch.float64)
    one, zero = torch.ones_like(spot), torch.zeros_like(spot)
    np.testing.assert_allclose(black_call(spot, one, zero, one), [0.0, 0.0, 0.1], atol=1e-12)
