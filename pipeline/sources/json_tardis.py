"""JSON as tardis-machine and tardis-node print it: normalized ``book_change``, ``book_snapshot``, ``trade`` and
``derivative_ticker`` messages.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Raw

from features.events import NANO, EventBatch, Kind
from pipeline.sources.base import UnusableError
from pipeline.sources.csv_fields import csv_block
from pipeline.sources.csv_kernels import MISSING
from pipeline.sources.decimals import REASONS, Increment
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run
from pipeline.sources.tardis_increments import Pair, TardisIncrements
from pipeline.sources.tardis_instruments import TardisInstrument, option_terms
from pipeline.sources.tardis_ticker import HOURLY, MAX_RATE_E9
from pipeline.sources.tardis_trades import AGGRESSOR, RecentTrades, trade_number
from pipeline.sources.venue_book import BookEvent

Array = np.ndarray[Any, Any]

_ISO: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


class Level(msgspec.Struct, gc=False):
    """A price level; its numbers stay text."""

    price: Raw
    amount: Raw


class TardisMessage(msgspec.Struct, gc=False):
    """The union of the messages; the names are the vendor's."""

    type: str
    exchange: str = ""
    symbol: str = ""
    timestamp: str = ""
    localTimestamp: str = ""
    isSnapshot: bool = False
    bids: list[Level] = []
    asks: list[Level] = []
    id: str | int | None = None
    side: str = ""
    price: Raw = Raw()
    amount: Raw = Raw()
    fundingRate: Raw = Raw()
    indexPrice: Raw = Raw()
    markPrice: Raw = Raw()
    openInterest: Raw = Raw()


_DECODER: Final = msgspec.json.Decoder(TardisMessage)
_NULL: Final = (b"", b"null")


