"""One Deribit message becomes columns of the log: levels of a book, trades, option quotes, funding."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import numpy as np

from features.book_side import MAX_LEVELS
from pipeline.sources.base import UnusableError
from pipeline.sources.deribit_instruments import NANOS_PER_MILLI, DeribitInstrument, e9
from pipeline.sources.deribit_messages import MISSING, Book, Level, Ticker, Trade
from pipeline.sources.venue_book import BookEvent

Array = np.ndarray[Any, Any]

_AGGRESSOR: Final = {"buy": 1, "sell": -1}


def book_event(instrument: DeribitInstrument, book: Book, ts_event: int, ts_recv: int) -> BookEvent:
    """A snapshot, or a change that follows the message with ``prev_change_id``.

    Of a snapshot, as many levels a side as a reader's book holds.

    Raises:
        UnusableError: a link is missing or runs backwards, a price is not positive, or a number is no whole number of
            increments. The message goes as a whole, so the chain of ids breaks and the book waits for a snapshot.
    """
    sides = _levels(instrument, book.bids), _levels(instrument, book.asks)
    if book.is_snapshot:
        bids, asks = (_best(side, sign) for side, sign in zip(sides, (1, -1), strict=True))
        return BookEvent(ts_event, ts_recv, book.change_id, book.change_id, bids, asks, True)
    if book.prev_change_id == MISSING:
        raise UnusableError("missing_field", "a change needs prev_change_id")
    if book.prev_change_id >= book.change_id:
        raise UnusableError("bad_ids", f"a change from {book.prev_change_id} to {book.change_id}")
    return BookEvent(ts_event, ts_recv, book.prev_change_id, book.change_id, *sides, False)


def trade_row(instrument: DeribitInstrument, trade: Trade) -> dict[str, Any]:
    """A trade; its id is the venue's number of it within the instrument, else the digits of its name.

    Raises:
        UnusableError: price or size is not positive or no whole number of increments, or it has no number.
    """
    price, size = instrument.price(trade.price), instrument.size(trade.amount)
    if price <= 0 or size <= 0:
        raise UnusableError("bad_trade", "price and size must be positive")
    return {
        "instrument": instrument.name,
        "ts_event": trade.timestamp * NANOS_PER_MILLI,
        "trade_id": _trade_id(trade),
        "price": price,
        "size": size,
        "aggressor": _AGGRESSOR[trade.direction],
    }


def option_quote_row(instrument: DeribitInstrument, ticker: Ticker) -> dict[str, Any]:
    """An option's best prices (null where a side is empty: Deribit prints 0), mark, forward, interest and volume.

    Raises:
        UnusableError: a price is negative or no whole number of ticks.
    """
    return {
        "instrument": instrument.name,
        "ts_event": ticker.timestamp * NANOS_PER_MILLI,
        "expiry_ns": instrument.expiry_ns,
        "strike_e9": instrument.strike_e9,
        "is_call": instrument.is_call,
        "bid": _best_price(instrument, ticker.best_bid_price),
        "ask": _best_price(instrument, ticker.best_ask_price),
        "mark_e9": _e9(ticker.mark_price),
        "forward_e9": _e9(ticker.underlying_price),
        "open_interest_e9": _e9(ticker.open_interest),
        "volume_e9": _e9(ticker.stats.volume if ticker.stats else None),
    }


def funding_row(instrument: DeribitInstrument, ticker: Ticker) -> dict[str, Any]:
    """A perpetual's funding over the last 8 hours; a dated future pays none, so its rate is 0.

    Raises:
        UnusableError: a perpetual without ``funding_8h``, or a number beyond int64.
    """
    if ticker.funding_8h is None and instrument.instrument_type == "perpetual":
        raise UnusableError("missing_field", "a perpetual's ticker needs funding_8h")
    return {
        "instrument": instrument.name,
        "ts_event": ticker.timestamp * NANOS_PER_MILLI,
        "rate_e9": e9(ticker.funding_8h or Decimal(0)),
        "index_e9": _e9(ticker.index_price),
        "mark_e9": _e9(ticker.mark_price),
        "open_interest_e9": _e9(ticker.open_interest),
    }


def _levels(instrument: DeribitInstrument, levels: list[Level]) -> Array:
    counts = np.empty((len(levels), 2), dtype=np.int64)
    for i, (action, price, amount) in enumerate((level.action, level.price, level.amount) for level in levels):
        counts[i] = instrument.price(price), 0 if action == "delete" else instrument.size(amount)
        if counts[i, 0] <= 0 or counts[i, 1] < 0:
            raise UnusableError("bad_level", f"{action} {price} {amount}")
    return counts


def _best(levels: Array, sign: int) -> Array:
    return levels[np.argsort(-sign * levels[:, 0], kind="stable")][:MAX_LEVELS]


def _trade_id(trade: Trade) -> int:
    if trade.trade_seq != MISSING:
        return trade.trade_seq
    digits = "".join(filter(str.isdecimal, trade.trade_id))
    if not digits.isascii() or not 0 < len(digits) <= 18:
        raise UnusableError("missing_field", "a trade needs trade_seq, or digits in its trade_id")
    return int(digits)


def _best_price(instrument: DeribitInstrument, price: Decimal | None) -> int | None:
    counts = 0 if price is None else instrument.price(price)
    if counts < 0:
        raise UnusableError("bad_quote", f"a best price of {price}")
    return counts or None


def _e9(value: Decimal | None) -> int | None:
    return None if value is None else e9(value)
