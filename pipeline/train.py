"""Train the hedging policy on paths of the market that the regimes describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from features.artifact import Manifest, load_artifact
from hedger.policy import KIND, save_policy
from hedger.portfolio import Portfolio
from hedger.regime_parameters import RegimeParameters, calibrate
from hedger.training import TrainingConfig, TrainingStep, train_policy
from pipeline.model_folders import POLICY_FOLDER, REGIMES_FOLDER
from regimes.model import RegimeModel, load_regimes
from regimes.paths import MarkovPaths

BAR_S: Final = 1.0


def train(
    frame: pl.DataFrame,
    data: Mapping[str, Any],
    models: Path,
    catalogue: str,
    portfolio: Portfolio,
    config: TrainingConfig,
    progress: Callable[[float, str], None],
) -> Manifest:
    """Calibrate on universe rows, train, judge, save.

    One policy serves every underlying of the portfolio: it sees moneyness, expiry, volatility, spread and posterior,
    none of which names the underlying.
    """
    regimes = load_regimes(models / REGIMES_FOLDER, catalogue)
    parameters = portfolio_parameters(frame, regimes, portfolio)
    paths = MarkovPaths(regimes.markov, step_bars=round(config.step_s / BAR_S))

    def report(step: TrainingStep) -> None:
        progress(
            (step.batch + 1) / config.n_batches, f"{step.batch + 1} batches, mean half-width {step.half_width:.4f}"
        )

    trained = train_policy(parameters, paths, config, report)
    save_policy(
        models / POLICY_FOLDER,
        trained.policy,
        name=POLICY_FOLDER,
        catalogue=catalogue,
        seed=config.seed,
        metrics=trained.metrics,
        data={**data, "regimes": regimes.version},
    )
    return load_artifact(models / POLICY_FOLDER, kind=KIND, catalogue=catalogue).manifest


def portfolio_parameters(frame: pl.DataFrame, regimes: RegimeModel, portfolio: Portfolio) -> RegimeParameters:
    """The mean over the portfolio's underlyings of what each regime is like.

    Impact is that of trading the whole hedged quantity of an underlying, so that 10 BTC and 100 ETH compare: with it,
    a policy is trained for one option at a time.
    """
    posterior_NK, _ = regimes.posterior(frame)
    labelled = frame.with_columns(regime=pl.Series(posterior_NK.argmax(axis=1)))
    fitted: list[RegimeParameters] = []
    weights: list[float] = []
    for underlying in portfolio.underlyings:
        fitted.append(calibrate(labelled.filter(pl.col("underlying") == underlying), BAR_S))
        weights.append(sum(abs(option.quantity) for option in portfolio.options_on(underlying)))

    def mean(name: str, scale: list[float]) -> tuple[float, ...]:
        values = np.array([np.array(getattr(each, name)) * s for each, s in zip(fitted, scale, strict=True)])
        return tuple(float(value) for value in values.mean(axis=0))

    ones = [1.0] * len(fitted)
    return RegimeParameters(
        volatility_annual=mean("volatility_annual", ones),
        jump_intensity_per_year=mean("jump_intensity_per_year", ones),
        jump_std=mean("jump_std", ones),
        half_spread_bps=mean("half_spread_bps", ones),
        impact_bps=mean("impact_bps", weights),
    )
