"""The order book of one simulated perpetual: market makers quote around the fair price, takers hit their quotes.

Each tick, in this order:

1. Takers trade against the book as it stands. Their number is a self-exciting count process: the mean of the next
   tick is mu + e, where e decays and grows with the trades that came (a discrete Hawkes process, Hawkes 1971).
   They buy with probability 1 / (1 + exp(-b z)), where z is the tick's return in standard deviations.
2. Makers move their best quotes to the fair price -+ half a spread; what would cross them is cancelled.
3. Some levels change their size; the book is filled or cut to its depth.
4. What differs from the book of the tick before is the depth event.

A side is held as in ``features.book``: keys (side * price) ascend, the best level is last. So one code serves both
sides, and neither can be out of order.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from features.events import LAST, SNAPSHOT
from features.kernel import kernel
from pipeline.sources.simulated_market import YEAR_S

Array = np.ndarray[Any, Any]

MAX_TRADES: Final = 64
"""Trades of one tick."""

MAX_MEAN: Final = 40.0
"""Of a count in one tick."""

QUIET_NS: Final = 5_000_000
"""A tick has no trades this long: here, once a second, come option quotes, funding and the heartbeat."""

MIN_LATENCY_NS: Final = 2_000_000
MEAN_EXTRA_LATENCY_NS: Final = 1_000_000
MAX_EXTRA_LATENCY_NS: Final = 10_000_000

_DIRECTION: Final = 1.5  # b
_LEAN: Final = 2.0
_EXCITATION_MEMORY_S: Final = 0.5
_SPREAD_MEMORY_S: Final = 0.5
_PRESSURE_MEMORY_S: Final = 1.0

# Columns of the table of regimes.
SPREAD, GAP, LEVEL_SIZE, UPDATES_PER_S, TRADES_PER_S, CLUSTERING, TRADE_SIZE = range(7)

# Entries of `ids` and `flow`.
UPDATE_ID, TRADE_ID, TS_RECV = range(3)
_HALF_SPREAD, _EXCITATION, _PRESSURE, _FAIR = range(4)

# Columns of the tape, which are columns of the events too.
BOOK_COLUMNS: Final = ("ts_event", "ts_recv", "prev_id", "update_id", "side", "price", "size", "flags")
_EVENT, _RECV, _PREV, _UPDATE, _SIDE, _PRICE, _SIZE, _FLAGS = range(8)
TRADE_COLUMNS: Final = ("ts_event", "ts_recv", "trade_id", "price", "size", "aggressor")
_TRADE, _TRADE_PRICE, _TRADE_SIZE, _AGGRESSOR = range(2, 6)

_NOW, _OLD = range(2)
_BOOKS, _TRADES = range(2)


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


def open_book(
    rng: np.random.Generator, state: BookState, tape: Tape, ts_event: int, regime: Array, lot: Array, levels: int
) -> None:
    """Fill an empty book and write it as its first snapshot; arguments as :func:`trade_and_quote`."""
    fair = float(state.flow[_FAIR])
    state.flow[_HALF_SPREAD] = 0.5 * regime[SPREAD] * fair
    _make(rng, state, fair, 0.0, regime, lot, 0.0, levels)
    _remember(state)
    state.ids[UPDATE_ID] = 1
    received(rng, state.ids, ts_event)
    tape.written[:] = 0
    _snapshot(state, ts_event, tape)


@kernel
def _poisson(rng: Any, mean: float) -> int:
    """A Poisson count by multiplication of uniforms (Knuth 1969), good for small means."""
    bound, product, count = math.exp(-mean), rng.random(), 0
    while product > bound:
        product *= rng.random()
        count += 1
    return count


@kernel
def _exponential(rng: Any) -> float:
    return -math.log(1.0 - rng.random())


@kernel
def received(rng: Any, ids: Array, ts_event: int) -> int:
    """When an event reaches us: after the network's latency, and never before the event that came first."""
    extra = min(MEAN_EXTRA_LATENCY_NS * _exponential(rng), MAX_EXTRA_LATENCY_NS)
    ids[TS_RECV] = max(ids[TS_RECV], ts_event + MIN_LATENCY_NS + int(extra))
    return int(ids[TS_RECV])