class TardisMessages:
    """Decodes the vendor's normalized messages.

    A JSON number prints no more decimals than it needs, so one message cannot tell an increment: those of the
    instruments must be given, or be in the table; others are refused (``unknown_increments``).

    - ``book_change``: one event; with ``isSnapshot`` and as ``book_snapshot`` it replaces the book. A change whose
      predecessor is unknown (before the first snapshot, after ``disconnect``) reaches the log, and makes books wait
      for the next snapshot. A change that comes twice sets the same levels: no harm.
    - ``trade``: as in :class:`.tardis_trades.Trades`; repeats among the newest 10,000 are left out.
    - ``derivative_ticker``: as in :class:`.tardis_ticker.DerivativeTicker`.
    - ``disconnect``: the books of the exchange wait for a snapshot. Counted in ``skipped``.

    Refused: no such JSON (``broken_json``, ``unexpected_form``), another type (``unknown_message``), no symbol or time
    (``missing_field``, ``bad_time``), numbers that are none or no whole number of increments, a negative amount or a
    price that is not positive (``bad_level``, ``bad_trade``), absurd funding (``bad_funding``). After a change that
    was refused, the book waits for its next snapshot rather than being wrong; a message that is no JSON at all does
    not tell whose book it was about.
    """

    def __init__(self, increments: TardisIncrements) -> None:
        self._increments = increments
        self._numbers = RunNumbers(0)
        self._instruments: dict[tuple[str, str], tuple[TardisInstrument, Pair]] = {}
        self._introduced: set[str] = set()
        self._last_id: dict[str, int] = {}
        self._recent = RecentTrades()
        self.skipped: Counter[str] = Counter()
        """Messages left out on purpose: ``disconnect``, ``duplicate_trade``, ``no_funding_rate``."""

    def resume(self, batch: EventBatch) -> None:
        """The next change of a book continues its newest event in the log."""
        if batch.kind is Kind.BOOK:
            last = batch.data.slice(batch.data.num_rows - 1).to_pylist()[0]
            self._last_id[last["instrument"]] = max(last["update_id"], self._last_id.get(last["instrument"], 0))

    def decode(self, payload: bytes, received_ns: int) -> list[Run]:
        """What is new about the instrument, then its rows."""
        try:
            message = _DECODER.decode(payload)
        except msgspec.ValidationError as error:
            raise UnusableError("unexpected_form", str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnusableError("broken_json", str(error)) from error
        if message.type == "disconnect":
            self._disconnect(message.exchange)
            return []
        make = _MAKERS.get(message.type)
        if make is None:
            raise UnusableError("unknown_message", f"type {message.type!r}")
        instrument, pair = self._instrument(message.exchange, message.symbol)
        ts_event = iso_ns(message.timestamp)
        ts_recv = iso_ns(message.localTimestamp) if message.localTimestamp else received_ns
        try:
            made = make(self, message, instrument, pair, ts_event, ts_recv)
        except UnusableError:
            if make is TardisMessages._book:
                self._last_id.pop(instrument.name, None)
            raise
        if made is None:
            return []
        kind, rows, columns = made
        runs = [] if instrument.name in self._introduced else [self._introduction(instrument, pair, ts_event, ts_recv)]
        self._introduced.add(instrument.name)
        return [*runs, self._numbers.run(kind, ts_recv, instrument.underlying, rows, columns)]

    def _instrument(self, exchange: str, symbol: str) -> tuple[TardisInstrument, Pair]:
        found = self._instruments.get((exchange, symbol))
        if found is not None:
            return found
        if not exchange or not symbol:
            raise UnusableError("missing_field", "a message names exchange and symbol")
        instrument = TardisInstrument.of(exchange, symbol)
        pair = self._increments.known(instrument.name)
        if pair is None:
            detail = f"tell those of {instrument.name}: --increment NAME=PRICE,SIZE"
            raise UnusableError("unknown_increments", detail)
        self._instruments[exchange, symbol] = instrument, pair
        return instrument, pair

    def _introduction(self, instrument: TardisInstrument, pair: Pair, ts_event: int, ts_recv: int) -> Run:
        columns = instrument.columns(ts_event, *pair, option_terms(instrument.symbol.upper()))
        return self._numbers.run(Kind.INSTRUMENT, ts_recv, instrument.underlying, 1, columns)

    def _disconnect(self, exchange: str) -> None:
        self.skipped["disconnect"] += 1
        for name in [name for name in self._last_id if name.startswith(f"{exchange}:")]:
            del self._last_id[name]

    def _book(
        self, message: TardisMessage, instrument: TardisInstrument, pair: Pair, ts_event: int, ts_recv: int
    ) -> tuple[Kind, int, dict[str, Any]]:
        bids, asks = _levels(message.bids, pair), _levels(message.asks, pair)
        snapshot = message.isSnapshot or message.type == "book_snapshot"
        before = self._last_id.get(instrument.name)
        update_id = ts_recv if before is None else max(before + 1, ts_recv)
        if snapshot:
            prev_id = update_id
        else:
            prev_id = update_id - 1 if before is None else before
        self._last_id[instrument.name] = update_id
        columns = BookEvent(ts_event, ts_recv, prev_id, update_id, bids, asks, snapshot).columns(instrument.name)
        return Kind.BOOK, len(columns["side"]), columns

    def _trade(
        self, message: TardisMessage, instrument: TardisInstrument, pair: Pair, ts_event: int, _ts_recv: int
    ) -> tuple[Kind, int, dict[str, Any]] | None:
        price, size = _numbers([bytes(message.price)], pair[0])[0], _numbers([bytes(message.amount)], pair[1])[0]
        if price <= 0 or size <= 0:
            raise UnusableError("bad_trade", "price and amount must be positive")
        aggressor = AGGRESSOR.get(message.side.encode())
        if aggressor is None:
            raise UnusableError("unexpected_form", "side is buy, sell or unknown")
        text = "" if message.id is None else str(message.id)
        is_number = text.isascii() and text.isdigit() and len(text) <= 18
        trade_id = int(text) if is_number else trade_number(text.encode())
        if self._recent.repeats(instrument.name, trade_id):
            self.skipped["duplicate_trade"] += 1
            return None
        row = {"trade_id": trade_id, "price": int(price), "size": int(size), "aggressor": aggressor}
        return Kind.TRADE, 1, {"instrument": instrument.name, "ts_event": ts_event} | row

    def _ticker(
        self, message: TardisMessage, instrument: TardisInstrument, _pair: Pair, ts_event: int, _ts_recv: int
    ) -> tuple[Kind, int, dict[str, Any]] | None:
        rate = _e9(message.fundingRate)
        others = {
            "index_e9": _e9(message.indexPrice),
            "mark_e9": _e9(message.markPrice),
            "open_interest_e9": _e9(message.openInterest),
        }
        if rate is None:
            self.skipped["no_funding_rate"] += 1
            return None
        if abs(rate) >= MAX_RATE_E9 or any(value is not None and value < 0 for value in others.values()):
            raise UnusableError("bad_funding", "a rate of 100 % or more, or a negative price or open interest")
        row = {"rate_e9": rate * (8 if instrument.exchange in HOURLY else 1)} | others
        listed = {"instrument": instrument.name, "ts_event": ts_event} | row
        return Kind.FUNDING, 1, {name: [value] for name, value in listed.items()}


_MAKERS: Final = {
    "book_change": TardisMessages._book,
    "book_snapshot": TardisMessages._book,
    "trade": TardisMessages._trade,
    "derivative_ticker": TardisMessages._ticker,
}


def iso_ns(text: str) -> int:
    """A time such as ``2019-10-23T00:00:00.123Z``, in ns since 1970.

    Raises:
        UnusableError: it is no such time.

    >>> iso_ns("1970-01-01T00:00:01.5Z")
    1500000000
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise UnusableError("bad_time", f"{text[:40]!r} is no ISO time in UTC")
    try:
        seconds = datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise UnusableError("bad_time", str(error)) from error
    time_ns = int(seconds) * NANO + int((match[2] or "").ljust(9, "0"))
    if not 0 < time_ns < 2**62:
        raise UnusableError("bad_time", f"{text} lies too far away")
    return time_ns


def _levels(levels: list[Level], pair: Pair) -> Array:
    out = np.empty((len(levels), 2), dtype=np.int64)
    out[:, 0] = _numbers([bytes(level.price) for level in levels], pair[0])
    out[:, 1] = _numbers([bytes(level.amount) for level in levels], pair[1])
    if len(levels) and (out[:, 0].min() <= 0 or out[:, 1].min() < 0):
        raise UnusableError("bad_level", "a negative amount, or a price that is not positive")
    return out


def _numbers(texts: list[bytes], increment: Increment) -> Array:
    """JSON numbers, or decimals in quotes, as counts."""
    block = csv_block(1, b"".join(text.strip(b'"') + b"\n" for text in texts), 1)
    counts, faults = block.counts(0, [increment])
    if block.rows != len(texts):
        raise UnusableError("unexpected_form", "a number is broken into lines")
    for row in np.flatnonzero(faults).tolist():
        _refuse(int(faults[row]), texts[row])
    return counts


def _e9(raw: Raw) -> int | None:
    text = bytes(raw)
    if text in _NULL:
        return None
    values, faults = csv_block(1, text.strip(b'"') + b"\n", 1).e9(0)
    if len(faults) != 1 or faults[0]:
        _refuse(int(faults[0]), text)
    return int(values[0])


def _refuse(fault: int, text: bytes) -> None:
    if fault == MISSING:
        raise UnusableError("missing_field", "a price or amount is missing")
    reason, detail = REASONS[fault]
    raise UnusableError(reason, f"{text[:60]!r} is {detail}")
