"""What the models say of an underlying at a bar: the row that the hedger reads.

The schema stands here because a policy receives posteriors and forecasts as columns (DESIGN 1): ``hedger`` knows
neither ``regimes`` nor ``forecasting``, and ``pipeline`` fills these columns with both.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

REGIMES: Final = ("calm", "stressed", "illiquid")
"""The states in order of their volatility; ``posterior_0`` is the calmest."""

SCHEMA: Final = pa.schema(
    [
        pa.field("underlying", pa.utf8(), nullable=False),
        pa.field("instrument", pa.utf8(), nullable=False),
        pa.field("bar_ts", pa.int64(), nullable=False),
        pa.field("ts_known", pa.int64(), nullable=False),
        pa.field("version", pa.utf8(), nullable=False),  # catalogue and models
        pa.field("book_valid", pa.bool_(), nullable=False),
        # The market that a decision at this bar meets; null when unknown.
        pa.field("best_bid", pa.float64()),
        pa.field("best_ask", pa.float64()),
        pa.field("mid", pa.float64()),
        pa.field("bid_depth_10bps", pa.float64()),
        pa.field("ask_depth_10bps", pa.float64()),
        pa.field("atm_iv_30d", pa.float64()),
        pa.field("surface_age_s", pa.float64()),
        pa.field("realized_variance_1m", pa.float64()),
        # Regime: the filtered probability of each state given the rows up to this bar, never later ones.
        pa.field("posterior_0", pa.float64()),
        pa.field("posterior_1", pa.float64()),
        pa.field("posterior_2", pa.float64()),
        pa.field("regime", pa.int64()),
        pa.field("kmeans_regime", pa.int64()),
        # Realized variance over the next hedging interval (not annualized), and the linear forecast that it corrects.
        pa.field("forecast_variance", pa.float64()),
        pa.field("har_variance", pa.float64()),
        pa.field("forecast_horizon_s", pa.float64()),
    ]
)
"""Of the ``signals`` topic and table: one row an underlying and bar."""
