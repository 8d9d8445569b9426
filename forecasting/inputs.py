"""What the forecast reads of a universe row, and how: one declaration a column."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import ConfigError
from features.kernel import kernel

Float = NDArray[np.float64]

VARIANCE_FLOOR_PER_S: Final = 1e-10
"""Variance per second, a volatility of 5.6 % a year: below it the tick grid rather than the market makes the number."""

LOG: Final = "log"
ABSOLUTE: Final = "absolute"
PLAIN: Final = "plain"
_CODES: Final = {LOG: 0, ABSOLUTE: 1, PLAIN: 2}


@dataclass(frozen=True, slots=True)
class Input:
    """``log max(x, floor)``, ``|x|`` or ``x`` of one column."""

    column: str
    transform: str = PLAIN
    floor: float = 0.0


RESIDUAL_INPUTS: Final = (
    Input("realized_variance_10s", LOG, 10 * VARIANCE_FLOOR_PER_S),
    Input("realized_variance_1m", LOG, 60 * VARIANCE_FLOOR_PER_S),
    Input("realized_variance_5m", LOG, 300 * VARIANCE_FLOOR_PER_S),
    Input("peer_realized_variance_1m", LOG, 60 * VARIANCE_FLOOR_PER_S),
    Input("spread_bps", LOG, 1e-3),
    Input("bid_depth_10bps", LOG, 1e-3),
    Input("ask_depth_10bps", LOG, 1e-3),
    Input("imbalance_1", ABSOLUTE),
    Input("imbalance_5", ABSOLUTE),
    Input("order_flow_imbalance", ABSOLUTE),
    Input("log_return", ABSOLUTE),
    Input("volume", LOG, 1e-3),
    Input("trade_count", PLAIN),
    Input("signed_volume", ABSOLUTE),
    Input("atm_iv_30d", LOG, 1e-3),
    Input("correlation_1m", PLAIN),
)
"""Direction goes in as a size: variance has no sign, and a few hundred rows would teach a drift as a law."""


def residual_inputs(further: tuple[str, ...] = ()) -> tuple[Input, ...]:
    """``RESIDUAL_INPUTS``, then ``further`` columns as they are: a user's own features, for example."""
    here = {each.column for each in RESIDUAL_INPUTS}
    return (*RESIDUAL_INPUTS, *(Input(column) for column in dict.fromkeys(further) if column not in here))


HAR_FLOORS: Final = {i.column: i.floor for i in RESIDUAL_INPUTS if "realized_variance" in i.column}


def har_floors(columns: tuple[str, ...]) -> Float:
    """The floors of realized-variance columns.

    Raises:
        ConfigError: none, a repeated, or another column.
    """
    wrong = [column for column in columns if column not in HAR_FLOORS]
    if wrong or not columns or len(set(columns)) != len(columns):
        raise ConfigError(f"HAR columns {list(columns)}.", f"Name some of {sorted(HAR_FLOORS)}, each once.")
    return np.array([HAR_FLOORS[column] for column in columns])


def transform(raw_NC: Float, inputs: tuple[Input, ...]) -> Float:
    """``x_NC`` of raw columns in the order of ``inputs``, row by row; NaN stays NaN."""
    codes = np.array([_CODES[each.transform] for each in inputs])
    floors = np.array([each.floor for each in inputs])
    x_NC: Float = _transform(np.ascontiguousarray(raw_NC, dtype=float), codes, floors)
    return x_NC


@kernel
def _transform(raw_NC: Any, code_C: Any, floor_C: Any) -> Any:
    out = np.empty(raw_NC.shape)
    for i in range(raw_NC.shape[0]):
        for c in range(raw_NC.shape[1]):
            x = raw_NC[i, c]
            if code_C[c] == 0:
                out[i, c] = math.log(floor_C[c] if x < floor_C[c] else x)
            elif code_C[c] == 1:
                out[i, c] = abs(x)
            else:
                out[i, c] = x
    return out