@kernel
def _level_size(rng: Any, mean: float, distance: int) -> int:
    """Size of a quote so many levels from the touch; the book grows deeper over the first ten."""
    shape = 0.4 + 0.06 * min(distance, 10)
    return 1 + int(mean * shape * (0.25 + 0.75 * _exponential(rng)))


@kernel
def _gap(rng: Any, mean: float) -> int:
    return max(1, int(mean * (0.5 + rng.random())))


@kernel
def _quote(rng: Any, key: Array, size: Array, count: int, best: int, gap: float, mean_size: float, levels: int) -> int:
    """Make ``best`` the best key of a side of exactly ``levels`` levels; returns their number."""
    touch = 0 * levels  # an int64: a literal 0 would compile `_level_size` anew
    while count > 0 and key[count - 1] > best:
        count -= 1
    if count > 0 and best - key[count - 1] < 0.5 * gap:
        # The maker at the touch moves along; a new level would crowd the book.
        if key[count - 1] != best:
            key[count - 1] = best
            size[count - 1] = _level_size(rng, mean_size, touch)
    else:
        at = best
        if count > 0:
            at = max(key[count - 1], best - int(levels * gap)) + _gap(rng, gap)
        while at < best - 0.5 * gap:
            key[count] = at
            size[count] = _level_size(rng, mean_size, touch)
            count += 1
            at += _gap(rng, gap)
        key[count] = best
        size[count] = _level_size(rng, mean_size, touch)
        count += 1
    shift = count - levels
    if shift > 0:
        for i in range(levels):
            key[i] = key[i + shift]
            size[i] = size[i + shift]
    elif shift < 0:
        for i in range(count - 1, -1, -1):
            key[i - shift] = key[i]
            size[i - shift] = size[i]
        for i in range(-shift - 1, -1, -1):
            key[i] = key[i + 1] - _gap(rng, gap)
            size[i] = _level_size(rng, mean_size, levels - 1 - i)
    return levels


@kernel
def _number_of_trades(rng: Any, flow: Array, move: float, regime: Array, dt_s: float) -> int:
    """How many takers come in a tick; those that come bring others."""
    decay = math.exp(-dt_s / _EXCITATION_MEMORY_S)
    mean = regime[TRADES_PER_S] * dt_s * (1.0 - regime[CLUSTERING]) + flow[_EXCITATION]
    # Large moves bring more trades; over normal moves the factor is 1 on average.
    count = min(_poisson(rng, min(mean * (0.6 + 0.5 * min(abs(move), 4.0)), MAX_MEAN)), MAX_TRADES)
    flow[_EXCITATION] = decay * flow[_EXCITATION] + (1.0 - decay) * regime[CLUSTERING] * count
    return count


@kernel
def _take(
    rng: Any, state: BookState, tape: Tape, move: float, start_ns: int, end_ns: int, regime: Array, lot: Array,
    dt_s: float,
) -> None:  # fmt: skip
    """Trades of one tick against the standing book."""
    count = _number_of_trades(rng, state.flow, move, regime, dt_s)
    buys = 1.0 / (1.0 + math.exp(-_DIRECTION * move))
    room = end_ns - start_ns - QUIET_NS
    for i in range(count):
        ts = start_ns + QUIET_NS + int(room * (i + 0.1 + 0.9 * rng.random()) / count)
        side = 1 if rng.random() < buys else 0  # the side that is hit
        aggressor = 2 * side - 1
        top = state.levels[_NOW, side] - 1
        there = state.size[_NOW, side, top]
        filled = min(1 + int(regime[TRADE_SIZE] * lot[1] * _exponential(rng)), there)
        if filled < there:
            state.size[_NOW, side, top] -= filled
        elif top > 0:
            state.levels[_NOW, side] = top
        else:
            continue  # the last level of a side stands
        state.ids[TRADE_ID] += 1
        row = tape.trade[tape.written[_TRADES]]
        row[_EVENT] = ts
        row[_RECV] = received(rng, state.ids, ts)
        row[_TRADE] = state.ids[TRADE_ID]
        row[_TRADE_PRICE] = -aggressor * state.key[_NOW, side, top]
        row[_TRADE_SIZE] = filled
        row[_AGGRESSOR] = aggressor
        tape.written[_TRADES] += 1


