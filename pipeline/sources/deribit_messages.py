"""Deribit's JSON-RPC messages, typed. Numbers are decimals: exact, whatever they were printed as.

A line is a notification (``method`` = ``subscription`` or ``heartbeat``) or the response to a request (``id``).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw

NOTHING: Final = Raw()
MISSING: Final = -1

Id = Annotated[int, Meta(ge=0, le=2**62)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**62 // 1_000_000)]
Microseconds = Annotated[int, Meta(ge=0, le=2**62 // 1_000)]


class Params(msgspec.Struct, gc=False):
    """Of a notification: a channel with its data, or the type of a heartbeat (``heartbeat``, ``test_request``)."""

    channel: str = ""
    data: Raw = NOTHING
    type: str = ""


class Refusal(msgspec.Struct, gc=False):
    """Why the venue refused a request."""

    code: int = 0
    message: str = ""


class Envelope(msgspec.Struct, gc=False):
    """Any message."""

    id: int | str | None = None
    method: str = ""
    params: Params | None = None
    result: Raw = NOTHING
    error: Refusal | None = None
    usOut: Microseconds = 0  # when the response left the venue, by its clock


class Level(msgspec.Struct, array_like=True, gc=False):
    """``["new", price, amount]``."""

    action: Literal["new", "change", "delete"]
    price: Decimal
    amount: Decimal


class Book(msgspec.Struct, gc=False):
    """``book.INSTRUMENT.raw`` or ``.100ms``; the first message of a subscription is the snapshot."""

    instrument_name: str
    timestamp: Milliseconds
    change_id: Id
    bids: list[Level]
    asks: list[Level]
    type: Literal["snapshot", "change", ""] = ""
    prev_change_id: Id = MISSING

    @property
    def is_snapshot(self) -> bool:
        """Told by its type; by the missing link to a message before it where there is none."""
        return self.type == "snapshot" or (self.type == "" and self.prev_change_id == MISSING)


class Trade(msgspec.Struct, gc=False):
    """One of ``trades.INSTRUMENT.raw`` or ``trades.KIND.CURRENCY.raw``."""

    instrument_name: str
    timestamp: Milliseconds
    trade_id: str
    price: Decimal
    amount: Decimal
    direction: Literal["buy", "sell"]
    trade_seq: Id = MISSING
    block_trade_id: str | None = None


class Stats(msgspec.Struct, gc=False):
    """Of the last 24 hours."""

    volume: Decimal | None = None


class Ticker(msgspec.Struct, gc=False):
    """``ticker.INSTRUMENT.raw`` or ``.100ms``; what a kind of instrument lacks is None."""

    instrument_name: str
    timestamp: Milliseconds
    stats: Stats | None = None
    best_bid_price: Decimal | None = None
    best_ask_price: Decimal | None = None
    mark_price: Decimal | None = None
    index_price: Decimal | None = None
    underlying_price: Decimal | None = None
    open_interest: Decimal | None = None
    funding_8h: Decimal | None = None


class TickStep(msgspec.Struct, gc=False):
    """The tick above a price."""

    tick_size: Decimal


class Listing(msgspec.Struct, gc=False):
    """One instrument of ``public/get_instruments``."""

    instrument_name: str
    kind: str
    base_currency: str
    quote_currency: str
    tick_size: Decimal
    min_trade_amount: Decimal
    contract_size: Decimal | None = None
    settlement_currency: str = ""
    settlement_period: str = ""
    expiration_timestamp: int = 0
    strike: Decimal | None = None
    option_type: str | None = None
    tick_size_steps: list[TickStep] = []


ENVELOPE: Final = msgspec.json.Decoder(Envelope)
BOOK: Final = msgspec.json.Decoder(Book)
TRADES: Final = msgspec.json.Decoder(list[Trade])
TICKER: Final = msgspec.json.Decoder(Ticker)
RESULTS: Final = msgspec.json.Decoder(list[Raw])
LISTING: Final = msgspec.json.Decoder(Listing)
