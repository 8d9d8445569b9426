"""Features of our own activity: what one portfolio holds, earned and paid, and how far its limits are, bar by bar."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec

from features.average_cost import PRODUCT_UNITS, AverageCost, units
from features.declared.own_activity import FEATURES
from features.errors import BadInputError
from features.execution import Execution
from features.feature import MINUTE, SECOND
from features.risk_limits import OptionsExposure, RiskLimits, limit_free, loss_usd, net_delta_usd
from features.state import pack, unpack

REMEMBERED_FILLS: Final = 1024
"""Ids that are kept to recognize a repeat; repeats come soon, after a restart."""

NO_OPTIONS: Final = OptionsExposure(delta=0.0, gamma_usd=0.0, vega_usd=0.0, pnl_usd=0.0)

Row = dict[str, Any]


def declaration_hash() -> str:
    """Names the meaning of the numbers: 12 hex digits of what ``features/declared/own_activity.py`` says."""
    declared = msgspec.json.encode([asdict(each) for each in FEATURES])
    return hashlib.sha256(declared).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The settlement price of an instrument at a bar.

    Attributes:
        price: USD per coin: the mid of the bar, never an older one; ``None`` or not positive is unknown.
        ts_known: largest receive time that went into it, ns UTC.
    """

    underlying: str
    instrument: str
    price: float | None
    ts_known: int

    @property
    def units(self) -> int | None:
        """In 1e-9 USD."""
        if self.price is None or not 0.0 < self.price < math.inf:
            return None
        return units(self.price) or None


@dataclass(slots=True)
class _Instrument:
    account: AverageCost = field(default_factory=AverageCost)
    execution: Execution = field(default_factory=Execution)
    orders: dict[str, int] = field(default_factory=dict)  # id -> when it was decided, of the last minute


