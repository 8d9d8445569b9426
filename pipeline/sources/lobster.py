"""Reconstructed NASDAQ books of LOBSTER: a message file and an order book file a day.

Huang and Polak 2011, LOBSTER: Limit Order Book Reconstruction System.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import BadInputError
from features.events import ASK, BID, LAST, NANO, SNAPSHOT, EventBatch, Kind
from pipeline.sources.base import OnReject, Reject, ignore_reject
from pipeline.sources.decimals import Increment
from pipeline.sources.listing import FILE_SPAN_NS, RunNumbers, with_listing
from pipeline.sources.lobster_names import LobsterPair, pairs_of
from pipeline.sources.lobster_rows import Numbers, numbers_of, side_by_side
from pipeline.sources.recording_lines import require_file
from pipeline.sources.runs import Run, batches_of, merge

Array = np.ndarray[Any, Any]

PRICE_INCREMENT_E9: Final = 100_000
"""LOBSTER's unit of price, 0.0001 dollars: hidden executions are priced between the cents."""

NO_LEVEL: Final = 9_999_999_999
"""The price of an ask that does not exist; of a bid, less this."""

EXECUTION: Final = 4
HIDDEN_EXECUTION: Final = 5
CROSS_TRADE: Final = 6
HALT: Final = 7

_SECONDS: Final = Increment(9, 1)
_UNIT: Final = Increment(0, 1)


class LobsterFiles:
    """LOBSTER days as one log.

    Row i of the order book file is the book after message i. The book's events are the differences between consecutive
    rows, whatever message made them, and the first row is a snapshot: so after every message our book holds exactly
    the levels of the file's row. What lies beyond the file's levels is unknown to it: a level that leaves the view is
    deleted, and one that comes into view appears with the size that the file then gives, though its orders are older.
    A message that changes no visible level makes no event.

    Messages 4 (execution) and 5 (execution of a hidden order) are trades; their ``direction`` is the resting order's,
    so the aggressor is the opposite. A cross trade (6) is a trade without aggressor. A halt or its end (7) makes no row
    and is counted in ``skipped``. The trade of a message precedes its change of the book. ``trade_id`` is the message's
    line. Times of receipt there are none: ``ts_recv`` is ``ts_event``. Prices are counts of 0.0001 dollars, sizes of
    shares.

    Bad input: rows belong together by line. A message that cannot be used (a number is none, a type that is unknown, a
    time before its predecessor's) costs its trade and its book row; an order book row that cannot be used (also: a
    price or size that is not positive, levels out of order) costs this one event. The next good row brings the book
    up to date, for it is compared with the last one used. A repeated line changes nothing in the book; a repeated
    execution counts as another, for LOBSTER numbers no trades. Where one file ends early, the rest of the other is
    left out (``missing_row``).

    Args:
        paths: the files, in any order; a partner that is not named is looked for beside its file.
        on_reject: receives every input that could not be used.

    Raises:
        BadInputError: no file is named, one is missing or empty, or a name does not tell what it holds.
    """

    name = "lobster"

    def __init__(self, paths: Sequence[Path | str], *, on_reject: OnReject = ignore_reject) -> None:
        if not paths:
            raise BadInputError("No LOBSTER file was named.", "Name the message and the orderbook file.")
        self.pairs = pairs_of([Path(path) for path in paths])
        for pair in self.pairs:
            require_file(pair.message)
            require_file(pair.orderbook)
        self._on_reject = on_reject
        self.rejected: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        """Messages left out on purpose: ``halt``."""

    def batches(self) -> Iterator[EventBatch]:
        """All events, in order of time."""
        return batches_of(self.runs(), max_span_ns=FILE_SPAN_NS)

    def runs(self, source: int = 0) -> Iterator[Run]:
        """The same as runs of rows, to be merged with other sources.

        Args:
            source: position of the first day among merged sources; each further day takes the next.
        """
        self.rejected.clear()
        self.skipped.clear()
        days = [_Day(pair, source + i, self._reject, self.skipped) for i, pair in enumerate(self.pairs)]
        return with_listing(merge([day.runs() for day in days]), _describe, source)

    def _reject(self, reject: Reject) -> None:
        self.rejected[reject.reason] += 1
        self._on_reject(reject)


