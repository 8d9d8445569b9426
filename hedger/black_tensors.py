"""Black-76 and the policy's inputs on tensors, for training: the twins of ``features/surface/black.py`` and of
``hedger/policy_inputs.py``, which are for single rows.

Tensors carry their shape: B paths, T times, K regimes, D inputs; ``...`` any leading shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hedger.policy_inputs import MIN_HALF_SPREAD_BPS

_TINY_DEVIATION = 1e-12  # at expiry: d1 becomes +-infinity, and 0 at the strike


def normal_cdf(x: Tensor) -> Tensor:
    """Standard normal distribution function, accurate in both tails."""
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


def normal_pdf(x: Tensor) -> Tensor:
    """Standard normal density."""
    return torch.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))


def deviation(expiry_years: Tensor, volatility: Tensor) -> Tensor:
    """``s sqrt(tau)``: the standard deviation of the log-return until expiry, at least a tiny one."""
    return (volatility * expiry_years.clamp(min=0.0).sqrt()).clamp(min=_TINY_DEVIATION)


def black_d1(spot: Tensor, strike: Tensor, deviation: Tensor) -> Tensor:
    """``log(S / K) / (s sqrt(tau)) + s sqrt(tau) / 2``."""
    return torch.log(spot / strike) / deviation + 0.5 * deviation


def black_call(spot: Tensor, strike: Tensor, expiry_years: Tensor, volatility: Tensor) -> Tensor:
    """Undiscounted price ``S N(d1) - K N(d2)`` (Black 1976), in the currency of spot and strike."""
    until_expiry = deviation(expiry_years, volatility)
    d1 = black_d1(spot, strike, until_expiry)
    return spot * normal_cdf(d1) - strike * normal_cdf(d1 - until_expiry)


def black_call_delta(spot: Tensor, strike: Tensor, expiry_years: Tensor, volatility: Tensor) -> Tensor:
    """``N(d1)``."""
    return normal_cdf(black_d1(spot, strike, deviation(expiry_years, volatility)))


def scaled_gamma(spot: Tensor, strike: Tensor, expiry_years: Tensor, volatility: Tensor) -> Tensor:
    """``S Gamma = n(d1) / (s sqrt(tau))``."""
    until_expiry = deviation(expiry_years, volatility)
    return normal_pdf(black_d1(spot, strike, until_expiry)) / until_expiry


def policy_input_tensor(
    spot: Tensor,
    strike: Tensor,
    expiry_years: Tensor,
    volatility: Tensor,
    posterior_K: Tensor,
    half_spread_bps: Tensor,
) -> Tensor:
    """``inputs`` of shape (..., D) in the order of ``POLICY_INPUTS``, for known inputs.

    Args:
        spot, half_spread_bps: shape (...).
        strike, expiry_years, volatility: broadcast to it.
        posterior_K: shape (..., K).
    """
    expiry_years, volatility = expiry_years.expand_as(spot), volatility.expand_as(spot)
    until_expiry = deviation(expiry_years, volatility)
    d1 = black_d1(spot, strike, until_expiry)
    claim = (
        torch.log(strike / spot) / until_expiry,
        expiry_years.sqrt(),
        volatility,
        normal_cdf(d1),
        normal_pdf(d1) / until_expiry,
        half_spread_bps.clamp(min=MIN_HALF_SPREAD_BPS).log(),
    )
    return torch.cat((torch.stack(claim, dim=-1), posterior_K), dim=-1)