class OwnActivity:
    """Of one portfolio: fills, orders and marks in the order of the log, a row an instrument at each bar.

    A row holds what was told before its bar was, and is never changed: a fill that comes later is in the next one.

    Args:
        portfolio: its name.
        version: of the rows: names the declarations and the limits.
    """

    def __init__(self, portfolio: str, version: str) -> None:
        self.portfolio = portfolio
        self._version = version
        self._instruments: dict[str, _Instrument] = {}
        self._seen: dict[str, None] = {}
        self._last_bar: int | None = None

    def fill(
        self,
        fill_id: str,
        instrument: str,
        quantity: float,
        price: float,
        fee: float,
        arrival_mid: float | None,
        at_ns: int,
    ) -> bool:
        """Book a trade; whether it was new. One whose id is among the last :data:`REMEMBERED_FILLS` is a repeat.

        Of a quantity that rounds to 0 (below 5e-10 coins) only the fee is booked: it is no trade.

        Args:
            fill_id: of this fill; an order may have several.
            instrument: what was traded.
            quantity: coins, positive bought.
            price: USD per coin.
            fee: USD, positive paid.
            arrival_mid: USD per coin: mid of the bar at which the order was decided; ``None`` or not positive is
                unknown.
            at_ns: when it traded, ns UTC.

        Raises:
            BadInputError: a number is not finite, or the price not positive; then nothing is booked.
        """
        if fill_id in self._seen:
            return False
        amount, at_price, paid = units(quantity), units(price), units(fee)
        if at_price <= 0:
            raise BadInputError(f"Fill {fill_id} has the price {price}.", "A price is positive.")
        self._seen[fill_id] = None
        if len(self._seen) > REMEMBERED_FILLS:
            del self._seen[next(iter(self._seen))]
        mine = self._instruments.setdefault(instrument, _Instrument())
        mine.account.fill(amount, at_price, paid)
        if amount != 0:
            arrival = Mark(underlying="", instrument=instrument, price=arrival_mid, ts_known=0).units
            mine.execution.fill(amount, at_price, arrival, at_ns)
        return True

    def order(self, order_id: str, instrument: str, decided_ns: int) -> None:
        """Count an order of which a first report came; further reports of the same id change nothing."""
        self._instruments.setdefault(instrument, _Instrument()).orders[order_id] = decided_ns

    def bar(
        self, bar_ts: int, marks: Sequence[Mark], options: Mapping[str, OptionsExposure], limits: RiskLimits
    ) -> list[Row]:
        """Close a bar: its rows, one a mark, in their order. A bar that is not beyond the last one gives none.

        Args:
            bar_ts: its end, ns UTC.
            marks: of all instruments that the portfolio may hold.
            options: exposure of the options by underlying; where it is missing there are no options.
            limits: the bounds in force.
        """
        if self._last_bar is not None and bar_ts <= self._last_bar:
            return []
        self._last_bar = bar_ts
        for mark in marks:
            self._instruments.setdefault(mark.instrument, _Instrument())
        since = bar_ts - MINUTE
        for mine in self._instruments.values():
            mine.orders = {order_id: ts for order_id, ts in mine.orders.items() if ts > since}
        shared = self._portfolio_columns(marks, options, limits)
        shared |= {
            "portfolio": self.portfolio,
            "bar_ts": bar_ts,
            "ts_known": max((mark.ts_known for mark in marks), default=bar_ts),
            "version": self._version,
        }
        return [self._row(bar_ts, mark, options, limits) | shared for mark in marks]

    def _portfolio_columns(
        self, marks: Sequence[Mark], options: Mapping[str, OptionsExposure], limits: RiskLimits
    ) -> Row:
        """The limits that count over all instruments, also over those that the portfolio has no mark for any more."""
        prices = {mark.instrument: mark.units for mark in marks}
        gross: int | None = 0
        pnl: int | None = 0
        orders = 0
        for name, mine in self._instruments.items():
            price, account = prices.get(name), mine.account
            total = account.total_units(price)
            known = account.inventory == 0 or price is not None
            gross = gross + abs(account.inventory) * (price or 0) if known and gross is not None else None
            pnl = None if total is None or pnl is None else pnl + total
            orders += len(mine.orders)
        gross_usd = None if gross is None else gross / PRODUCT_UNITS
        return {
            "gross_notional_limit_free": limit_free(gross_usd, limits.max_gross_notional_usd),
            "loss_limit_free": limit_free(loss_usd(pnl, options), limits.max_loss_usd),
            "order_rate_limit_free": limit_free(float(orders), limits.max_orders_per_minute),
        }

    def _row(self, bar_ts: int, mark: Mark, options: Mapping[str, OptionsExposure], limits: RiskLimits) -> Row:
        mine = self._instruments[mark.instrument]
        account, execution = mine.account, mine.execution
        flow, price = execution.close_bar(bar_ts), mark.units
        last_ts, exposure = execution.last_ts, options.get(mark.underlying, NO_OPTIONS)
        known_price = None if price is None else mark.price
        net_delta = net_delta_usd(exposure, account.inventory_coins, known_price)
        return {
            "underlying": mark.underlying,
            "instrument": mark.instrument,
            "inventory": account.inventory_coins,
            "settlement_price": known_price,
            "average_cost": account.average_cost,
            "realized_pnl": account.realized_pnl,
            "unrealized_pnl": account.unrealized_pnl(price),
            "total_pnl": account.total_pnl(price),
            "fees": account.fees_paid,
            "fills": flow.fills,
            "turnover": flow.turnover_usd,
            "turnover_1h": execution.hour.turnover_usd,
            "execution_cost_bps": execution.last.cost_bps,
            "last_fill_age_s": None if last_ts is None else max(0, bar_ts - last_ts) / SECOND,
            "average_execution_cost_bps": execution.total.cost_bps,
            "average_execution_cost_bps_1h": execution.hour.cost_bps,
            "order_rate_1m": len(mine.orders),
            "position_limit_free": limit_free(account.inventory_coins, limits.max_position.get(mark.underlying)),
            "net_delta_limit_free": limit_free(net_delta, limits.max_net_delta_usd),
            "gamma_limit_free": limit_free(exposure.gamma_usd, limits.max_gamma_usd),
            "vega_limit_free": limit_free(exposure.vega_usd, limits.max_vega_usd),
        }

    def snapshot(self) -> bytes:
        """The whole state, bit for bit."""
        instruments = {
            name: {"account": mine.account.saved(), "execution": mine.execution.saved(), "orders": mine.orders}
            for name, mine in self._instruments.items()
        }
        return pack({"instruments": instruments, "seen": list(self._seen), "last_bar": self._last_bar})

    def restore(self, data: bytes) -> None:
        """Continue where :meth:`snapshot` was taken.

        Raises:
            BadInputError: the bytes are no snapshot.
        """
        saved = unpack(data)
        try:
            self._instruments = {
                name: _Instrument(
                    AverageCost.restored(each["account"]), Execution.restored(each["execution"]), each["orders"]
                )
                for name, each in saved["instruments"].items()
            }
            self._seen = dict.fromkeys(saved["seen"])
            self._last_bar = saved["last_bar"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"A snapshot of own activity cannot be read: {error}.", "Delete it; the log gives the state again."
            ) from error