class _Day:
    """One pair of files."""

    def __init__(self, pair: LobsterPair, source: int, on_reject: OnReject, skipped: Counter[str]) -> None:
        self._pair = pair
        self._midnight_ns = pair.midnight_ns
        self._numbers = RunNumbers(source)
        self._on_reject = on_reject
        self._skipped = skipped
        self._time = 0
        self._book: tuple[dict[int, int], dict[int, int]] | None = None
        self._row: Array | None = None
        self._last_id = 0

    def runs(self) -> Iterator[Run]:
        """Trades and book events in the order of the messages."""
        messages = numbers_of(self._pair.message, [_SECONDS, *[_UNIT] * 5], self._on_reject)
        books = numbers_of(self._pair.orderbook, [_UNIT] * (4 * self._pair.levels), self._on_reject)
        for block, book in side_by_side(messages, books, self._ends_early):
            yield from self._block(block, book)

    def _block(self, messages: Numbers, books: Numbers) -> Iterator[Run]:
        possible = books.good & _possible(books.value)
        for row in np.flatnonzero(books.good & ~possible).tolist():
            self._refuse("bad_level", "levels are positive and in order", "orderbook", int(books.line[row]))
        lines = messages.line.tolist()
        for row, message in enumerate(messages.value.tolist()):
            if not messages.good[row] or not self._usable(message, lines[row]):
                continue
            ts_ns = self._midnight_ns + message[0]
            yield from self._trade(message, ts_ns, lines[row])
            if possible[row] and (self._row is None or not np.array_equal(self._row, books.value[row])):
                self._row = books.value[row]
                yield from self._change(books.value[row].tolist(), ts_ns, lines[row])

    def _usable(self, message: list[int], line: int) -> bool:
        time_ns, kind = message[0], message[1]
        if kind not in range(1, HALT + 1):
            self._refuse("unknown_message", f"type {kind}", "message", line)
        elif not 0 <= time_ns < 86_400 * NANO:
            self._refuse("bad_time", "times are seconds after midnight", "message", line)
        elif time_ns < self._time:
            self._refuse("out_of_order", "before the message that precedes it", "message", line)
        else:
            self._time = time_ns
            return True
        return False

    def _trade(self, message: list[int], ts_ns: int, line: int) -> Iterator[Run]:
        _, kind, _, size, price, direction = message
        if kind == HALT:
            self._skipped["halt"] += 1
        if kind not in (EXECUTION, HIDDEN_EXECUTION, CROSS_TRADE):
            return
        if price <= 0 or size <= 0 or direction not in (-1, 1):
            self._refuse("bad_trade", "price and size are positive, direction is -1 or 1", "message", line)
            return
        row = {
            "instrument": self._pair.name,
            "ts_event": ts_ns,
            "trade_id": line,
            "price": price,
            "size": size,
            "aggressor": 0 if kind == CROSS_TRADE else -direction,
        }
        yield self._numbers.run(Kind.TRADE, ts_ns, self._pair.symbol, 1, row)

    def _change(self, row: list[int], ts_ns: int, line: int) -> Iterator[Run]:
        """The event that turns the book so far into that of ``row``: ask price, ask size, bid price, bid size, ..."""
        bids = {price: size for price, size in zip(row[2::4], row[3::4], strict=True) if price != -NO_LEVEL}
        asks = {price: size for price, size in zip(row[0::4], row[1::4], strict=True) if price != NO_LEVEL}
        first = self._book is None
        levels = [(BID, *level) for level in _difference(self._book[0] if self._book else {}, bids)]
        levels += [(ASK, *level) for level in _difference(self._book[1] if self._book else {}, asks)]
        self._book = bids, asks
        side, price, size = np.array(levels or [(BID, 0, 0)], dtype=np.int64).T
        flags = np.full(len(side), SNAPSHOT if first else 0, dtype=np.uint8)
        flags[-1] |= LAST
        update_id = (self._pair.day.toordinal() << 40) + line
        columns = {
            "instrument": self._pair.name,
            "ts_event": ts_ns,
            "prev_id": update_id if first else self._last_id,
            "update_id": update_id,
            "side": side.astype(np.int8),
            "price": price,
            "size": size,
            "flags": flags,
        }
        self._last_id = update_id
        yield self._numbers.run(Kind.BOOK, ts_ns, self._pair.symbol, len(side), columns)

    def _ends_early(self, line: int, which: str) -> None:
        self._refuse("missing_row", f"the {which} file ends before the other one", which, line)

    def _refuse(self, reason: str, detail: str, which: str, line: int) -> None:
        path = self._pair.message if which == "message" else self._pair.orderbook
        self._on_reject(Reject(reason, detail, b"", f"{path}:{line}"))


def _possible(rows: Array) -> Array:
    """Which order book rows have positive levels, the best ones first; levels that do not exist come last."""
    ask, bid = rows[:, 0::4], rows[:, 2::4]
    ask_size, bid_size = rows[:, 1::4], rows[:, 3::4]
    no_ask, no_bid = ask == NO_LEVEL, bid == -NO_LEVEL
    good = ((ask > 0) & (ask_size > 0) | no_ask) & ((bid > 0) & (bid_size > 0) | no_bid)
    all_good: Array = np.logical_and.reduce(good, axis=1)
    in_order = (ask[:, 1:] > ask[:, :-1]) | no_ask[:, 1:]
    in_order &= (bid[:, 1:] < bid[:, :-1]) | no_bid[:, 1:]
    in_order &= ~(no_ask[:, :-1] & ~no_ask[:, 1:]) & ~(no_bid[:, :-1] & ~no_bid[:, 1:])
    possible: Array = all_good & np.logical_and.reduce(in_order, axis=1)
    return possible


def _difference(old: dict[int, int], new: dict[int, int]) -> list[tuple[int, int]]:
    """The levels to set, size 0 to delete, that turn one side into another."""
    changed = [(price, size) for price, size in new.items() if old.get(price) != size]
    return [(price, 0) for price in old if price not in new] + changed


def _describe(name: str, ts_event: int) -> dict[str, Any]:
    row = {
        "ts_event": ts_event,
        "instrument_type": "spot",
        "quote_currency": "USD",
        "settlement_currency": "USD",
        "price_increment_e9": PRICE_INCREMENT_E9,
        "size_increment_e9": NANO,
        "contract_size_e9": NANO,
        "is_inverse": False,
        "expiry_ns": None,
        "strike_e9": None,
        "is_call": None,
    }
    return {"instrument": [name]} | {column: [value] for column, value in row.items()}