@kernel
def _make(
    rng: Any, state: BookState, fair: float, move: float, regime: Array, lot: Array, dt_s: float, levels: int
) -> None:
    """Move the quotes to the fair price and let some of them change their size."""
    flow = state.flow
    target = 0.5 * regime[SPREAD] * fair * math.exp(0.2 * rng.standard_normal())
    flow[_HALF_SPREAD] += (1.0 - math.exp(-dt_s / _SPREAD_MEMORY_S)) * (target - flow[_HALF_SPREAD])
    flow[_PRESSURE] += (1.0 - math.exp(-dt_s / _PRESSURE_MEMORY_S)) * (math.tanh(move) - flow[_PRESSURE])
    gap = max(1.0, regime[GAP] * fair)
    size = regime[LEVEL_SIZE] * lot[0]
    bid = math.floor(fair - flow[_HALF_SPREAD])
    ask = max(math.ceil(fair + flow[_HALF_SPREAD]), bid + 1)
    # Makers lean with the price: they offer less where it goes.
    lean = math.exp(_LEAN * flow[_PRESSURE])
    for side in range(2):
        best = bid if side == 0 else -ask
        leaning = size * lean if side == 0 else size / lean
        state.levels[_NOW, side] = _quote(
            rng, state.key[_NOW, side], state.size[_NOW, side], state.levels[_NOW, side], best, gap, leaning, levels
        )
    for _ in range(_poisson(rng, min(regime[UPDATES_PER_S] * dt_s, MAX_MEAN))):
        side = 0 if rng.random() < 0.5 else 1
        near = rng.random()
        distance = int(levels * near * near)
        leaning = size * lean if side == 0 else size / lean
        state.size[_NOW, side, levels - 1 - distance] = _level_size(rng, leaning, distance)


@kernel
def _put(tape: Tape, side: int, key: int, size: int, flags: int) -> None:
    row = tape.book[tape.written[_BOOKS]]
    row[_SIDE] = 1 - 2 * side
    row[_PRICE] = (1 - 2 * side) * key
    row[_SIZE] = size
    row[_FLAGS] = flags
    tape.written[_BOOKS] += 1


@kernel
def _changes(state: BookState, tape: Tape) -> None:
    """Rows that turn the book of the last event into this one, best level first; both books are merged by key."""
    none = 0 * state.ids[UPDATE_ID]  # an int64: a literal 0 would compile `_put` anew
    for side in range(2):
        new, old = state.levels[_NOW, side] - 1, state.levels[_OLD, side] - 1
        key, size = state.key[:, side], state.size[:, side]
        while new >= 0 or old >= 0:
            if old < 0 or (new >= 0 and key[_NOW, new] > key[_OLD, old]):
                _put(tape, side, key[_NOW, new], size[_NOW, new], none)
                new -= 1
            elif new < 0 or key[_OLD, old] > key[_NOW, new]:
                _put(tape, side, key[_OLD, old], none, none)
                old -= 1
            else:
                if size[_NOW, new] != size[_OLD, old]:
                    _put(tape, side, key[_NOW, new], size[_NOW, new], none)
                new -= 1
                old -= 1


@kernel
def _remember(state: BookState) -> None:
    for side in range(2):
        count = state.levels[_NOW, side]
        state.levels[_OLD, side] = count
        for i in range(count):
            state.key[_OLD, side, i] = state.key[_NOW, side, i]
            state.size[_OLD, side, i] = state.size[_NOW, side, i]


