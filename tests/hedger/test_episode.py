from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from noisy_regimes import NoisyRegimes
from scipy.stats import norm

from features.surface.black import black_delta, black_price
from hedger.episode import Claims, Episode, band_positions, hedge_outcome, make_episode, unhedged
from hedger.evaluation import network_band, objective
from hedger.policy import BandNetwork
from hedger.regime_parameters import RegimeParameters
from hedger.simulators import simulate_market

DAY_S = 86_400.0


def parameters(volatility: float, half_spread_bps: float) -> RegimeParameters:
    zero = (0.0, 0.0, 0.0)
    return RegimeParameters((volatility,) * 3, zero, zero, (half_spread_bps,) * 3, (0.2 * half_spread_bps,) * 3)


def episode(
    n_paths: int = 50, n_steps: int = 12, step_s: float = 3_600.0, days: float = 10.0, half_spread_bps: float = 2.0
) -> Episode:
    market = simulate_market(
        parameters(0.2, half_spread_bps),
        NoisyRegimes(),
        n_paths=n_paths,
        n_steps=n_steps,
        step_s=step_s,
        half_spread_log_sd=0.3 if half_spread_bps else 0.0,
        seed=5,
    )
    generator = torch.Generator().manual_seed(1)
    uniform_B = torch.rand(n_paths, generator=generator, dtype=torch.float64)
    claims = Claims(
        strike_B=0.97 + 0.06 * uniform_B,
        expiry_years_B=torch.full((n_paths,), days / 365.0, dtype=torch.float64),
        volatility_B=torch.full((n_paths,), 0.22, dtype=torch.float64),
        initial_offset_B=0.1 * (uniform_B - 0.5),
    )
    return make_episode(market, claims, hedged_options=10.0, fee_bps=1.5)


def test_the_loss_is_that_of_a_ledger_kept_by_hand() -> None:
    ep = episode(8)
    lower, upper = 0.01, 0.02
    outcome = hedge_outcome(ep, band_positions(ep, *torch.tensor([lower, upper], dtype=torch.float64)))
    spot, half, impact = (x.numpy() for x in (ep.market.spot_TB, ep.market.half_spread_bps_TB, ep.market.impact_bps_TB))
    for b in range(8):
        strike, volatility = float(ep.claims.strike_B[b]), float(ep.claims.volatility_B[b])
        years = 10.0 / 365.0 - np.arange(13) / 24.0 / 365.0
        delta = black_delta(spot[:, b], strike, years, volatility, True)
        cash, paid, turnover = float(black_price(1.0, strike, years[0], volatility, True)), 0.0, 0.0
        held = float(delta[0] + ep.claims.initial_offset_B[b])
        cash -= held
        for t in range(12):
            wanted = min(max(held, delta[t] - lower), delta[t] + upper)
            trade = wanted - held
            cost = spot[t, b] * 1e-4 * ((half[t, b] + 1.5) * abs(trade) + impact[t, b] * 10.0 * trade**2)
            cash -= trade * spot[t, b] + cost
            paid, turnover, held = paid + cost, turnover + abs(trade) * spot[t, b], wanted
        back = abs(delta[-1] - held)
        end = 0.5 * spot[-1, b] * 1e-4 * ((half[-1, b] + 1.5) * back + impact[-1, b] * 10.0 * back**2)
        wealth = cash + held * spot[-1, b] - float(black_price(spot[-1, b], strike, years[-1], volatility, True)) - end
        assert float(outcome.loss_B[b]) == pytest.approx(-wealth, abs=1e-13)
        assert float(outcome.cost_B[b]) == pytest.approx(paid, rel=1e-10)
        assert float(outcome.turnover_B[b]) == pytest.approx(turnover, rel=1e-10)


