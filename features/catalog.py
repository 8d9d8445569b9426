"""Every feature, declared once: its name, unit, window, formula and when it is null.

The catalogue's hash names the meaning of the numbers. It is the ``version`` of every feature row and part of every
model artifact: a model refuses features that were computed from another catalogue.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Final

import msgspec
import pyarrow as pa

FLOAT: Final = "float64"
INTEGER: Final = "int64"


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the feature rows."""

    name: str
    unit: str
    formula: str
    null_when: str
    inputs: str
    window_ns: int = 0
    dtype: str = FLOAT


_BOOK_NULL: Final = "book invalid, one-sided or crossed"
_SECOND: Final = 1_000_000_000

INSTRUMENT_FEATURES: Final[tuple[Feature, ...]] = (
    Feature("best_bid", "quote currency", "highest bid price", _BOOK_NULL, "book"),
    Feature("best_ask", "quote currency", "lowest ask price", _BOOK_NULL, "book"),
    Feature("mid", "quote currency", "(best_bid + best_ask) / 2", _BOOK_NULL, "book"),
    Feature("spread_bps", "basis points of mid", "1e4 (best_ask - best_bid) / mid", _BOOK_NULL, "book"),
    Feature(
        "microprice",
        "quote currency",
        "(best_bid q_ask + best_ask q_bid) / (q_bid + q_ask) (Gatheral and Oomen 2010)",
        _BOOK_NULL,
        "book",
    ),
    Feature("imbalance_1", "1", "(B - A) / (B + A), sizes of the best level", _BOOK_NULL, "book"),
    Feature("imbalance_5", "1", "(B - A) / (B + A), sizes of the best 5 levels", _BOOK_NULL, "book"),
    Feature("imbalance_10", "1", "(B - A) / (B + A), sizes of the best 10 levels", _BOOK_NULL, "book"),
    Feature("bid_depth_10bps", "contracts", "sum of bid sizes at or above mid (1 - 1e-3)", _BOOK_NULL, "book"),
    Feature("ask_depth_10bps", "contracts", "sum of ask sizes at or below mid (1 + 1e-3)", _BOOK_NULL, "book"),
    Feature(
        "order_flow_imbalance",
        "contracts",
        "sum over book events of 1{P_b >= P_b'} q_b - 1{P_b <= P_b'} q_b' - 1{P_a <= P_a'} q_a + 1{P_a >= P_a'} q_a' "
        "(Cont, Kukanov and Stoikov 2014, eq. 2)",
        "the book was invalid, one-sided or crossed at any time in the bar",
        "book",
        _SECOND,
    ),
    Feature("vwap", "quote currency", "sum(price size) / sum(size)", "no trade, or a trade was lost", "trade", _SECOND),
    Feature("volume", "contracts", "sum(size)", "a trade was lost", "trade", _SECOND),
    Feature("trade_count", "1", "number of trades", "a trade was lost", "trade", _SECOND, INTEGER),
    Feature("signed_volume", "contracts", "sum(aggressor size)", "a trade was lost", "trade", _SECOND),
    Feature("log_return", "1", "log(mid / mid of the bar before)", "either mid is null", "book", _SECOND),
    Feature("realized_variance_10s", "1", "sum of squared log returns", "any return is null", "book", 10 * _SECOND),
    Feature("realized_variance_1m", "1", "sum of squared log returns", "any return is null", "book", 60 * _SECOND),
    Feature("realized_variance_5m", "1", "sum of squared log returns", "any return is null", "book", 300 * _SECOND),
)
"""Of one instrument, from its book and trades."""

UNDERLYING_FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "atm_iv_30d",
        "1 / sqrt(year)",
        "at-the-forward implied volatility at 30 days, interpolated in total variance",
        "no expiry has usable quotes on both sides of the forward, or one at it",
        "option_quote",
    ),
    Feature(
        "risk_reversal_25d",
        "1 / sqrt(year)",
        "iv(25-delta call) - iv(25-delta put) of the expiry nearest to 30 days",
        "the strikes do not reach 25 delta",
        "option_quote",
    ),
    Feature(
        "term_slope",
        "1 / sqrt(year)",
        "atm iv at 90 days - atm iv at 7 days, interpolated in total variance",
        "fewer than two usable expiries",
        "option_quote",
    ),
    Feature(
        "variance_risk_premium",
        "1 / year",
        "atm_iv_30d^2 - realized_variance_5m of the instrument, annualized",
        "either is null",
        "option_quote, book",
        300 * _SECOND,
    ),
    Feature("surface_age_s", "seconds", "bar end - ts_event of the last option quote", "no quote yet", "option_quote"),
    Feature("funding_rate", "fraction of notional per 8 hours", "last published rate", "none yet", "funding"),
    Feature("funding_age_s", "seconds", "bar end - ts_event of the last funding row", "none yet", "funding"),
)
"""Of an underlying; they never hold a bar back, so they carry their age."""

UNIVERSE_FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "peer_return", "1", "mean of the other underlyings' log_return", "any of them is null", "features", _SECOND
    ),
    Feature(
        "peer_realized_variance_1m",
        "1",
        "mean of the other underlyings' realized_variance_1m",
        "any of them is null",
        "features",
        60 * _SECOND,
    ),
    Feature(
        "correlation_1m",
        "1",
        "Pearson correlation of log_return with peer_return over 60 bars",
        "any of the returns is null or either side does not move",
        "features",
        60 * _SECOND,
    ),
)
"""Across underlyings, of the reference instruments."""

KEYS: Final = (
    pa.field("underlying", pa.utf8(), nullable=False),
    pa.field("instrument", pa.utf8(), nullable=False),
    pa.field("bar_ts", pa.int64(), nullable=False),  # end of the bar (t - interval, t]
    pa.field("ts_known", pa.int64(), nullable=False),
    pa.field("version", pa.utf8(), nullable=False),
)
"""``ts_known`` is the largest ``ts_recv`` that went into the row, the row that closed the bar among them."""

QUALITY: Final = (
    pa.field("book_valid", pa.bool_(), nullable=False),
    pa.field("late_rows", pa.int64(), nullable=False),
    pa.field("lost_rows", pa.int64(), nullable=False),
)
"""``late_rows``: trades of a bar that had closed already. ``lost_rows``: sequence numbers that never came."""

FEATURES: Final = INSTRUMENT_FEATURES + UNDERLYING_FEATURES

ARROW_TYPES: Final = {FLOAT: pa.float64(), INTEGER: pa.int64()}


def _columns(features: tuple[Feature, ...]) -> list[pa.Field]:
    return [pa.field(feature.name, ARROW_TYPES[feature.dtype]) for feature in features]


SCHEMA: Final = pa.schema([*KEYS, *QUALITY, *_columns(FEATURES)])
"""Of the ``features`` topic and table: one row an instrument and bar."""

UNIVERSE_SCHEMA: Final = pa.schema([*SCHEMA, *_columns(UNIVERSE_FEATURES)])
"""Of the ``universe`` topic and table: the row of an underlying's reference instrument, seen beside its peers."""


def catalogue_hash() -> str:
    """The first 12 hex digits of the SHA-256 of all declarations: the version of the features."""
    declared = msgspec.json.encode([asdict(feature) for feature in FEATURES + UNIVERSE_FEATURES], order="sorted")
    return hashlib.sha256(declared).hexdigest()[:12]
