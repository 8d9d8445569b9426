"""What a simulated book writes: the changes from event to event, full snapshots, and when they reach us.

A side is held as in ``features.book``: keys (side * price) ascend, the best level is last. So one code serves both
sides, and neither can be out of order.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from features.events import LAST, SNAPSHOT
from features.kernel import kernel

Array = np.ndarray[Any, Any]

MAX_TRADES: Final = 64
"""Trades of one tick."""

MIN_LATENCY_NS: Final = 2_000_000
MEAN_EXTRA_LATENCY_NS: Final = 1_000_000
MAX_EXTRA_LATENCY_NS: Final = 10_000_000

# Entries of `ids` and `flow`.
UPDATE_ID, TRADE_ID, TS_RECV = range(3)
HALF_SPREAD, EXCITATION, PRESSURE, FAIR = range(4)

# Columns of the tape, which are columns of the events too.
BOOK_COLUMNS: Final = ("ts_event", "ts_recv", "prev_id", "update_id", "side", "price", "size", "flags")
_EVENT, _RECV, _PREV, _UPDATE, _SIDE, _PRICE, _SIZE, _FLAGS = range(8)
TRADE_COLUMNS: Final = ("ts_event", "ts_recv", "trade_id", "price", "size", "aggressor")
_TRADE_ID, _TRADE_PRICE, _TRADE_SIZE, _AGGRESSOR = range(2, 6)

NOW, OLD = range(2)
BOOKS, TRADES = range(2)


class BookState(NamedTuple):
    """The book of now, and as it was after the last event.

    ``key``, ``size`` (2, 2, capacity): now and old, bids and asks; ``levels`` (2, 2) how many there are. ``ids`` [last
    update id, last trade id, last receive time]. ``flow`` [half spread, excitation of the trades, pressure of the
    price, fair price], prices in increments.
    """

    key: Array
    size: Array
    levels: Array
    ids: Array
    flow: Array


class Tape(NamedTuple):
    """Room for rows: ``book`` (R, 8), ``trade`` (R, 6), and how many are ``written`` (2,) of each."""

    book: Array
    trade: Array
    written: Array


def empty_book(levels: int, fair_increments: float) -> BookState:
    """A book without levels around a fair price."""
    capacity = 4 * levels + 16
    return BookState(
        key=np.zeros((2, 2, capacity), dtype=np.int64),
        size=np.zeros((2, 2, capacity), dtype=np.int64),
        levels=np.zeros((2, 2), dtype=np.int64),
        ids=np.zeros(3, dtype=np.int64),
        flow=np.array([0.0, 0.0, 0.0, fair_increments]),
    )


def empty_tape(levels: int, ticks: int) -> Tape:
    """Room for as many ticks: a tick may replace every level, and print the book besides."""
    return Tape(
        book=np.empty((ticks * 6 * levels, len(BOOK_COLUMNS)), dtype=np.int64),
        trade=np.empty((ticks * MAX_TRADES, len(TRADE_COLUMNS)), dtype=np.int64),
        written=np.zeros(2, dtype=np.int64),
    )


@kernel
def exponential(rng: Any) -> float:
    """A draw with mean 1."""
    return -math.log(1.0 - rng.random())


@kernel
def received(rng: Any, ids: Array, ts_event: int) -> int:
    """When an event reaches us: after the network's latency, and never before the event that came first."""
    extra = min(MEAN_EXTRA_LATENCY_NS * exponential(rng), MAX_EXTRA_LATENCY_NS)
    ids[TS_RECV] = max(ids[TS_RECV], ts_event + MIN_LATENCY_NS + int(extra))
    return int(ids[TS_RECV])


@kernel
def write_trade(tape: Tape, ts_event: int, ts_recv: int, trade_id: int, price: int, size: int, aggressor: int) -> None:
    """One row of kind ``trade``."""
    row = tape.trade[tape.written[TRADES]]
    row[_EVENT] = ts_event
    row[_RECV] = ts_recv
    row[_TRADE_ID] = trade_id
    row[_TRADE_PRICE] = price
    row[_TRADE_SIZE] = size
    row[_AGGRESSOR] = aggressor
    tape.written[TRADES] += 1


@kernel
def _put(tape: Tape, side: int, key: int, size: int, flags: int) -> None:
    row = tape.book[tape.written[BOOKS]]
    row[_SIDE] = 1 - 2 * side
    row[_PRICE] = (1 - 2 * side) * key
    row[_SIZE] = size
    row[_FLAGS] = flags
    tape.written[BOOKS] += 1


@kernel
def _changes(state: BookState, tape: Tape) -> None:
    """Rows that turn the book of the last event into this one, best level first; both books are merged by key."""
    none = 0 * state.ids[UPDATE_ID]  # an int64: a literal 0 would compile `_put` anew
    for side in range(2):
        new, old = state.levels[NOW, side] - 1, state.levels[OLD, side] - 1
        key, size = state.key[:, side], state.size[:, side]
        while new >= 0 or old >= 0:
            if old < 0 or (new >= 0 and key[NOW, new] > key[OLD, old]):
                _put(tape, side, key[NOW, new], size[NOW, new], none)
                new -= 1
            elif new < 0 or key[OLD, old] > key[NOW, new]:
                _put(tape, side, key[OLD, old], none, none)
                old -= 1
            else:
                if size[NOW, new] != size[OLD, old]:
                    _put(tape, side, key[NOW, new], size[NOW, new], none)
                new -= 1
                old -= 1


@kernel
def remember(state: BookState) -> None:
    """The book of now becomes the one that the next event's changes refer to."""
    for side in range(2):
        count = state.levels[NOW, side]
        state.levels[OLD, side] = count
        for i in range(count):
            state.key[OLD, side, i] = state.key[NOW, side, i]
            state.size[OLD, side, i] = state.size[NOW, side, i]


@kernel
def _stamp(tape: Tape, first: int, ts_event: int, ts_recv: int, prev_id: int, update_id: int) -> None:
    last = tape.written[BOOKS] - 1
    for i in range(first, last + 1):
        row = tape.book[i]
        row[_EVENT] = ts_event
        row[_RECV] = ts_recv
        row[_PREV] = prev_id
        row[_UPDATE] = update_id
    tape.book[last, _FLAGS] |= LAST


@kernel
def write_changes(rng: Any, state: BookState, ts_event: int, tape: Tape) -> None:
    """The changes since the last event; like a venue's, the update id counts them."""
    first = tape.written[BOOKS]
    _changes(state, tape)
    if tape.written[BOOKS] == first:
        # A tick without any change still has its event.
        state.size[NOW, 0, state.levels[NOW, 0] - 1] += 1
        _changes(state, tape)
    before = state.ids[UPDATE_ID]
    state.ids[UPDATE_ID] = before + tape.written[BOOKS] - first
    _stamp(tape, first, ts_event, received(rng, state.ids, ts_event), before, state.ids[UPDATE_ID])
    remember(state)


@kernel
def write_snapshot(state: BookState, ts_event: int, tape: Tape) -> None:
    """The whole book, best level first; it repeats the id and the receive time of the event before it."""
    first = tape.written[BOOKS]
    flags = SNAPSHOT + 0 * first
    for side in range(2):
        for i in range(state.levels[NOW, side] - 1, -1, -1):
            _put(tape, side, state.key[NOW, side, i], state.size[NOW, side, i], flags)
    _stamp(tape, first, ts_event, state.ids[TS_RECV], state.ids[UPDATE_ID], state.ids[UPDATE_ID])