@kernel
def _stamp(tape: Tape, first: int, ts_event: int, ts_recv: int, prev_id: int, update_id: int) -> None:
    last = tape.written[_BOOKS] - 1
    for i in range(first, last + 1):
        row = tape.book[i]
        row[_EVENT] = ts_event
        row[_RECV] = ts_recv
        row[_PREV] = prev_id
        row[_UPDATE] = update_id
    tape.book[last, _FLAGS] |= LAST


@kernel
def _depth_event(rng: Any, state: BookState, ts_event: int, tape: Tape) -> None:
    """The changes since the last event; like a venue's, the update id counts them."""
    first = tape.written[_BOOKS]
    _changes(state, tape)
    if tape.written[_BOOKS] == first:
        # A tick without any change still has its event.
        state.size[_NOW, 0, state.levels[_NOW, 0] - 1] += 1
        _changes(state, tape)
    before = state.ids[UPDATE_ID]
    state.ids[UPDATE_ID] = before + tape.written[_BOOKS] - first
    _stamp(tape, first, ts_event, received(rng, state.ids, ts_event), before, state.ids[UPDATE_ID])
    _remember(state)


@kernel
def _snapshot(state: BookState, ts_event: int, tape: Tape) -> None:
    """The whole book, best level first; it repeats the id and the receive time of the event before it."""
    first = tape.written[_BOOKS]
    flags = SNAPSHOT + 0 * first
    for side in range(2):
        for i in range(state.levels[_NOW, side] - 1, -1, -1):
            _put(tape, side, state.key[_NOW, side, i], state.size[_NOW, side, i], flags)
    _stamp(tape, first, ts_event, state.ids[TS_RECV], state.ids[UPDATE_ID], state.ids[UPDATE_ID])


@kernel
def trade_and_quote(
    rng: Any, state: BookState, tape: Tape, book_end: Array, trade_end: Array, table: Array, lot: Array, fair: Array,
    volatility: Array, regime: Array, first_ns: int, tick_ns: int, first_tick: int, snapshot_ticks: int, levels: int,
    opening_ns: Array, opening_recv: Array,
) -> None:  # fmt: skip
    """Run the book through T ticks that begin at ``first_ns``, a whole second.

    Args:
        tape: overwritten; the rows of each tick end at ``book_end``, ``trade_end`` (T,).
        table: a row a regime. lot: mean size of a level and of a trade in calm, in size increments.
        fair: fair price in increments at the end of each tick, (T,). volatility: (T,), per sqrt(year).
        regime: of each second, (N,). first_tick: how many ticks came before. snapshot_ticks: ticks between snapshots.
        opening_ns: offsets of what opens a second; its receive times go to ``opening_recv`` (N, len(opening_ns)).
    """
    ticks_per_s = len(fair) // len(regime)
    dt_s = 1.0 / ticks_per_s
    tape.written[:] = 0
    for tick in range(len(fair)):
        start_ns = first_ns + tick * tick_ns
        end_ns = start_ns + tick_ns
        second = tick // ticks_per_s
        if tick % ticks_per_s == 0:
            for i in range(len(opening_ns)):
                opening_recv[second, i] = received(rng, state.ids, start_ns + opening_ns[i])
        now = table[regime[second]]
        move = math.log(fair[tick] / state.flow[_FAIR]) / (volatility[tick] * math.sqrt(dt_s / YEAR_S))
        state.flow[_FAIR] = fair[tick]
        _take(rng, state, tape, move, start_ns, end_ns, now, lot, dt_s)
        _make(rng, state, fair[tick], move, now, lot, dt_s, levels)
        _depth_event(rng, state, end_ns, tape)
        if (first_tick + tick + 1) % snapshot_ticks == 0:
            _snapshot(state, end_ns, tape)
        book_end[tick], trade_end[tick] = tape.written[_BOOKS], tape.written[_TRADES]
