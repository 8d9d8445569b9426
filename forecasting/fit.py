"""Fit the forecast, choose how far to trust the trees, and measure the choice on rows that had no part in it.

The window is cut in the order of time into rows that train, rows that select and rows that validate
(``forecasting/split.py``). Line and trees are trained; early stopping and the trees' weight are selected; then
validation decides whether the correction is used at all. What is shipped is fitted again on the whole window. Nothing
is scaled by statistics of rows outside the part that is fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInputError
from features.events import NANO
from features.rows import raw_rows
from forecasting.evaluate import diebold_mariano, mean_by_bar, qlike
from forecasting.har import Har, fit_har
from forecasting.inputs import RESIDUAL_INPUTS, Input, har_floors
from forecasting.model import ForecastModel, all_columns, residual_raw, variance_floor
from forecasting.residual import ResidualTrees, Rows, fit_trees
from forecasting.split import Mask, purged_split
from forecasting.target import bar_interval_ns, realized_variance_ahead

if TYPE_CHECKING:
    import polars as pl

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

MIN_ROWS_PER_COEFFICIENT: Final = 10
MIN_ROWS_TO_BOOST: Final = 200
"""In training; the selecting and validating parts need a quarter of it."""

MIN_STANDARD_ERRORS: Final = 1.0
"""By which the corrected forecast must beat the line in validation to be used."""

WEIGHTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """Usable rows: every regressor of the line and the target are known."""

    bar_ts: Integer  # N
    raw: Float  # NC
    realized: Float  # N
    har_columns: tuple[str, ...]
    horizon_bars: int
    inputs: tuple[Input, ...]

    def line(self, rows: Mask) -> Har:
        x_NP = self.raw[rows][:, : len(self.har_columns)]
        return fit_har(x_NP, self.realized[rows], har_floors(self.har_columns), self.horizon_bars)

    def log_forecast(self, line: Har, rows: Mask) -> Float:
        return line.log_forecast(self.raw[rows][:, : len(self.har_columns)])

    def residual_rows(self, line: Har, rows: Mask) -> Rows:
        raw_NC = residual_raw(self.raw[rows], self.har_columns, self.inputs)
        return Rows(raw_NC, np.log(self.realized[rows]) - self.log_forecast(line, rows), self.inputs)

    def forecasts(self, line: Har, trees: ResidualTrees, weight: float, rows: Mask) -> Float:
        """Before any smearing."""
        raw_NC = residual_raw(self.raw[rows], self.har_columns, self.inputs)
        return np.exp(self.log_forecast(line, rows) + weight * trees.predict(raw_NC))

    def smearing(self, line: Har, trees: ResidualTrees, weight: float, rows: Mask) -> float:
        """Duan's factor on the rows that were fitted: few held-out horizons would give a noisier one."""
        return float(np.mean(self.realized[rows] / self.forecasts(line, trees, weight, rows)))


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """How the shipped model is to be fitted, and how the procedure did."""

    weight: float = 0.0
    n_trees: int = 0
    metrics: tuple[tuple[str, float], ...] = ()


def fit_forecast(
    frame: pl.DataFrame,
    *,
    horizon_bars: int,
    har_columns: tuple[str, ...],
    inputs: tuple[Input, ...] = RESIDUAL_INPUTS,
    seed: int = 0,
) -> ForecastModel:
    """Fit line and trees on universe rows of any number of underlyings.

    Args:
        frame: universe rows.
        horizon_bars: bars ahead.
        har_columns: realized-variance columns of the line.
        inputs: what the trees read.
        seed: of the trees.

    Raises:
        BadInputError: too few rows have the regressors and a whole horizon after them.
        ConfigError: a HAR column is no realized variance, or the horizon is no bar.
    """
    interval_ns = bar_interval_ns(frame)
    horizon_s = horizon_bars * interval_ns / NANO
    window = _usable(frame, horizon_bars, har_columns, inputs, variance_floor(horizon_s))
    choice = _choose(window, interval_ns, seed)
    everything = np.ones(len(window.realized), dtype=np.bool_)
    line = window.line(everything)
    trees, smearing = None, line.smearing
    if choice.weight > 0.0:
        trees = fit_trees(window.residual_rows(line, everything), seed, n_trees=choice.n_trees)
        smearing = window.smearing(line, trees, choice.weight, everything)
    return ForecastModel(
        har_columns=har_columns,
        har=line,
        trees=trees,
        weight=choice.weight,
        smearing=smearing,
        horizon_bars=horizon_bars,
        horizon_s=horizon_s,
        seed=seed,
        metrics={"rows": float(len(window.realized)), "weight": choice.weight, "trees": float(choice.n_trees)}
        | dict(choice.metrics),
        inputs=inputs,
    )


