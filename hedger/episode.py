"""One short option a path, hedged over an episode: positions from a band, and what they cost.

Tensors carry their shape: B paths, T times, N = T B rows, D inputs. The price starts at 1, so positions are units of
the underlying, and losses and costs are fractions of the initial price of the underlying, for one option.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hedger.black_tensors import black_call, policy_input_tensor
from hedger.policy_inputs import BASIS_POINT, POLICY_INPUTS
from hedger.simulators import MarketPaths

_DELTA = POLICY_INPUTS.index("delta")
_GAMMA = POLICY_INPUTS.index("scaled_gamma")
_FAR_FROM_THE_MONEY = 0.1  # of the gamma at the money: below it a loss is no longer scaled up


@dataclass(frozen=True, slots=True)
class Claims:
    """A short call a path; its mark keeps its volatility through the episode.

    Attributes:
        strike_B: in units of the initial price.
        expiry_years_B: from time 0.
        volatility_B: implied, in 1 / sqrt(year).
        initial_offset_B: position before the first trade less the delta at time 0.
    """

    strike_B: Tensor
    expiry_years_B: Tensor
    volatility_B: Tensor
    initial_offset_B: Tensor


@dataclass(frozen=True, slots=True)
class Episode:
    """Markets and claims, and all of a hedge's loss that does not depend on the policy.

    Attributes:
        market: T = n_steps + 1 times.
        hedged_options: how many options trade together: the impact of one option's trade is that of so many.
        fee_bps: of a trade's notional, beside half the spread.
        inputs_ND: the policy's inputs at the decisions, time by time: row ``t B + b``.
        delta_TB: Black delta of the call.
        initial_B: position before the first trade.
        option_loss_B: value of the call at the end less its value at the start.
        loss_scale_B: expected gamma loss ``S^2 Gamma s^2 t / 2`` of the delta hedge over the episode, in which losses
            of different options are comparable.
        stratum_B: the regime that the posterior names at time 0.
    """

    market: MarketPaths
    claims: Claims
    hedged_options: float
    fee_bps: float
    inputs_ND: Tensor
    delta_TB: Tensor
    initial_B: Tensor
    option_loss_B: Tensor
    loss_scale_B: Tensor
    stratum_B: Tensor

    @property
    def n_steps(self) -> int:
        """Decisions in the episode."""
        return len(self.delta_TB) - 1


@dataclass(frozen=True, slots=True)
class HedgeOutcome:
    """Of each path: loss with all costs, trading costs paid, and turnover, all for one option."""

    loss_B: Tensor
    cost_B: Tensor
    turnover_B: Tensor


def make_episode(market: MarketPaths, claims: Claims, *, hedged_options: float = 1.0, fee_bps: float = 0.0) -> Episode:
    """Work out what every policy shares."""
    spot_TB = market.spot_TB
    step_T = torch.arange(len(spot_TB), dtype=torch.float64, device=spot_TB.device)
    remaining_TB = claims.expiry_years_B - market.step_years * step_T[:, None]
    inputs_TBD = policy_input_tensor(
        spot_TB,
        claims.strike_B,
        remaining_TB,
        claims.volatility_B,
        market.posterior_TBK,
        market.half_spread_bps_TB,
    )
    delta_TB = inputs_TBD[..., _DELTA].contiguous()
    price_0_B, price_T_B = (
        black_call(spot_TB[t], claims.strike_B, remaining_TB[t], claims.volatility_B) for t in (0, -1)
    )
    # Far from the money there is no gamma to lose by, and the scale must not vanish.
    at_the_money_B = 1.0 / (math.sqrt(2.0 * math.pi) * claims.volatility_B * claims.expiry_years_B.sqrt())
    gamma_B = torch.maximum(inputs_TBD[0, :, _GAMMA], _FAR_FROM_THE_MONEY * at_the_money_B)
    episode_years = market.step_years * (len(spot_TB) - 1)
    return Episode(
        market=market,
        claims=claims,
        hedged_options=hedged_options,
        fee_bps=fee_bps,
        inputs_ND=inputs_TBD[:-1].flatten(0, 1),
        delta_TB=delta_TB,
        initial_B=delta_TB[0] + claims.initial_offset_B,
        option_loss_B=price_T_B - price_0_B,
        loss_scale_B=0.5 * gamma_B * claims.volatility_B**2 * episode_years,
        stratum_B=market.posterior_TBK[0].argmax(dim=-1),
    )


def band_positions(episode: Episode, lower_TB: Tensor, upper_TB: Tensor) -> Tensor:
    """``position_t = clamp(position_{t-1}, delta_t - lower_t, delta_t + upper_t)``, the only sequential part.

    Args:
        episode: what is hedged.
        lower_TB, upper_TB: offsets >= 0 at the decision times; broadcast against them.
    """
    delta_TB = episode.delta_TB[:-1]
    position_B, positions = episode.initial_B, []
    for low_B, high_B in zip((delta_TB - lower_TB).unbind(), (delta_TB + upper_TB).unbind(), strict=True):
        position_B = torch.minimum(torch.maximum(position_B, low_B), high_B)
        positions.append(position_B)
    return torch.stack(positions)


def hedge_outcome(episode: Episode, position_TB: Tensor) -> HedgeOutcome:
    """Profit and loss of a short option hedged by ``position_TB``, held from each decision to the next.

    ``loss = C_T - C_0 - sum_t position_t (S_{t+1} - S_t) + sum_t cost_t + cost_T / 2`` with, for a trade x,
    ``cost_t = S_t ((h_t + f) |x| + i_t n x^2)``: half spread h, fee f, impact i, n options trading together. The
    option lives on after the episode, so the end is no unwinding: ``cost_T`` is that of going back to the delta. A
    band would not go all the way, so half of it is charged.
    """
    market = episode.market
    spot_TB = market.spot_TB
    trade_TB = position_TB.diff(dim=0, prepend=episode.initial_B[None])
    cost_B = _cost(episode, trade_TB, slice(0, -1)).sum(dim=0)
    back_TB = (episode.delta_TB[-1] - position_TB[-1])[None]
    end_B = 0.5 * _cost(episode, back_TB, slice(-1, None)).sum(dim=0)
    gain_B = (position_TB * spot_TB.diff(dim=0)).sum(dim=0)
    return HedgeOutcome(
        loss_B=episode.option_loss_B - gain_B + cost_B + end_B,
        cost_B=cost_B,
        turnover_B=(trade_TB.abs() * spot_TB[:-1]).sum(dim=0),
    )


def _cost(episode: Episode, trade_TB: Tensor, times: slice) -> Tensor:
    market = episode.market
    linear_bps_TB = market.half_spread_bps_TB[times] + episode.fee_bps
    square_bps_TB = market.impact_bps_TB[times] * episode.hedged_options
    return BASIS_POINT * market.spot_TB[times] * (linear_bps_TB * trade_TB.abs() + square_bps_TB * trade_TB**2)


def unhedged(episode: Episode) -> Episode:
    """The same episode entered without a position, as one who never hedges does."""
    return replace(episode, initial_B=torch.zeros_like(episode.initial_B))
