"""All that a decider remembers: plain values, so that a snapshot restores the same bits."""

from __future__ import annotations

from typing import Final

import msgspec

from features.errors import BadInputError
from hedger.inputs import FillInput, SignalInput
from hedger.ledger import Ledger
from hedger.portfolio import Portfolio

MAX_NOTICES: Final = 16

DUST: Final = 1e-9
"""Coins; what is left of an order after partial fills and is smaller is a rounding error."""


class OutstandingOrder(msgspec.Struct):
    """An approved order that has neither traded fully nor been cancelled; ``quantity`` is what is left, coins."""

    underlying: str
    quantity: float


class DeciderState(msgspec.Struct, kw_only=True):
    """Attributes:
    portfolio: in force.
    ledgers: by underlying; of one that left the portfolio, its realized P&L.
    outstanding: by order id.
    pending: signals of bars that are not complete, by bar and underlying.
    last_bar_ts: last complete bar; ``decided_ts`` the last decision's ``bar_ts``, or the same.
    timer_ts: latest timer tick.
    active_from_bar_ts: first bar to decide.
    models: ``(first bar, version)`` of announced policies, in order.
    kill, flatten: why, while in force.
    stale_decided: the stale data have led to a decision already.
    order_ts: ``bar_ts`` of each order of the last minute.
    recent: ids of the latest inputs other than signals and ticks, oldest first.
    digest: chained over all inputs that were applied.
    """

    portfolio: Portfolio
    ledgers: dict[str, Ledger]
    outstanding: dict[str, OutstandingOrder] = {}
    pending: dict[int, dict[str, SignalInput]] = {}
    last_bar_ts: int | None = None
    decided_ts: int | None = None
    timer_ts: int | None = None
    active_from_bar_ts: int | None = None
    models: list[tuple[int, str | None]] = []
    kill: str | None = None
    flatten: str | None = None
    stale_decided: bool = False
    order_ts: list[int] = []
    recent: dict[str, None] = {}
    notices: list[str] = []
    counts: dict[str, int] = {}
    digest: str = ""

    def count(self, name: str, number: int = 1) -> None:
        """Count what happened, under a name."""
        if number:
            self.counts[name] = self.counts.get(name, 0) + number

    def notice(self, text: str) -> None:
        """Have the next decision mention it."""
        if len(self.notices) < MAX_NOTICES:
            self.notices.append(text)
        else:
            self.count("notices_left_out")

    def book(self, fill: FillInput) -> None:
        """A trade happened, whether its order was known or not."""
        order = self.outstanding.get(fill.order_id)
        if order is None:
            self.count("fills_of_unknown_orders")
            self.notice(f"fill {fill.input_id} is of an order that was not outstanding")
        else:
            order.quantity -= fill.quantity
            if abs(order.quantity) < DUST or order.quantity * fill.quantity < 0.0:
                del self.outstanding[fill.order_id]
        self.ledgers[fill.underlying].fill(fill.quantity, fill.price, fill.fee_usd)

    def exchange(self, new: Portfolio) -> None:
        """Hold ``new`` instead, exchanged at the last known marks."""
        old, self.portfolio = self.portfolio, new
        self.ledgers |= {underlying: Ledger() for underlying in new.underlyings if underlying not in self.ledgers}
        for underlying, ledger in self.ledgers.items():
            ledger.exchange(old.options_on(underlying), new.options_on(underlying), self.last_bar_ts or 0)

    def outstanding_of(self, underlying: str) -> tuple[float, float]:
        """Sum of the outstanding buys, and of the sells (at most 0), coins."""
        buys = sells = 0.0
        for order in self.outstanding.values():
            if order.underlying == underlying:
                buys += max(order.quantity, 0.0)
                sells += min(order.quantity, 0.0)
        return buys, sells

    def pnl_usd(self) -> float | None:
        """Since the first marks, at the last known ones; options that were never marked count as unchanged."""
        total, known = 0.0, False
        for underlying, ledger in self.ledgers.items():
            hedge = ledger.hedge_pnl_usd()
            if hedge is not None and self.last_bar_ts is not None:
                options = self.portfolio.options_on(underlying)
                total += hedge + (ledger.options_pnl_usd(options, self.last_bar_ts) or 0.0)
                known = True
        return total if known else None


def encode_state(state: DeciderState) -> bytes:
    """As MessagePack: floats keep their bits."""
    return msgspec.msgpack.encode(state)


def decode_state(data: bytes) -> DeciderState:
    """The inverse of :func:`encode_state`.

    Raises:
        BadInputError: the bytes are no such state.
    """
    try:
        return msgspec.msgpack.decode(data, type=DeciderState)
    except msgspec.DecodeError as error:
        raise BadInputError(
            f"A decider's snapshot cannot be read: {error}.", "Delete it; the log of inputs gives the state again."
        ) from error