def _usable(
    frame: pl.DataFrame, horizon_bars: int, har_columns: tuple[str, ...], inputs: tuple[Input, ...], floor: float
) -> _Window:
    har_floors(har_columns)  # refuses columns that are no variance
    ordered = frame.sort("bar_ts", "underlying")
    y_N = np.maximum(realized_variance_ahead(ordered, horizon_bars), floor)
    raw_NC = raw_rows(ordered, all_columns(har_columns, inputs))
    known = ~np.isnan(y_N) & ~np.isnan(raw_NC[:, : len(har_columns)]).any(axis=1)
    needed = MIN_ROWS_PER_COEFFICIENT * (1 + len(har_columns))
    if (count := int(known.sum())) < needed:
        raise BadInputError(
            f"{count} of {frame.height} rows have {', '.join(har_columns)} and {horizon_bars} bars after them; "
            f"{needed} are needed.",
            "Fit on a longer window, forecast a shorter horizon, or leave out the longest realized variance.",
        )
    return _Window(ordered["bar_ts"].to_numpy()[known], raw_NC[known], y_N[known], har_columns, horizon_bars, inputs)


def _choose(window: _Window, interval_ns: int, seed: int) -> _Choice:
    split = purged_split(window.bar_ts, window.horizon_bars * interval_ns)
    least = MIN_ROWS_TO_BOOST // 4
    if split.train.sum() < MIN_ROWS_PER_COEFFICIENT * (1 + len(window.har_columns)) or split.validate.sum() < least:
        return _Choice()
    line = window.line(split.train)
    if split.train.sum() < MIN_ROWS_TO_BOOST or split.select.sum() < least:
        return _Choice(metrics=(("qlike_har", float(_losses(window, line, split.validate).mean())),))
    train, select = window.residual_rows(line, split.train), window.residual_rows(line, split.select)
    trees = fit_trees(train, seed, stop=select)

    def selection_loss(weight: float) -> float:
        return float(_losses(window, line, split.select, trees, weight, split.train).mean())

    # The smaller weight where two are equally good.
    selected = min(WEIGHTS, key=lambda weight: (selection_loss(weight), weight))
    har_N = _losses(window, line, split.validate)
    full_N = _losses(window, line, split.validate, trees, 1.0, split.train)
    forecast_N = _losses(window, line, split.validate, trees, selected, split.train)
    bar_ts_N = window.bar_ts[split.validate]
    test = diebold_mariano(mean_by_bar(forecast_N, bar_ts_N), mean_by_bar(har_N, bar_ts_N), window.horizon_bars)
    # One standard error (Breiman et al. 1984): a few horizons of validation flatter noise every other time.
    weight = selected if test.t_statistic < -MIN_STANDARD_ERRORS else 0.0
    return _Choice(
        weight=weight,
        n_trees=trees.n_trees if weight > 0.0 else 0,
        metrics=(
            ("qlike_har", float(har_N.mean())),
            ("qlike_lightgbm", float(full_N.mean())),
            ("qlike_forecast", float(forecast_N.mean())),
            ("weight_selected", selected),
            ("diebold_mariano_t", test.t_statistic if selected > 0.0 else math.nan),
            ("validation_rows", float(split.validate.sum())),
        ),
    )


def _losses(
    window: _Window,
    line: Har,
    rows: Mask,
    trees: ResidualTrees | None = None,
    weight: float = 0.0,
    fitted: Mask | None = None,
) -> Float:
    """QLIKE of the line, or of the line corrected by ``weight`` of the trees smeared as on ``fitted``."""
    if trees is None or fitted is None or weight == 0.0:
        return qlike(window.realized[rows], np.exp(window.log_forecast(line, rows)) * line.smearing)
    smearing = window.smearing(line, trees, weight, fitted)
    return qlike(window.realized[rows], window.forecasts(line, trees, weight, rows) * smearing)
