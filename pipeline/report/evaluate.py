"""What a run was worth, from its lake alone: regimes against the truth, forecasts against what came, hedges in USD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from features.signals import REGIMES
from features.surface.black import YEAR_NS
from forecasting.evaluate import diebold_mariano, mean_by_bar, qlike
from forecasting.target import realized_variance_ahead
from regimes.evaluate import balanced_accuracy, occupancy, switches_per_1000

NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RegimeScore:
    """Of one underlying, out of sample. ``accuracy`` is balanced over the regimes; ``None`` without a known truth."""

    underlying: str
    bars: int
    occupancy: tuple[float, ...]
    switches_per_1000: float
    accuracy: float | None
    kmeans_accuracy: float | None
    true_switches_per_1000: float | None


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """Mean QLIKE out of sample, and the Diebold-Mariano t of forecast less HAR (negative: the forecast is better)."""

    rows: int
    horizon_s: float
    qlike: float
    qlike_har: float
    t_statistic: float


def regime_scores(signals: pl.DataFrame, truth: pl.DataFrame | None, judged_from: int) -> list[RegimeScore]:
    """One score an underlying, from the first bar that is out of sample."""
    scores: list[RegimeScore] = []
    judged = signals.filter(pl.col("bar_ts") >= judged_from).sort("underlying", "bar_ts")
    for (underlying,), mine in judged.group_by("underlying", maintain_order=True):
        label = mine["regime"].fill_null(-1).to_numpy()
        accuracy = kmeans = true_switches = None
        if truth is not None:
            known = mine.join(truth, on=["underlying", "bar_ts"], how="inner", suffix="_true").sort("bar_ts")
            true = known["regime_true"].cast(pl.Int64).to_numpy()
            accuracy = balanced_accuracy(true, known["regime"].fill_null(-1).to_numpy())
            kmeans = balanced_accuracy(true, known["kmeans_regime"].fill_null(-1).to_numpy())
            true_switches = switches_per_1000(true)
        shares = tuple(float(share) for share in occupancy(label, len(REGIMES)))
        switches = switches_per_1000(label)
        scores.append(RegimeScore(str(underlying), len(label), shares, switches, accuracy, kmeans, true_switches))
    return scores


def forecast_rows(signals: pl.DataFrame, universe: pl.DataFrame, judged_from: int) -> pl.DataFrame:
    """Forecasts beside what was realized, out of sample: ``underlying, bar_ts, forecast, har, realized`` as variances.

    Only rows whose whole horizon lies in the run count.
    """
    if signals.is_empty() or signals["forecast_horizon_s"].null_count() == signals.height:
        return pl.DataFrame(
            schema={"underlying": pl.String, "bar_ts": pl.Int64, **dict.fromkeys(_VARIANCES, pl.Float64)}
        )
    ordered = universe.sort("underlying", "bar_ts")
    horizon_bars = max(1, round(horizon_s(signals) * NANO / _interval_ns(ordered)))
    target = realized_variance_ahead(ordered, horizon_bars)
    realized = ordered.select("underlying", "bar_ts").with_columns(
        realized=pl.Series("realized", target).fill_nan(None)
    )
    return (
        signals.filter(pl.col("bar_ts") >= judged_from)
        .join(realized, on=["underlying", "bar_ts"], how="inner")
        .select(
            "underlying",
            "bar_ts",
            pl.col("forecast_variance").alias("forecast"),
            pl.col("har_variance").alias("har"),
            "realized",
        )
        .drop_nulls()
        .sort("underlying", "bar_ts")
    )


_VARIANCES: Final = ("forecast", "har", "realized")


def horizon_s(signals: pl.DataFrame) -> float:
    """Seconds that the forecasts look ahead."""
    return float(signals["forecast_horizon_s"].drop_nulls().to_numpy()[0])


def _interval_ns(ordered: pl.DataFrame) -> int:
    bars = np.unique(ordered["bar_ts"].to_numpy())
    return int(np.diff(bars).min()) if len(bars) > 1 else NANO


def forecast_score(rows: pl.DataFrame, seconds: float) -> ForecastScore | None:
    """Mean losses, and whether they differ; ``None`` without rows."""
    if rows.height < 2:
        return None
    # A bar in which the market rested has no finite loss: it counts as a hundredth of the median.
    realized = rows["realized"].to_numpy()
    floor = 0.01 * float(np.median(realized))
    ours = qlike(realized, rows["forecast"].to_numpy(), floor)
    har = qlike(realized, rows["har"].to_numpy(), floor)
    bars = rows["bar_ts"].to_numpy()
    lag = min(max(1, round(seconds)), rows.height // 4)
    test = diebold_mariano(mean_by_bar(ours, bars), mean_by_bar(har, bars), lag)
    return ForecastScore(rows.height, seconds, float(ours.mean()), float(har.mean()), test.t_statistic)


def annual_percent(rows: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """Variances over the horizon as volatilities in percent a year."""
    scale = YEAR_NS / (seconds * NANO)
    return rows.with_columns((pl.col(name) * scale).sqrt() * 100.0 for name in _VARIANCES)
