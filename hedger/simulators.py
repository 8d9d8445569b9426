"""Simulated markets: a jump diffusion whose volatility, jumps and trading costs follow a hidden regime.

Tensors carry their shape: B paths, T times, K regimes. Time comes first: a hedge is followed step by step, and each
step then reads one contiguous row.

References:
    Merton 1976, "Option pricing when underlying stock returns are discontinuous"; regimes as in Hamilton 1989.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from features.errors import ConfigError
from features.protocols import RegimePaths
from hedger.regime_parameters import YEAR_S, RegimeParameters


@dataclass(frozen=True, slots=True)
class MarketPaths:
    """What a hedger sees of simulated markets at the times 0 ... n_steps, and the regime, which it does not.

    Attributes:
        spot_TB: price, 1 at time 0; float64.
        half_spread_bps_TB: half the bid-ask spread in basis points of the price.
        impact_bps_TB: by which the average price of a trade worsens for each unit of the underlying traded.
        posterior_TBK: filtered probabilities of the regimes.
        regime_TB: the regime from t to t + 1, int64.
        step_s: seconds between two times.
    """

    spot_TB: Tensor
    half_spread_bps_TB: Tensor
    impact_bps_TB: Tensor
    posterior_TBK: Tensor
    regime_TB: Tensor
    step_s: float

    @property
    def step_years(self) -> float:
        """Years of 365 days between two times."""
        return self.step_s / YEAR_S


def simulate_market(
    parameters: RegimeParameters,
    regime_paths: RegimePaths,
    *,
    n_paths: int,
    n_steps: int,
    step_s: float,
    half_spread_log_sd: float,
    seed: int,
    device: torch.device | str = "cpu",
) -> MarketPaths:
    """Simulate ``n_paths`` markets over ``n_steps`` steps: a martingale given the regimes.

    ``log S_{t+1} / S_t = -(s^2 / 2 + l (e^{j^2/2} - 1)) dt + sqrt(s^2 dt + N j^2) Z`` with N ~ Poisson(l dt) jumps of
    variance j^2, all of the regime at t.

    Args:
        parameters: of each regime.
        regime_paths: regimes and posteriors in steps of ``step_s``.
        n_paths, n_steps: B, and T - 1.
        step_s: seconds in a step.
        half_spread_log_sd: each path's spreads are wider or narrower throughout by exp(N(-sd^2 / 2, sd^2)), so that
            a policy knows other levels of cost than the calibrated ones and cannot wait for a spread to blow over.
        seed: of everything; the same bits for the same seed, device and wheels.
        device: where the tensors live.

    Raises:
        ConfigError: the regime paths have another number of regimes than the parameters.
    """
    regime_BT, posterior_BTK = regime_paths.sample(n_paths, n_steps + 1, seed)
    if posterior_BTK.shape != (n_paths, n_steps + 1, parameters.n_regimes):
        raise ConfigError(
            f"The regime paths have shape {posterior_BTK.shape}, with parameters for {parameters.n_regimes} regimes.",
            "Fit both with the same number of regimes.",
        )
    regime_TB = torch.from_numpy(np.ascontiguousarray(regime_BT.T)).to(device)
    posterior_TBK = torch.from_numpy(np.ascontiguousarray(posterior_BTK.transpose(1, 0, 2))).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    level_B = torch.randn(n_paths, generator=generator, dtype=torch.float64, device=device) * half_spread_log_sd
    half_spread_bps_TB = _of_regime(parameters.half_spread_bps, regime_TB)
    return MarketPaths(
        spot_TB=_spot(parameters, regime_TB[:-1], step_s / YEAR_S, generator),
        half_spread_bps_TB=half_spread_bps_TB * torch.exp(level_B - 0.5 * half_spread_log_sd**2),
        impact_bps_TB=_of_regime(parameters.impact_bps, regime_TB),
        posterior_TBK=posterior_TBK,
        regime_TB=regime_TB,
        step_s=step_s,
    )


def _spot(parameters: RegimeParameters, regime_TB: Tensor, step_years: float, generator: torch.Generator) -> Tensor:
    variance_TB = _of_regime(tuple(v**2 * step_years for v in parameters.volatility_annual), regime_TB)
    rate_TB = _of_regime(tuple(rate * step_years for rate in parameters.jump_intensity_per_year), regime_TB)
    jump_variance_TB = _of_regime(tuple(size**2 for size in parameters.jump_std), regime_TB)
    jumps_TB = torch.poisson(rate_TB, generator=generator)
    normal_TB = torch.randn(rate_TB.shape, generator=generator, dtype=torch.float64, device=rate_TB.device)
    drift_TB = -0.5 * variance_TB - rate_TB * torch.expm1(0.5 * jump_variance_TB)
    log_return_TB = drift_TB + torch.sqrt(variance_TB + jumps_TB * jump_variance_TB) * normal_TB
    start_B = torch.zeros_like(log_return_TB[:1])
    return torch.cat((start_B, log_return_TB.cumsum(dim=0))).exp()


def _of_regime(value_K: tuple[float, ...], regime_TB: Tensor) -> Tensor:
    return torch.tensor(value_K, dtype=torch.float64, device=regime_TB.device)[regime_TB]
