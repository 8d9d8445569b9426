"""Binance messages of one symbol become rows of the log. No I/O: a recording or a socket feeds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from features.events import NANO, Kind
from pipeline.edge import MAX_CLOCK_STEP_NS
from pipeline.sources.base import UnusableError
from pipeline.sources.binance_instruments import BinanceInstrument
from pipeline.sources.binance_messages import DECODER, MISSING, Data, Message, printed_levels
from pipeline.sources.clock_offset import ClockOffset
from pipeline.sources.decimals import Increment, increment_of_decimals, levels_of
from pipeline.sources.runs import MERGE_ORDER, Run
from pipeline.sources.venue_book import BookEvent, VenueBook

Array = np.ndarray[Any, Any]

NANOS_PER_MILLI: Final = 1_000_000
MAX_TIME_NS: Final = 2**62
E9: Final = Increment.from_e9(1)
NOTHING: Final = (b"", b'""')


class BookTicker(NamedTuple):
    """The venue's own best bid and ask after ``update_id``, in counts of increments."""

    instrument: str
    update_id: int
    bid_price: int
    bid_size: int
    ask_price: int
    ask_size: int


OnBookTicker = Callable[[BookTicker], None]


class BinanceDecoder:
    """Decodes ``<receive ns> <JSON>`` lines of one instrument.

    The instrument event comes before everything else. Each new second of the venue's time brings a heartbeat.

    Args:
        instrument: what the lines are about; messages about another symbol are refused.
        resnapshot_ns: how often the whole book is sent again, in event time.
        source: position among merged sources.
        counts: where the messages that are left out on purpose are counted.
        on_book_ticker: receives the venue's best quotes: they check the book, they are no events of the log.
    """

    def __init__(
        self,
        instrument: BinanceInstrument,
        *,
        resnapshot_ns: int,
        source: int,
        counts: Counter[str],
        on_book_ticker: OnBookTicker | None = None,
    ) -> None:
        self.instrument = instrument
        self.clock = ClockOffset()
        self._book = VenueBook(resnapshot_ns, counts)
        self._increments = instrument.increments()
        self._introduced = False
        self._source = source
        self._counts = counts
        self._on_book_ticker = on_book_ticker
        self._number = 0
        self._ts_event = 0
        self._second = 0

    def feed(self, line: bytes) -> list[Run]:
        """Take the next line; return its rows, often none.

        Raises:
            UnusableError: the line cannot be used; nothing of it has been.
        """
        ts_recv, message = _decode(line)
        data = message.data
        if data is not None:
            stamped = data.E if data.e == "markPriceUpdate" else data.T or data.E
            ts_event = self._time(ts_recv, stamped)
            runs = self._stream(message.stream, data, ts_event, ts_recv)
        elif message.lastUpdateId != MISSING:
            ts_event = self._time(ts_recv, message.T or message.E)
            runs = self._snapshot(message, ts_event, ts_recv)
        else:
            raise UnusableError("unknown_message", "neither a stream message nor a snapshot")
        if not self._introduced and self._increments is not None:
            self._introduced = True
            columns = self.instrument.columns(ts_event, *self._increments)
            runs.insert(0, self._run(Kind.INSTRUMENT, ts_recv, 1, columns))
        if self._ts_event // NANO > self._second and self._introduced:
            self._second = self._ts_event // NANO
            heartbeat = {"instrument": self.instrument.name, "ts_event": self._ts_event}
            runs.append(self._run(Kind.HEARTBEAT, ts_recv, 1, heartbeat))
        return runs

    @property
    def broken(self) -> bool:
        """Diffs wait for a snapshot: ask for one."""
        return self._book.held > 0

    def finish(self) -> None:
        """Say that no more lines come.

        Raises:
            UnusableError: diffs still wait for a snapshot.
        """
        if self._book.held:
            raise UnusableError("no_snapshot", f"{self._book.held} diff(s) wait for a snapshot that never came")

    def _time(self, ts_recv: int, ts_event_ms: int) -> int:
        """Event time in ns; where a message has none, the largest that the venue has named (else our own)."""
        if ts_event_ms == 0:
            ts_event = self._ts_event or ts_recv
        else:
            ts_event = ts_event_ms * NANOS_PER_MILLI
        if abs(ts_recv - ts_event) > MAX_CLOCK_STEP_NS:
            raise UnusableError("clock_step", f"received at {ts_recv}, but happened at {ts_event}")
        return ts_event

    def _stream(self, stream: str, data: Data, ts_event: int, ts_recv: int) -> list[Run]:
        if data.s != self.instrument.symbol:
            raise UnusableError("unknown_symbol", f"{data.s or 'none'} in a stream of {self.instrument.symbol}")
        if data.e == "bookTicker" or stream.endswith("@bookTicker"):
            runs = self._best_quote(data)
        elif data.e == "depthUpdate":
            runs = self._diff(data, ts_event, ts_recv)
        elif data.e == "trade":
            runs = self._trade(data, ts_event, ts_recv)
        elif data.e == "markPriceUpdate":
            runs = self._funding(data, ts_event, ts_recv)
        else:
            raise UnusableError("unknown_message", f"event {data.e!r} of stream {stream!r}")
        if data.T or data.E:
            self.clock.observe(ts_recv, ts_event)
            self._ts_event = max(self._ts_event, ts_event)
        return runs

    # -- messages -------------------------------------------------------------------------------------------------

    def _best_quote(self, data: Data) -> list[Run]:
        if data.u == MISSING:
            raise UnusableError("missing_field", "a best quote needs u")
        price, size = self._learn(data.b, data.B) or _no_increments()
        if self._on_book_ticker is not None:
            best = price.count_json(data.b), size.count_json(data.B), price.count_json(data.a), size.count_json(data.A)
            self._on_book_ticker(BookTicker(self.instrument.name, data.u, *best))
        return []

    def _diff(self, data: Data, ts_event: int, ts_recv: int) -> list[Run]:
        spot = self.instrument.market == "spot"
        if MISSING in (data.u, data.U if spot else data.pu) or not data.E:
            raise UnusableError("missing_field", "a diff needs E, u, and U (spot) or pu (futures)")
        prev_id = data.U - 1 if spot else data.pu
        if prev_id >= data.u:
            raise UnusableError("bad_ids", f"a diff from {prev_id} to {data.u}")
        bids, asks = self._levels(data.b, data.a)
        diff = BookEvent(ts_event, ts_recv, prev_id, data.u, bids, asks, False)
        return self._book_runs(self._book.diff(diff))

    def _snapshot(self, message: Message, ts_event: int, ts_recv: int) -> list[Run]:
        bids, asks = self._levels(message.bids, message.asks)
        last_id = message.lastUpdateId
        snapshot = BookEvent(ts_event, ts_recv, last_id, last_id, bids, asks, True)
        return self._book_runs(self._book.snapshot(snapshot))

    def _trade(self, data: Data, ts_event: int, ts_recv: int) -> list[Run]:
        if data.X != "MARKET":
            self._counts["non_market_trade"] += 1
            return []
        if data.t == MISSING or data.m is None or not data.T:
            raise UnusableError("missing_field", "a trade needs t, m and T")
        price_increment, size_increment = self._learn(data.p, data.q) or _no_increments()
        price, size = price_increment.count_json(data.p), size_increment.count_json(data.q)
        if price <= 0 or size <= 0:
            raise UnusableError("bad_trade", "price and size must be positive")
        row = {
            "instrument": self.instrument.name,
            "ts_event": ts_event,
            "trade_id": data.t,
            "price": price,
            "size": size,
            "aggressor": -1 if data.m else 1,
        }
        return [self._run(Kind.TRADE, ts_recv, 1, row)]

    def _funding(self, data: Data, ts_event: int, ts_recv: int) -> list[Run]:
        """The rate is per funding interval: 8 hours of most symbols, and the stream does not say of which not."""
        if not data.E or bytes(data.r) in NOTHING:
            raise UnusableError("missing_field", "a mark price needs E and the funding rate r")
        if self._increments is None:  # nothing has introduced the instrument yet
            self._counts["early_funding"] += 1
            return []
        index_e9, mark_e9 = (None if bytes(text) in NOTHING else E9.count_json(text) for text in (data.i, data.p))
        row = {
            "instrument": self.instrument.name,
            "ts_event": ts_event,
            "rate_e9": E9.count_json(data.r),
            "index_e9": index_e9,
            "mark_e9": mark_e9,
            "open_interest_e9": None,
        }
        return [self._run(Kind.FUNDING, ts_recv, 1, row)]

    def _book_runs(self, events: list[BookEvent]) -> list[Run]:
        runs = []
        for event in events:
            columns = event.columns(self.instrument.name)
            runs.append(self._run(Kind.BOOK, event.ts_recv, len(columns["side"]), columns))
        return runs

    def _levels(self, bids: msgspec.Raw, asks: msgspec.Raw) -> tuple[Array, Array]:
        increments = self._learn(bids, asks) or self._learn(asks, bids)
        if increments is None:  # nothing is known, and both sides are empty: any increments will do
            increments = Increment(0, 1), Increment(0, 1)
        sides = levels_of(bytes(bids), *increments), levels_of(bytes(asks), *increments)
        for levels in sides:
            if len(levels) and (levels[:, 0].min() <= 0 or levels[:, 1].min() < 0):
                raise UnusableError("bad_level", "a negative size, or a price that is not positive")
        return sides

    def _learn(self, prices: msgspec.Raw, sizes: msgspec.Raw) -> tuple[Increment, Increment] | None:
        """The increments; of a symbol that is not in the table, from the first prices and sizes that it prints."""
        if self._increments is None:
            try:
                levels = printed_levels(prices, sizes)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise UnusableError("unexpected_form", str(error)) from error
            if levels:
                price_texts, size_texts = zip(*levels, strict=True)
                self._increments = increment_of_decimals(price_texts), increment_of_decimals(size_texts)
        return self._increments

    def _run(self, kind: Kind, ts_recv: int, rows: int, columns: dict[str, Any]) -> Run:
        self._number += 1
        return Run(
            ts_recv, MERGE_ORDER[kind], self._source, self._number, kind, self.instrument.underlying, rows, columns
        )


def _decode(line: bytes) -> tuple[int, Message]:
    received, _, text = line.partition(b" ")
    if not received.isdigit() or len(received) > 19 or int(received) > MAX_TIME_NS:
        raise UnusableError("no_receive_time", "the line does not begin with its receive time in ns")
    try:
        return int(received), DECODER.decode(text)
    except msgspec.ValidationError as error:
        raise UnusableError("unexpected_form", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableError("broken_json", str(error)) from error


def _no_increments() -> tuple[Increment, Increment]:
    raise UnusableError("missing_field", "no price or size")
