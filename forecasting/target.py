"""What is forecast: the realized variance of the next bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.errors import ConfigError
from features.kernel import kernel
from features.rows import raw_rows

if TYPE_CHECKING:
    import polars as pl

Float = NDArray[np.float64]
Integer = NDArray[np.int64]


def realized_variance_ahead(frame: pl.DataFrame, horizon_bars: int) -> Float:
    """``y_N``: the sum of squared ``log_return`` over (t, t + H bars] of the row's own underlying.

    Neighbouring targets share H - 1 of their H returns: errors of consecutive forecasts are correlated up to lag
    H - 1, and a row may train a model only if it ends before the first row that tests it (``forecasting/split.py``).

    Args:
        frame: universe rows with ``underlying``, ``bar_ts`` and ``log_return``, in any order.
        horizon_bars: H.

    Returns:
        One value a row of the frame; NaN where a return is null, a bar is missing, or the frame ends first.
    """
    if horizon_bars < 1:
        raise ConfigError(f"A horizon of {horizon_bars} bars.", "Forecast at least one bar ahead.")
    y_N = np.full(frame.height, np.nan)
    bar_ts_N, return_N = frame["bar_ts"].to_numpy(), raw_rows(frame, ("log_return",))[:, 0]
    interval_ns = bar_interval_ns(frame)
    names = frame["underlying"].to_numpy()
    for underlying in frame["underlying"].unique().sort():
        own = np.flatnonzero(names == underlying)
        own = own[np.argsort(bar_ts_N[own], kind="stable")]
        y_N[own] = _sum_of_squares_ahead(return_N[own], bar_ts_N[own], horizon_bars, interval_ns)
    return y_N


def bar_interval_ns(frame: pl.DataFrame) -> int:
    """The shortest time between two bars of the frame; 0 where it holds only one."""
    bar_ts_N = np.unique(frame["bar_ts"].to_numpy())
    return int(np.diff(bar_ts_N).min()) if len(bar_ts_N) > 1 else 0


@kernel
def _sum_of_squares_ahead(return_T: Any, bar_ts_T: Any, horizon: int, interval_ns: int) -> Any:
    t_rows = len(return_T)
    out = np.full(t_rows, math.nan)
    for t in range(t_rows - horizon):
        if bar_ts_T[t + horizon] - bar_ts_T[t] == horizon * interval_ns:
            total = 0.0
            for ahead in range(1, horizon + 1):
                total += return_T[t + ahead] * return_T[t + ahead]
            out[t] = total
    return out
