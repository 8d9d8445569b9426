"""The ``signals`` stage: universe rows in, regime posterior and variance forecast out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from features.rows import arrow_rows
from features.signals import SCHEMA
from features.stage import Keyed, StageOutput
from features.state import pack, unpack
from forecasting.model import ForecastModel, load_forecast
from pipeline.model_folders import FORECAST_FOLDER, REGIMES_FOLDER
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
        underlyings, bars = batch.column("underlying").to_pylist(), batch.column("bar_ts").to_pylist()
        fresh = [i for i, bar in enumerate(zip(underlyings, bars, strict=True)) if self._is_fresh(*bar)]
        if not fresh:
            return StageOutput()
        if len(fresh) < batch.num_rows:
            batch, underlyings = batch.take(pa.array(fresh)), [underlyings[i] for i in fresh]
        return StageOutput(
            [Keyed(name, mine) for name, mine in _by_name(self._signals(batch, underlyings), underlyings)]
        )

    def _is_fresh(self, underlying: str, bar_ts: int) -> bool:
        if bar_ts <= self._last_bar.get(underlying, -1):
            return False
        self._last_bar[underlying] = bar_ts
        return True

    def _signals(self, batch: pa.RecordBatch, underlyings: list[str]) -> pa.RecordBatch:
        """Arrays and no frame: a bar is a row or two, and a decision waits for it."""
        raw_NC = arrow_rows(batch, self._regimes.columns)
        posterior_NK = np.empty((batch.num_rows, self._regimes.n_states))
        label_N = np.empty(batch.num_rows, dtype=np.int64)
        for i, underlying in enumerate(underlyings):
            x_D = self._regimes.observe(raw_NC[i], underlying)
            state = self._posterior.get(underlying)
            posterior = self._regimes.update(self._regimes.init() if state is None else state, x_D)
            self._posterior[underlying] = posterior
            posterior_NK[i] = posterior
            label_N[i] = self._regimes.kmeans(x_D)
        variance, har = self._forecast.predict(arrow_rows(batch, self._forecast.columns))
        columns: dict[str, Any] = {name: batch.column(name) for name in _CARRIED}
        columns |= {f"posterior_{k}": pa.array(posterior_NK[:, k]) for k in range(self._regimes.n_states)}
        columns |= {
            "version": pa.repeat(self._version, batch.num_rows),
            "regime": pa.array(posterior_NK.argmax(axis=1).astype(np.int64)),
            "kmeans_regime": pa.array(label_N, mask=label_N < 0),
            "forecast_variance": pa.array(variance, mask=np.isnan(variance)),
            "har_variance": pa.array(har, mask=np.isnan(har)),
            "forecast_horizon_s": pa.repeat(self._forecast.horizon_s, batch.num_rows),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)

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


def _by_name(rows: pa.RecordBatch, names: list[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each name, in order of first appearance."""
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        found.setdefault(name, []).append(i)
    for name, indices in found.items():
        yield name, rows if len(found) == 1 else rows.take(pa.array(indices))