@pytest.mark.parametrize(("n_steps", "ratio"), [(20, 0.957), (80, 0.979)])
def test_the_error_of_a_discrete_delta_hedge_is_that_of_theory(n_steps: int, ratio: float) -> None:
    """sd = sqrt(pi / 4) vega sigma / sqrt(n) for an option at the money held to expiry (Kamal and Derman 1999)."""
    n_paths, sigma = 20_000, 0.2
    market = simulate_market(
        parameters(sigma, 0.0),
        NoisyRegimes(),
        n_paths=n_paths,
        n_steps=n_steps,
        step_s=DAY_S,
        half_spread_log_sd=0.0,
        seed=1,
    )
    years = n_steps / 365.0
    one = torch.ones(n_paths, dtype=torch.float64)
    ep = make_episode(market, Claims(one, years * one, sigma * one, 0.0 * one))
    zero = torch.zeros(())
    loss_B = hedge_outcome(ep, band_positions(ep, zero, zero)).loss_B
    vega = norm.pdf(0.5 * sigma * math.sqrt(years)) * math.sqrt(years)
    theory = math.sqrt(math.pi / 4.0) * vega * sigma / math.sqrt(n_steps)
    assert float(loss_B.std()) / theory == pytest.approx(ratio, abs=0.015)
    assert abs(float(loss_B.mean())) < 4.0 * float(loss_B.std()) / math.sqrt(n_paths)


def test_positions_stay_in_the_band_and_move_no_further_than_to_its_edge() -> None:
    ep = episode()
    generator = torch.Generator().manual_seed(2)
    lower_TB, upper_TB = 0.05 * torch.rand((2, 12, 50), generator=generator, dtype=torch.float64)
    position_TB = band_positions(ep, lower_TB, upper_TB)
    low_TB, high_TB = ep.delta_TB[:-1] - lower_TB, ep.delta_TB[:-1] + upper_TB
    assert bool(((position_TB >= low_TB) & (position_TB <= high_TB)).all())
    before_TB = torch.cat((ep.initial_B[None], position_TB[:-1]))
    inside_TB = (before_TB > low_TB) & (before_TB < high_TB)
    assert torch.equal(position_TB[inside_TB], before_TB[inside_TB])
    at_edge_TB = (position_TB == low_TB) | (position_TB == high_TB)
    assert bool(at_edge_TB[~inside_TB].all())
    assert bool(inside_TB.any())
    assert bool(at_edge_TB.any())


def test_who_does_not_hedge_pays_nothing_and_bears_the_option() -> None:
    ep = unhedged(episode())
    outcome = hedge_outcome(ep, torch.zeros_like(ep.delta_TB[:-1]))
    assert float(outcome.cost_B.abs().max()) == 0.0
    end_B = outcome.loss_B - ep.option_loss_B
    assert bool((end_B >= 0.0).all())  # half the cost of the hedge that is still owed
    assert float(end_B.max()) < 0.5 * 1e-4 * 1.3 * (3.0 * (2.0 + 1.5) + 0.4 * 10.0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    ep = episode(40)
    mean_D, scale_D = ep.inputs_ND.mean(dim=0), ep.inputs_ND.std(dim=0).clamp(min=0.1)
    network = BandNetwork(mean_D, scale_D, 0.05, 1.5, 4, torch.Generator().manual_seed(3)).double()
    for parameter in network.parameters():  # away from the start, where the last layer ignores the others
        parameter.data += 0.3 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
        )

    def risk() -> torch.Tensor:
        return objective(ep, hedge_outcome(ep, band_positions(ep, *network_band(network, ep))), 0.8)

    gradients = torch.autograd.grad(risk(), list(network.parameters()))
    step = 1e-6
    checked = 0
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        flat, own = parameter.data.view(-1), gradient.reshape(-1)
        for i in range(0, len(flat), max(len(flat) // 5, 1)):
            kept = float(flat[i])
            risks = []
            for bumped in (kept + step, kept - step):
                flat[i] = bumped
                risks.append(float(risk().detach()))
            flat[i] = kept
            assert float(own[i]) == pytest.approx((risks[0] - risks[1]) / (2.0 * step), rel=1e-4, abs=1e-7)
            checked += float(own[i]) != 0.0
    assert checked > 10
