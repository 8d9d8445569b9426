"""Deribit's websocket messages become rows of the log. No I/O: a recording or a socket feeds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Any, Final, TypeVar

import msgspec

from features.events import Kind
from pipeline.edge import MAX_CLOCK_STEP_NS
from pipeline.sources.base import UnusableError
from pipeline.sources.clock_offset import ClockOffset
from pipeline.sources.deribit_instruments import NANOS_PER_MILLI, DeribitInstrument
from pipeline.sources.deribit_listing import DeribitListing
from pipeline.sources.deribit_messages import BOOK, ENVELOPE, TICKER, TRADES, Envelope
from pipeline.sources.deribit_rows import book_event, funding_row, option_quote_row, trade_row
from pipeline.sources.runs import MERGE_ORDER, Run
from pipeline.sources.venue_book import BookEvent, VenueBook
from pipeline.sources.venue_time import VenueTime

MAX_TIME_NS: Final = 2**62
NANOS_PER_MICRO: Final = 1_000

OnControl = Callable[[Envelope], None]
Decoded = TypeVar("Decoded")


def ignore_control(_message: Envelope) -> None:
    """Responses and heartbeats carry no market data."""


class DeribitDecoder:
    """Decodes ``<receive ns> <JSON>`` lines of one connection, with any number of instruments.

    A response to ``public/get_instruments`` introduces instruments. A message about an instrument that none has
    introduced is refused (``unknown_instrument``). Each new second of venue time brings a heartbeat an underlying.

    A snapshot always replaces the book, for it comes in order with the changes. The venue stamps it with the book's
    last change; here it counts as taken at the largest time that its underlying has reached. A change that does not
    follow the one before is let through at once, which invalidates every reader's book; the changes after it are left
    out until the next snapshot.

    Args:
        resnapshot_ns: how often each whole book is sent again, in event time.
        source: position among merged sources.
        counts: where what is left out on purpose is counted: as in :class:`.VenueBook` and :class:`.DeribitListing`,
            and ``unsynced_diff`` (replaced by a snapshot), ``block_trade`` (negotiated, not against the book),
            ``spot_ticker``.
        only: symbols that are followed, None for all.
        on_control: receives responses and heartbeats.
    """

    def __init__(
        self,
        *,
        resnapshot_ns: int,
        source: int = 0,
        counts: Counter[str],
        only: Container[str] | None = None,
        on_control: OnControl = ignore_control,
    ) -> None:
        self.clock = ClockOffset()
        self.listing = DeribitListing(only, counts)
        self._resnapshot_ns = resnapshot_ns
        self._source = source
        self._counts = counts
        self._on_control = on_control
        self._books: dict[str, VenueBook] = {}
        self._channels: dict[str, str] = {}
        self._time = VenueTime()
        self._face: dict[str, str] = {}
        self._number = 0

    def feed(self, line: bytes) -> list[Run]:
        """Take the next ``<receive ns> <JSON>`` line; return its rows, often none.

        Raises:
            UnusableError: the line cannot be used; nothing of it has been.
        """
        received, _, text = line.partition(b" ")
        if not received.isdigit() or len(received) > 19:
            raise UnusableError("no_receive_time", "the line does not begin with its receive time in ns")
        return self.message(int(received), text)

    def message(self, ts_recv: int, text: bytes) -> list[Run]:
        """The same, with the receive time apart."""
        if not 0 < ts_recv < MAX_TIME_NS:
            raise UnusableError("no_receive_time", f"{ts_recv} is no receive time in ns")
        envelope = _typed(ENVELOPE, text)
        if envelope.method == "subscription" and envelope.params is not None:
            return self._notification(envelope.params.channel, envelope.params.data, ts_recv)
        if envelope.error is not None:
            self._on_control(envelope)
            raise UnusableError("venue_error", f"{envelope.error.code}: {envelope.error.message[:200]}")
        if envelope.id is None and envelope.method != "heartbeat" and not bytes(envelope.result):
            raise UnusableError("unknown_message", "neither a notification nor a response")
        venue_ns = envelope.usOut * NANOS_PER_MICRO
        if abs(ts_recv - venue_ns) <= MAX_CLOCK_STEP_NS:
            self._time.note(venue_ns)
        self.listing.take(envelope.result)
        self._on_control(envelope)
        return self.introduce(ts_recv)

    def introduce(self, ts_recv: int) -> list[Run]:
        """Rows for the instruments that are followed, and new or changed."""
        news: dict[str, list[DeribitInstrument]] = {}
        for instrument in self.listing.introduce():
            self._books.pop(instrument.symbol, None)  # counts of other increments mean nothing now
            self._face.setdefault(instrument.underlying, instrument.name)
            news.setdefault(instrument.underlying, []).append(instrument)
        runs = []
        for underlying, instruments in news.items():
            ts_event = self._time.reached(underlying) or self._time.largest or ts_recv
            names = {"instrument": [instrument.name for instrument in instruments]}
            columns = names | _by_column([instrument.columns(ts_event) for instrument in instruments])
            runs.append(self._run(Kind.INSTRUMENT, underlying, ts_recv, len(instruments), columns))
        return runs

    @property
    def broken(self) -> list[str]:
        """Book channels that have sent changes but wait for a snapshot: subscribe them again."""
        return [self._channels[symbol] for symbol, book in self._books.items() if book.held]

    def finish(self) -> None:
        """Say that no more lines come.

        Raises:
            UnusableError: changes still wait for a snapshot.
        """
        if broken := self.broken:
            raise UnusableError("no_snapshot", f"{', '.join(broken[:5])} wait for a snapshot that never came")

    # -- notifications ----------------------------------------------------------------------------------------------

    def _notification(self, channel: str, data: msgspec.Raw, ts_recv: int) -> list[Run]:
        kind = channel.partition(".")[0]
        if kind == "book":
            runs = self._book(channel, data, ts_recv)
        elif kind == "trades":
            runs = self._trades(data, ts_recv)
        elif kind == "ticker":
            runs = self._ticker(data, ts_recv)
        elif channel.startswith("instrument.state."):
            self._on_control(Envelope(method=channel, result=data))
            runs = []
        else:
            raise UnusableError("unknown_message", f"channel {channel[:80]!r}")
        for underlying, ts_event in self._time.heartbeats():
            heartbeat = {"instrument": self._face[underlying], "ts_event": ts_event}
            runs.append(self._run(Kind.HEARTBEAT, underlying, ts_recv, 1, heartbeat))
        return runs

    def _book(self, channel: str, data: msgspec.Raw, ts_recv: int) -> list[Run]:
        message = _typed(BOOK, data)
        instrument = self.listing.find(message.instrument_name)
        stamped = ts_event = message.timestamp * NANOS_PER_MILLI
        if message.is_snapshot:
            ts_event = max(stamped, self._time.reached(instrument.underlying))
            if ts_recv - ts_event > MAX_CLOCK_STEP_NS:
                ts_event = max(stamped, self._time.largest)
        _require_plausible(ts_event, ts_recv)
        event = book_event(instrument, message, ts_event, ts_recv)
        self._channels[instrument.symbol] = channel
        self._time.observe(instrument.underlying, ts_event)
        if not message.is_snapshot:
            self.clock.observe(ts_recv, ts_event)
        columns = [each.columns(instrument.name) for each in self._book_events(instrument.symbol, event)]
        return [self._run(Kind.BOOK, instrument.underlying, ts_recv, len(each["side"]), each) for each in columns]

    def _book_events(self, symbol: str, event: BookEvent) -> list[BookEvent]:
        book = self._books.get(symbol)
        if book is None or event.is_snapshot:
            if book is not None and book.held:
                self._counts["unsynced_diff"] += book.held
            book = self._books[symbol] = VenueBook(self._resnapshot_ns, self._counts)
        return book.snapshot(event) if event.is_snapshot else book.diff(event)

    def _trades(self, data: msgspec.Raw, ts_recv: int) -> list[Run]:
        """A run a trade; a list with a bad trade is refused as a whole."""
        rows: list[tuple[str, dict[str, Any]]] = []
        for trade in _typed(TRADES, data):
            instrument = self.listing.find(trade.instrument_name)
            _require_plausible(trade.timestamp * NANOS_PER_MILLI, ts_recv)
            rows.append((instrument.underlying, {} if trade.block_trade_id else trade_row(instrument, trade)))
        runs = []
        for underlying, row in rows:
            if not row:
                self._counts["block_trade"] += 1
                continue
            self._observe(underlying, row["ts_event"], ts_recv)
            runs.append(self._run(Kind.TRADE, underlying, ts_recv, 1, row))
        return runs

    def _ticker(self, data: msgspec.Raw, ts_recv: int) -> list[Run]:
        ticker = _typed(TICKER, data)
        instrument = self.listing.find(ticker.instrument_name)
        ts_event = ticker.timestamp * NANOS_PER_MILLI
        _require_plausible(ts_event, ts_recv)
        kind, columns = Kind.FUNDING, {}
        if instrument.instrument_type == "option":
            kind, columns = Kind.OPTION_QUOTE, _by_column([option_quote_row(instrument, ticker)])
        elif instrument.instrument_type != "spot":
            columns = funding_row(instrument, ticker)
        self._observe(instrument.underlying, ts_event, ts_recv)
        if not columns:
            self._counts["spot_ticker"] += 1
            return []
        return [self._run(kind, instrument.underlying, ts_recv, 1, columns)]

    def _observe(self, underlying: str, ts_event: int, ts_recv: int) -> None:
        self._time.observe(underlying, ts_event)
        self.clock.observe(ts_recv, ts_event)

    def _run(self, kind: Kind, underlying: str, ts_recv: int, rows: int, columns: Mapping[str, Any]) -> Run:
        self._number += 1
        return Run(ts_recv, MERGE_ORDER[kind], self._source, self._number, kind, underlying, rows, columns)


def _typed(decoder: msgspec.json.Decoder[Decoded], text: bytes | msgspec.Raw) -> Decoded:
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise UnusableError("unexpected_form", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableError("broken_json", str(error)) from error


def _require_plausible(ts_event: int, ts_recv: int) -> None:
    if abs(ts_recv - ts_event) > MAX_CLOCK_STEP_NS:
        raise UnusableError("clock_step", f"received at {ts_recv}, but happened at {ts_event}")


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
