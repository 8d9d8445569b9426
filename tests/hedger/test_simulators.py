from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from noisy_regimes import NoisyRegimes

from features.errors import ConfigError
from hedger.regime_parameters import YEAR_S, RegimeParameters
from hedger.simulators import MarketPaths, simulate_market

PARAMETERS = RegimeParameters(
    volatility_annual=(0.3, 0.8, 0.5),
    jump_intensity_per_year=(0.0, 20_000.0, 5_000.0),
    jump_std=(0.0, 0.01, 0.02),
    half_spread_bps=(0.5, 1.0, 4.0),
    impact_bps=(0.1, 0.2, 0.9),
)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def simulate(n_paths: int = 4_000, seed: int = 0, stay: float = 0.97, device: str = "cpu") -> MarketPaths:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return simulate_market(
        PARAMETERS,
        NoisyRegimes(stay),
        n_paths=n_paths,
        n_steps=60,
        step_s=30.0,
        half_spread_log_sd=0.3,
        seed=seed,
        device=device,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_returns_have_each_regimes_variance_and_jumps(device: str) -> None:
    market = simulate(8_000, device=device)
    return_TB = market.spot_TB.log().diff(dim=0).cpu()
    regime_TB = market.regime_TB[:-1].cpu()
    for k in range(3):
        own = return_TB[regime_TB == k]
        rate = PARAMETERS.jump_intensity_per_year[k] * 30.0 / YEAR_S
        total = PARAMETERS.total_volatility_annual[k] ** 2 * 30.0 / YEAR_S
        # The fourth moment of a normal variance mixture gives the error of the realized variance.
        fourth = 3.0 * (total**2 + rate * PARAMETERS.jump_std[k] ** 4)
        error = np.sqrt((fourth - total**2) / len(own))
        assert abs(float((own**2).mean()) - total) < 4.0 * error
        diffusion_sd = PARAMETERS.volatility_annual[k] * np.sqrt(30.0 / YEAR_S)
        if rate > 0.0:
            # Jumps are so large that nearly all of them stand out, by more than 5 standard deviations.
            seen = torch.erfc(torch.tensor(5.0 * diffusion_sd / PARAMETERS.jump_std[k] / np.sqrt(2.0)))
            jumps, expected = int((own.abs() > 5.0 * diffusion_sd).sum()), rate * len(own) * float(seen)
            assert abs(jumps - expected) < 4.0 * np.sqrt(expected) + 0.02 * expected
        else:
            assert float(own.abs().max()) < 6.5 * diffusion_sd


def test_the_price_is_a_martingale() -> None:
    spot_B = simulate(40_000).spot_TB[-1]
    assert abs(float(spot_B.mean()) - 1.0) < 4.0 * float(spot_B.std()) / 200.0


def test_costs_follow_the_regime_and_differ_by_path() -> None:
    market = simulate()
    ratio_TB = market.half_spread_bps_TB / torch.tensor(PARAMETERS.half_spread_bps)[market.regime_TB]
    level_B = ratio_TB[0]
    np.testing.assert_allclose(ratio_TB, level_B.expand_as(ratio_TB), rtol=1e-6)
    assert float(level_B.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(level_B.log().std()) == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(market.impact_bps_TB, np.array(PARAMETERS.impact_bps)[market.regime_TB])


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(device: str) -> None:
    first, again, other = (
        simulate(seed=3, device=device),
        simulate(seed=3, device=device),
        simulate(seed=4, device=device),
    )
    for name in ("spot_TB", "half_spread_bps_TB", "posterior_TBK", "regime_TB"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_times_paths_and_types() -> None:
    market = simulate(7)
    assert market.spot_TB.shape == market.half_spread_bps_TB.shape == market.regime_TB.shape == (61, 7)
    assert market.posterior_TBK.shape == (61, 7, 3)
    assert market.spot_TB.dtype == torch.float64
    assert torch.equal(market.spot_TB[0], torch.ones(7, dtype=torch.float64))
    regime_BT, posterior_BTK = NoisyRegimes().sample(7, 61, 0)
    for b, t in product(range(7), range(61)):
        assert int(market.regime_TB[t, b]) == regime_BT[b, t]
        assert market.posterior_TBK[t, b].tolist() == posterior_BTK[b, t].tolist()


def test_another_number_of_regimes_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 regimes"):
        simulate_market(
            PARAMETERS, NoisyRegimes(n_regimes=2), n_paths=2, n_steps=2, step_s=1.0, half_spread_log_sd=0.0, seed=0
        )
