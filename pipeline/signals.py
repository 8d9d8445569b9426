"""The ``signals`` stage: universe rows in, regime posterior and variance forecast out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from features.signals import SCHEMA
from features.stage import Keyed, StageOutput
from features.state import pack, unpack
from forecasting.model import ForecastModel, load_forecast
from pipeline.model_folders import FORECAST_FOLDER, REGIMES_FOLDER
from regimes.features import raw_rows
from regimes.model import RegimeModel, load_regimes

_CARRIED: Final = (
    "underlying", "instrument", "bar_ts", "ts_known", "book_valid", "best_bid", "best_ask", "mid", "bid_depth_10bps",
    "ask_depth_10bps", "atm_iv_30d", "surface_age_s", "realized_variance_1m",
)  # fmt: skip


class SignalStage:
    """Moves each underlying's filter by one row a bar, and forecasts from the same row.

    Rows not beyond their underlying's last bar are duplicates and dropped.
    """

    name = "signals"

    def __init__(self, regimes: RegimeModel, forecast: ForecastModel, catalogue: str) -> None:
        self._regimes = regimes
        self._forecast = forecast
        self._version = f"{catalogue}+{regimes.version}+{forecast.version}"
        self._posterior: dict[str, np.ndarray[Any, Any]] = {}
        self._last_bar: dict[str, int] = {}

    @classmethod
    def load(cls, models: Path, catalogue: str) -> SignalStage:
        """Load both models from their folders, made for features of ``catalogue``.

        Raises:
            ArtifactError: one is missing, damaged, or made for another catalogue.
        """
        regimes = load_regimes(models / REGIMES_FOLDER, catalogue)
        return cls(regimes, load_forecast(models / FORECAST_FOLDER, catalogue), catalogue)

    @property
    def version(self) -> str:
        """Catalogue and models: the ``version`` of every row."""
        return self._version

    def process(self, batch: pa.RecordBatch) -> StageOutput:
        """Take universe rows in order."""
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        fresh = self._fresh(frame)
        if not fresh.any():
            return StageOutput()
        frame = frame.filter(pl.Series(fresh))
        rows = self._signals(frame)
        return StageOutput(
            [
                Keyed(str(underlying), _record_batch(mine))
                for (underlying,), mine in rows.group_by("underlying", maintain_order=True)
            ]
        )

    def _fresh(self, frame: pl.DataFrame) -> np.ndarray[Any, Any]:
        fresh = np.zeros(frame.height, dtype=bool)
        for i, (underlying, bar_ts) in enumerate(frame.select("underlying", "bar_ts").iter_rows()):
            if bar_ts > self._last_bar.get(underlying, -1):
                self._last_bar[underlying] = bar_ts
                fresh[i] = True
        return fresh

    def _signals(self, frame: pl.DataFrame) -> pl.DataFrame:
        raw_NC = raw_rows(frame, self._regimes.columns)
        posterior_NK = np.empty((frame.height, self._regimes.n_states))
        label_N = np.empty(frame.height, dtype=np.int64)
        for i, underlying in enumerate(frame["underlying"]):
            x_D = self._regimes.observe(raw_NC[i], underlying)
            state = self._posterior.get(underlying)
            posterior = self._regimes.update(self._regimes.init() if state is None else state, x_D)
            self._posterior[underlying] = posterior
            posterior_NK[i] = posterior
            label_N[i] = self._regimes.kmeans(x_D)
        variance, har = self._forecast.predict(raw_rows(frame, self._forecast.columns))
        labels = pl.Series("kmeans_regime", label_N)
        return frame.select(_CARRIED).with_columns(
            *(pl.Series(f"posterior_{k}", posterior_NK[:, k]) for k in range(self._regimes.n_states)),
            version=pl.lit(self._version),
            regime=pl.Series("regime", posterior_NK.argmax(axis=1).astype(np.int64)),
            kmeans_regime=labels.set(labels < 0, None),
            forecast_variance=pl.Series("forecast_variance", variance).fill_nan(None),
            har_variance=pl.Series("har_variance", har).fill_nan(None),
            forecast_horizon_s=pl.lit(self._forecast.horizon_s),
        )

    def snapshot(self) -> Mapping[str, bytes]:
        """State by underlying."""
        return {
            underlying: pack({"posterior": posterior, "last_bar": self._last_bar[underlying]})
            for underlying, posterior in self._posterior.items()
        }

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Replace all state."""
        saved = {underlying: unpack(data) for underlying, data in state.items()}
        self._posterior = {underlying: each["posterior"] for underlying, each in saved.items()}
        self._last_bar = {underlying: int(each["last_bar"]) for underlying, each in saved.items()}


def _record_batch(frame: pl.DataFrame) -> pa.RecordBatch:
    table = frame.select(SCHEMA.names).to_arrow().cast(SCHEMA)
    return table.combine_chunks().to_batches()[0]
