"""Fit the models on what the lake holds up to a moment: each becomes an artifact folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from features.artifact import Manifest
from features.errors import BadInputError
from pipeline.lake import Lake
from pipeline.lake_location import Place
from pipeline.model_folders import FORECAST_FOLDER, REGIMES_FOLDER
from pipeline.settings import Settings
from pipeline.tables import TABLES
from pipeline.user_features import catalogue_of

if TYPE_CHECKING:
    from hedger.portfolio import Portfolio
    from hedger.training import TrainingConfig

HAR_COLUMNS: Final = ("realized_variance_10s", "realized_variance_1m")

MIN_COVERAGE: Final = 0.8
"""A HAR column must be known in this share of the training rows. The trees also read what is often unknown."""


def training_rows(lake: Place, until: int | None) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Universe rows known until ``until`` (ns), and what to write of them into a manifest.

    Rows are chosen by ``ts_known``: what had not arrived by then is not learned from.

    Raises:
        BadInputError: there are none.
    """
    source = Lake(lake)
    files = source.files(TABLES["universe"])
    if files:
        frame = pl.read_parquet(files, hive_partitioning=True, storage_options=source.path.options)
    else:
        frame = pl.DataFrame()
    if until is not None and files:
        frame = frame.filter(pl.col("ts_known") <= until)
    if frame.is_empty():
        raise BadInputError(
            f"The lake at {lake} has no universe rows to fit on.", "Run the features and universe workers."
        )
    frame = frame.sort("underlying", "bar_ts")
    first, last = frame["bar_ts"].min(), frame["bar_ts"].max()
    return frame, {
        "table": "universe",
        "rows": frame.height,
        "first_bar_ts": first,
        "last_bar_ts": last,
        "until": until,
    }


def fit_regimes_artifact(settings: Settings, until: int | None, seed: int) -> Manifest:
    """Hidden Markov model and K-Means of three regimes."""
    from regimes.model import fit_regimes

    frame, data = training_rows(settings.lake, until)
    catalogue = catalogue_of(settings).hash
    return fit_regimes(frame, seed=seed).save(settings.models / REGIMES_FOLDER, catalogue=catalogue, data=data)


def fit_forecast_artifact(settings: Settings, until: int | None, seed: int, horizon_bars: int) -> Manifest:
    """HAR, and LightGBM on its residual, of realized variance over the next ``horizon_bars``.

    The trees also read the columns ``settings.forecast_inputs``, a user's own among them.
    """
    from forecasting.fit import fit_forecast
    from forecasting.inputs import residual_inputs

    frame, data = training_rows(settings.lake, until)
    known = tuple(name for name in HAR_COLUMNS if frame[name].null_count() <= (1 - MIN_COVERAGE) * frame.height)
    inputs = residual_inputs(settings.forecast_inputs)
    model = fit_forecast(frame, horizon_bars=horizon_bars, har_columns=known, inputs=inputs, seed=seed)
    return model.save(settings.models / FORECAST_FOLDER, catalogue=catalogue_of(settings).hash, data=data)


def train_policy_artifact(
    settings: Settings,
    portfolio: Portfolio,
    until: int | None,
    config: TrainingConfig,
    progress: Callable[[float, str], None] = lambda _share, _text: None,
) -> Manifest:
    """A no-trade-band policy on paths whose volatility, jumps and cost per regime come from the fitted regimes."""
    from pipeline.train import train

    frame, data = training_rows(settings.lake, until)
    return train(frame, data, settings.models, catalogue_of(settings).hash, portfolio, config, progress)
