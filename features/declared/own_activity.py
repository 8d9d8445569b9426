"""What we did ourselves, per portfolio, instrument and bar: position, P&L, execution cost, room in the limits."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from features.feature import ARROW_TYPES, INTEGER, MINUTE, Feature

HOUR: Final = 60 * MINUTE

_PRICE: Final = "USD per coin (quote currency of the instrument)"
_CASH: Final = "USD (settlement currency of the instrument)"
_MARKED: Final = f"{_CASH}, at the mid of the reference instrument"
_ACCOUNT: Final = "features.average_cost.AverageCost"
_ROW: Final = "features.own_activity.OwnActivity"
_FREE: Final = "features.risk_limits.limit_free"
_NO_LIMIT: Final = "no limit is set (or an infinite one), or a limit of 0 is exceeded"

POSITION_FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "inventory", "coins, positive long", "sum of the signed quantities of all fills", "never", ("fill",), _ACCOUNT
    ),
    Feature(
        "settlement_price",
        _PRICE,
        "mid of the reference instrument at the bar: what every marked amount of this row is settled at",
        "the mid is null, not finite or not positive",
        ("signal",),
        _ROW,
    ),
    Feature(
        "average_cost",
        _PRICE,
        "B / inventory with B the cost of the inventory held: a fill q at p that adds moves B by q p, one that reduces "
        "scales B by what is left of the inventory, one that flips leaves the rest at p (weighted average cost)",
        "inventory is 0",
        ("fill",),
        _ACCOUNT,
        "IAS 2 (2003), par. 27",
    ),
    Feature(
        "realized_pnl",
        _CASH,
        "B - sum(q p) over all fills: quantity closed times (price - average_cost), before fees",
        "never",
        ("fill",),
        _ACCOUNT,
        "IAS 2 (2003), par. 27",
    ),
    Feature(
        "unrealized_pnl",
        _MARKED,
        "inventory settlement_price - B = inventory (settlement_price - average_cost)",
        "settlement_price is null and inventory is not 0",
        ("fill", "signal"),
        _ACCOUNT,
    ),
    Feature(
        "total_pnl",
        _MARKED,
        "realized_pnl + unrealized_pnl - fees = inventory settlement_price - sum(q p) - fees",
        "unrealized_pnl is null",
        ("fill", "signal"),
        _ACCOUNT,
    ),
    Feature("fees", _CASH, "sum of the fees of all fills; negative when rebates prevail", "never", ("fill",), _ACCOUNT),
)
"""Since the log's start."""

EXECUTION_FEATURES: Final[tuple[Feature, ...]] = (
    Feature("fills", "1", "number of fills since the bar before", "never", ("fill",), _ROW, "", 0, INTEGER),
    Feature("turnover", _CASH, "sum(|q| p) of the fills since the bar before", "never", ("fill",), _ROW),
    Feature("turnover_1h", _CASH, "sum of turnover over the hour", "never", ("fill",), _ROW, "", HOUR),
    Feature(
        "execution_cost_bps",
        "basis points of the arrival mid, positive paid",
        "1e4 sign(q) (p - m) / m of the last fill, m the mid of the bar at which its order was decided; without fee",
        "no fill yet, or the arrival mid of the last one is unknown",
        ("fill", "signal"),
        _ROW,
        "Perold 1988, The implementation shortfall",
    ),
    Feature("last_fill_age_s", "seconds", "bar end - time of the last fill", "no fill yet", ("fill",), _ROW),
    Feature(
        "average_execution_cost_bps",
        "basis points of the arrival notional, positive paid",
        "1e4 sum(q (p - m)) / sum(|q| m) over all fills with a known arrival mid",
        "no fill with a known arrival mid yet",
        ("fill", "signal"),
        _ROW,
        "Perold 1988, The implementation shortfall",
    ),
    Feature(
        "average_execution_cost_bps_1h",
        "basis points of the arrival notional, positive paid",
        "average_execution_cost_bps over the fills of the hour",
        "no fill with a known arrival mid in the hour",
        ("fill", "signal"),
        _ROW,
        "Perold 1988, The implementation shortfall",
        HOUR,
    ),
    Feature(
        "order_rate_1m",
        "orders per minute",
        "orders decided in the minute up to the bar that a fill or a cancel has reported; those of this bar's decision "
        "are not among them",
        "never",
        ("fill", "cancel"),
        _ROW,
        "",
        MINUTE,
        INTEGER,
    ),
)
"""Of this instrument."""


def _free(name: str, formula: str, unknown: str, *inputs: str, window_ns: int = 0) -> Feature:
    null_when = f"{_NO_LIMIT}{', or ' if unknown else ''}{unknown}"
    return Feature(f"{name}_limit_free", "fraction of the limit", formula, null_when, inputs, _FREE, "", window_ns)


LIMIT_FEATURES: Final[tuple[Feature, ...]] = (
    _free("position", "1 - |inventory| / max_position", "", "fill"),
    _free(
        "gross_notional",
        "1 - sum over the portfolio's instruments of |inventory| settlement_price / max_gross_notional_usd",
        "the settlement price of an instrument that is held is null",
        "fill",
        "signal",
    ),
    _free(
        "net_delta",
        "1 - |options' delta + inventory| settlement_price / max_net_delta_usd, delta of Black-76 at atm_iv_30d, coins",
        "settlement_price or atm_iv_30d is null",
        "fill",
        "signal",
    ),
    _free(
        "gamma",
        "1 - |change of the options' USD delta when the underlying moves by 1 %| / max_gamma_usd",
        "settlement_price or atm_iv_30d is null",
        "signal",
    ),
    _free(
        "vega",
        "1 - |change of the options' value when the volatility moves by 0.01| / max_vega_usd",
        "settlement_price or atm_iv_30d is null",
        "signal",
    ),
    _free(
        "loss",
        "1 - max(0, -P) / max_loss_usd, P total_pnl of all instruments plus the options' change since their first mark",
        "P is: a settlement_price or atm_iv_30d of the portfolio is null, or the options were never marked",
        "fill",
        "signal",
    ),
    _free(
        "order_rate",
        "1 - sum of order_rate_1m over the portfolio's instruments / max_orders_per_minute",
        "",
        "fill",
        "cancel",
        window_ns=MINUTE,
    ),
)
"""What is still free of a risk limit: 1 unused, 0 reached, negative exceeded; a limit of 0 that is kept has nothing
free. Gross notional, loss and order rate are the whole portfolio's."""

FEATURES: Final[tuple[Feature, ...]] = (*POSITION_FEATURES, *EXECUTION_FEATURES, *LIMIT_FEATURES)

KEYS: Final = (
    pa.field("portfolio", pa.utf8(), nullable=False),
    pa.field("underlying", pa.utf8(), nullable=False),
    pa.field("instrument", pa.utf8(), nullable=False),
    pa.field("bar_ts", pa.int64(), nullable=False),
    pa.field("ts_known", pa.int64(), nullable=False),
    pa.field("version", pa.utf8(), nullable=False),  # these declarations and the limits
)

SCHEMA: Final = pa.schema([*KEYS, *(pa.field(each.name, ARROW_TYPES[each.dtype]) for each in FEATURES)])
"""Of the ``own.activity`` topic and the ``own_activity`` table."""
