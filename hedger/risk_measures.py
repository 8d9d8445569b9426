"""Expected shortfall: the mean of the worst losses.

Tensors carry their shape: B paths.

References:
    Rockafellar and Uryasev 2000, "Optimization of conditional value-at-risk", eqs. 4 and 9.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from features.errors import ConfigError


def value_at_risk(loss_B: Tensor, alpha: float) -> Tensor:
    """The smallest loss that is not exceeded with probability ``alpha``: an order statistic.

    Raises:
        ConfigError: ``alpha`` is not in [0, 1), or there is no loss.
    """
    if not 0.0 <= alpha < 1.0 or loss_B.numel() == 0:
        raise ConfigError(f"No value at risk at level {alpha} of {loss_B.numel()} losses.", "Use a level in [0, 1).")
    rank = min(max(math.ceil(alpha * loss_B.numel() - 1e-9), 1), loss_B.numel())
    return torch.kthvalue(loss_B, rank).values


def expected_shortfall(loss_B: Tensor, alpha: float) -> Tensor:
    """``ES = min_q q + E[(L - q)+] / (1 - alpha)``, at its minimiser, the value at risk.

    The gradient is each loss's share in the tail, ``1 / (n (1 - alpha))`` for losses above q and the rest of 1 for the
    one that is q. At ``alpha`` = 0 it is the mean.

    >>> round(float(expected_shortfall(torch.arange(1.0, 11.0), 0.75)), 6)  # (10 + 9 + 8 / 2) / 2.5
    9.2
    """
    level = value_at_risk(loss_B, alpha)
    return level + torch.relu(loss_B - level).mean() / (1.0 - alpha)


def conditional_expected_shortfall(loss_B: Tensor, stratum_B: Tensor, alpha: float) -> Tensor:
    """``sum_k n_k / n ES(L | stratum = k)``: the shortfall given what is known at the start, on average.

    Without the condition nearly all of the worst paths start in the worst regime, and what a policy does in the
    others would hardly be priced.

    Args:
        loss_B: losses.
        stratum_B: int64, what is known of each path at its start.
        alpha: level in [0, 1).
    """
    total = loss_B.new_zeros(())
    for stratum in torch.unique(stratum_B):
        own = loss_B[stratum_B == stratum]
        total = total + expected_shortfall(own, alpha) * (own.numel() / loss_B.numel())
    return total


def shortfall_influence(loss_B: Tensor, stratum_B: Tensor, alpha: float) -> Tensor:
    """Influence of each path on :func:`conditional_expected_shortfall`: ``q + (L - q)+ / (1 - alpha)`` in its stratum.

    Its mean is the estimate, and ``sd / sqrt(n)`` of it (or of the difference of two policies on the same paths) the
    standard error, given the sizes of the strata.
    """
    influence_B = torch.empty_like(loss_B)
    for stratum in torch.unique(stratum_B):
        own = stratum_B == stratum
        level = value_at_risk(loss_B[own], alpha)
        influence_B[own] = level + torch.relu(loss_B[own] - level) / (1.0 - alpha)
    return influence_B
