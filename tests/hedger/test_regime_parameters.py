from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from noisy_regimes import NoisyRegimes

from features.errors import BadInputError, ConfigError
from hedger.regime_parameters import YEAR_S, RegimeParameters, calibrate
from hedger.simulators import simulate_market

TRUTH = RegimeParameters(
    volatility_annual=(0.3, 0.9, 0.6),
    jump_intensity_per_year=(200_000.0, 400_000.0, 200_000.0),
    jump_std=(0.003, 0.01, 0.006),
    half_spread_bps=(0.5, 1.0, 4.0),
    impact_bps=(0.05, 0.1, 0.5),
)


def bars(n_rows: int = 60_000, seed: int = 0) -> pl.DataFrame:
    """One-second bars simulated with known parameters; the label is the true regime."""
    market = simulate_market(
        TRUTH, NoisyRegimes(0.995), n_paths=1, n_steps=n_rows, step_s=1.0, half_spread_log_sd=0.0, seed=seed
    )
    depth = 10.0 / (2.0 * market.impact_bps_TB[:-1, 0].numpy())
    return pl.DataFrame(
        {
            "log_return": market.spot_TB[:, 0].log().diff().numpy(),
            "spread_bps": 2.0 * market.half_spread_bps_TB[:-1, 0].numpy(),
            "bid_depth_10bps": 0.8 * depth,
            "ask_depth_10bps": 1.2 * depth,
            "regime": market.regime_TB[:-1, 0].numpy(),
        }
    )


def test_it_finds_what_the_bars_were_simulated_with() -> None:
    fitted = calibrate(bars(), 1.0)
    np.testing.assert_allclose(fitted.volatility_annual, TRUTH.volatility_annual, rtol=0.02)
    # Some 60 to 250 jumps a regime, of which 7 % are below 5 standard deviations and taken for diffusion.
    np.testing.assert_allclose(fitted.jump_intensity_per_year, TRUTH.jump_intensity_per_year, rtol=0.25)
    np.testing.assert_allclose(fitted.jump_std, TRUTH.jump_std, rtol=0.2)
    np.testing.assert_allclose(fitted.half_spread_bps, TRUTH.half_spread_bps, rtol=0.03)
    np.testing.assert_allclose(fitted.impact_bps, TRUTH.impact_bps, rtol=0.03)


def test_the_fitted_variance_is_the_realized_one() -> None:
    frame = bars()
    fitted = calibrate(frame, 1.0)
    for k in range(3):
        own = frame.filter(pl.col("regime") == k)["log_return"].to_numpy()
        realized = np.sqrt(np.mean(own**2) * YEAR_S)
        assert fitted.total_volatility_annual[k] == pytest.approx(realized, rel=0.02)


def test_a_regime_without_bars_is_the_pooled_market() -> None:
    frame = bars().with_columns(regime=pl.lit(0))
    fitted = calibrate(frame, 1.0)
    for values in (getattr(fitted, name) for name in RegimeParameters.__slots__):
        assert values[1] == values[2] == pytest.approx(values[0], rel=1e-9)


def test_a_regime_with_few_bars_lies_between_its_own_and_the_pool() -> None:
    frame = bars(20_000)
    few = pl.concat([frame.filter(pl.col("regime") == 0), frame.filter(pl.col("regime") == 2).head(30)])
    fitted = calibrate(few, 1.0)
    assert fitted.half_spread_bps[0] == pytest.approx(0.5, rel=0.02)
    assert 0.5 < fitted.half_spread_bps[2] < 3.5  # its own is 4


def test_a_book_that_rests_makes_no_jumps_of_its_ticks() -> None:
    rng = np.random.default_rng(0)
    moved = rng.random(20_000) < 0.1
    frame = bars(20_000).with_columns(log_return=pl.Series(np.where(moved, rng.normal(0.0, 1e-5, 20_000), 0.0)))
    fitted = calibrate(frame.with_columns(regime=pl.lit(1)), 1.0)
    assert fitted.jump_intensity_per_year[1] == 0.0
    assert fitted.jump_std == (0.0, 0.0, 0.0)
    assert fitted.volatility_annual[1] == pytest.approx(1e-5 * np.sqrt(0.1 * YEAR_S), rel=0.05)


def test_unknown_values_are_left_out_and_unknown_regimes_too() -> None:
    frame = bars(20_000)
    holes = frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col(name)).alias(name)
        for name in frame.columns[:2]
    )
    unlabelled = frame.with_columns(regime=pl.lit(None, dtype=pl.Int64), log_return=pl.lit(1.0))
    known, both = calibrate(holes, 1.0), calibrate(pl.concat([holes, unlabelled]), 1.0)
    assert known == both
    np.testing.assert_allclose(known.volatility_annual, calibrate(frame, 1.0).volatility_annual, rtol=0.05)


def test_contracts_are_turned_into_units_of_the_underlying() -> None:
    frame = bars(2_000)
    one, thousandth = calibrate(frame, 1.0), calibrate(frame, 1.0, contract_size=1e-3)
    np.testing.assert_allclose(thousandth.impact_bps, 1e3 * np.array(one.impact_bps), rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop("spread_bps"), "lack"),
        (lambda frame: frame.head(20), "are needed"),
        (lambda frame: frame.with_columns(log_return=pl.lit(0.0)), "are needed"),
        (lambda frame: frame.with_columns(regime=pl.lit(3)), "Regimes run"),
        (lambda frame: frame.with_columns(spread_bps=pl.lit(None, dtype=pl.Float64)), "spread"),
    ],
)
def test_bars_that_cannot_be_used_are_refused(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(BadInputError, match=message):
        calibrate(change(bars(1_000)), 1.0)


@pytest.mark.parametrize("values", [(0.1, 0.2), (0.1, 0.2, -0.1), (0.1, 0.2, float("nan")), ()])
def test_parameters_are_one_finite_number_a_regime(values: tuple[float, ...]) -> None:
    good = (1.0, 1.0, 1.0)
    with pytest.raises(ConfigError):
        RegimeParameters(good, good, values, good, good)
