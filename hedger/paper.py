"""A gateway without a venue: approved orders trade in full at the next bar's market of their instrument."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from features.errors import BadInputError, ConfigError
from hedger.inputs import CancelInput, FillInput, SignalInput
from hedger.ladder import market_problem, positive
from hedger.limits import ApprovedOrder

DEPTH_BPS: Final = 10.0
"""Distance from the mid within which ``bid_depth_10bps`` and ``ask_depth_10bps`` count."""
REMEMBERED_ORDERS: Final = 4096
"""Ids of finished orders that are kept to recognize one that is sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperConfig:
    """Attributes:
    taker_fee_bps: of the notional.
    """

    taker_fee_bps: float = 5.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.taker_fee_bps < math.inf:
            raise ConfigError(f"taker_fee_bps is {self.taker_fee_bps}.", "It is at least 0: makers' rebates are none.")


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a gateway knows of some orders: ``outstanding`` will still trade, ``finished`` will not any more, and
    ``unknown`` never came: only those may be sent again.
    """

    outstanding: tuple[str, ...]
    finished: tuple[str, ...]
    unknown: tuple[str, ...]


class _State(msgspec.Struct):
    orders: dict[str, ApprovedOrder] = {}
    finished: dict[str, None] = {}
    bar_ts: dict[str, int] = {}  # last one of each instrument


class PaperGateway:
    """Fills are a function of the orders and of the signals rows that follow them.

    An order that was decided at one bar trades at the next row of its instrument with a valid book, at ::

        touch (1 +- impact_bps / 1e4),    impact_bps = 10 |quantity| / (2 depth)

    with the depth of the side it takes within 10 bps of the mid: what a book that is evenly deep costs on average.
    Where that is worse than the limit price, the order is cancelled. Invalid books leave it outstanding.

    Args:
        config: its fees.
    """

    def __init__(self, config: PaperConfig | None = None) -> None:
        self._config = config or PaperConfig()
        self._state = _State()

    def submit(self, orders: Iterable[ApprovedOrder]) -> None:
        """Take orders; one that it knows already is not taken twice.

        Raises:
            TypeError: something else than an :class:`ApprovedOrder`; then none is taken.
        """
        taken = list(orders)
        for order in taken:
            if type(order) is not ApprovedOrder:
                raise TypeError(f"A gateway takes an ApprovedOrder, not {type(order).__name__}.")
        for order in taken:
            if order.order_id not in self._state.finished:
                self._state.orders.setdefault(order.order_id, order)

    def on_market(self, signal: SignalInput) -> list[FillInput | CancelInput]:
        """Fill what was decided before this bar; a row not beyond the instrument's last one is a repeat."""
        state = self._state
        if signal.bar_ts <= state.bar_ts.get(signal.instrument, -1):
            return []
        state.bar_ts[signal.instrument] = signal.bar_ts
        if market_problem(signal, ()) is not None:
            return []
        due = [o for o in state.orders.values() if o.instrument == signal.instrument and o.bar_ts < signal.bar_ts]
        return [report for order in due if (report := self._execute(order, signal)) is not None]

    def cancel(self, order_ids: Iterable[str], bar_ts: int, reason: str) -> list[CancelInput]:
        """Cancel those of the orders that are outstanding."""
        mine = [order_id for order_id in order_ids if order_id in self._state.orders]
        return [self._cancelled(order_id, bar_ts, reason) for order_id in mine]

    def reconcile(self, order_ids: Iterable[str]) -> Reconciliation:
        """What became of these orders: asked after a restart, before anything is sent again."""
        ids, state = tuple(order_ids), self._state
        return Reconciliation(
            outstanding=tuple(i for i in ids if i in state.orders),
            finished=tuple(i for i in ids if i in state.finished),
            unknown=tuple(i for i in ids if i not in state.orders and i not in state.finished),
        )

    def snapshot(self) -> bytes:
        """The whole state, bit for bit."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, data: bytes) -> None:
        """Continue where :meth:`snapshot` was taken.

        Raises:
            BadInputError: the bytes are no snapshot.
        """
        try:
            self._state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.DecodeError as error:
            raise BadInputError(f"A gateway's snapshot cannot be read: {error}.", "Reconcile from the log.") from error

    def _execute(self, order: ApprovedOrder, signal: SignalInput) -> FillInput | CancelInput | None:
        price = taker_price(order.quantity, signal)
        if price is None:
            return None
        if (price - order.limit_price) * order.quantity > 0.0:
            reason = f"{price:.10g} is worse than the limit price {order.limit_price:.10g}"
            return self._cancelled(order.order_id, signal.bar_ts, reason)
        self._finish(order.order_id)
        return FillInput(
            input_id=f"fill:{order.order_id}",
            order_id=order.order_id,
            decision_id=order.decision_id,
            underlying=order.underlying,
            instrument=order.instrument,
            quantity=order.quantity,
            price=price,
            fee_usd=abs(order.quantity) * price * self._config.taker_fee_bps * 1e-4,
            bar_ts=signal.bar_ts,
        )

    def _cancelled(self, order_id: str, bar_ts: int, reason: str) -> CancelInput:
        self._finish(order_id)
        return CancelInput(input_id=f"cancel:{order_id}", order_id=order_id, bar_ts=bar_ts, reason=reason)

    def _finish(self, order_id: str) -> None:
        state = self._state
        del state.orders[order_id]
        state.finished[order_id] = None
        if len(state.finished) > REMEMBERED_ORDERS:
            del state.finished[next(iter(state.finished))]


def taker_price(quantity: float, signal: SignalInput) -> float | None:
    """Average price of taking ``quantity`` coins, in USD; ``None`` while touch or depth of that side is unknown."""
    touch = signal.best_ask if quantity > 0.0 else signal.best_bid
    depth = signal.ask_depth_10bps if quantity > 0.0 else signal.bid_depth_10bps
    if not (positive(touch) and positive(depth)):
        return None
    impact = DEPTH_BPS * 1e-4 * abs(quantity) / (2.0 * depth)
    return touch * (1.0 + math.copysign(impact, quantity))
