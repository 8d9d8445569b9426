"""The order book of one simulated perpetual: market makers quote around the fair price, takers hit their quotes.

Each tick, in this order:

1. Takers trade against the book as it stands. Their number is a self-exciting count process: the mean of the next
   tick is mu + e, where e decays and grows with the trades that came (a discrete Hawkes process, Hawkes 1971).
   They buy with probability 1 / (1 + exp(-b z)), where z is the tick's return in standard deviations.
2. Makers move their best quotes to the fair price -+ half a spread; what would cross them is cancelled.
3. Some levels change their size; the book is filled or cut to its depth.
4. What differs from the book of the tick before is the depth event.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel
from pipeline.sources.simulated_market import YEAR_S
from pipeline.sources.simulated_tape import (
    BOOKS,
    EXCITATION,
    FAIR,
    HALF_SPREAD,
    MAX_TRADES,
    NOW,
    PRESSURE,
    TRADE_ID,
    TRADES,
    UPDATE_ID,
    BookState,
    Tape,
    exponential,
    received,
    remember,
    write_changes,
    write_snapshot,
    write_trade,
)

Array = np.ndarray[Any, Any]

MAX_MEAN: Final = 40.0
"""Of a count in one tick."""

QUIET_NS: Final = 5_000_000
"""A tick has no trades this long: here, once a second, come option quotes, funding and the heartbeat."""

_DIRECTION: Final = 1.5  # b
_LEAN: Final = 2.0
_EXCITATION_MEMORY_S: Final = 0.5
_SPREAD_MEMORY_S: Final = 0.5
_PRESSURE_MEMORY_S: Final = 1.0

# Columns of the table of regimes.
SPREAD, GAP, LEVEL_SIZE, UPDATES_PER_S, TRADES_PER_S, CLUSTERING, TRADE_SIZE = range(7)


def open_book(
    rng: np.random.Generator, state: BookState, tape: Tape, ts_event: int, regime: Array, lot: Array, levels: int
) -> None:
    """Fill an empty book and write it as its first snapshot; arguments as :func:`trade_and_quote`."""
    fair = float(state.flow[FAIR])
    state.flow[HALF_SPREAD] = 0.5 * regime[SPREAD] * fair
    _make(rng, state, fair, 0.0, regime, lot, 0.0, levels)
    remember(state)
    state.ids[UPDATE_ID] = 1
    received(rng, state.ids, ts_event)
    tape.written[:] = 0
    write_snapshot(state, ts_event, tape)


@kernel
def _poisson(rng: Any, mean: float) -> int:
    """A Poisson count by multiplication of uniforms (Knuth 1969), good for small means."""
    bound, product, count = math.exp(-mean), rng.random(), 0
    while product > bound:
        product *= rng.random()
        count += 1
    return count


@kernel
def _level_size(rng: Any, mean: float, distance: int) -> int:
    """Size of a quote so many levels from the touch; the book grows deeper over the first ten."""
    shape = 0.4 + 0.06 * min(distance, 10)
    return 1 + int(mean * shape * (0.25 + 0.75 * exponential(rng)))


@kernel
def _gap(rng: Any, mean: float) -> int:
    return max(1, int(mean * (0.5 + rng.random())))


@kernel
def _fit(rng: Any, key: Array, size: Array, count: int, gap: float, mean_size: float, levels: int) -> None:
    """Forget the worst levels of a side, or add worse ones, until there are ``levels``."""
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
    _fit(rng, key, size, count, gap, mean_size, levels)
    return levels


@kernel
def _number_of_trades(rng: Any, flow: Array, move: float, regime: Array, dt_s: float) -> int:
    """How many takers come in a tick; those that come bring others."""
    decay = math.exp(-dt_s / _EXCITATION_MEMORY_S)
    mean = regime[TRADES_PER_S] * dt_s * (1.0 - regime[CLUSTERING]) + flow[EXCITATION]
    # Large moves bring more trades; over normal moves the factor is 1 on average.
    count = min(_poisson(rng, min(mean * (0.6 + 0.5 * min(abs(move), 4.0)), MAX_MEAN)), MAX_TRADES)
    flow[EXCITATION] = decay * flow[EXCITATION] + (1.0 - decay) * regime[CLUSTERING] * count
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
        top = state.levels[NOW, side] - 1
        there = state.size[NOW, side, top]
        filled = min(1 + int(regime[TRADE_SIZE] * lot[1] * exponential(rng)), there)
        if filled < there:
            state.size[NOW, side, top] -= filled
        elif top > 0:
            state.levels[NOW, side] = top
        else:
            continue  # the last level of a side stands
        state.ids[TRADE_ID] += 1
        price = -aggressor * state.key[NOW, side, top]
        write_trade(tape, ts, received(rng, state.ids, ts), state.ids[TRADE_ID], price, filled, aggressor)


@kernel
def _make(
    rng: Any, state: BookState, fair: float, move: float, regime: Array, lot: Array, dt_s: float, levels: int
) -> None:
    """Move the quotes to the fair price and let some of them change their size."""
    flow = state.flow
    target = 0.5 * regime[SPREAD] * fair * math.exp(0.2 * rng.standard_normal())
    flow[HALF_SPREAD] += (1.0 - math.exp(-dt_s / _SPREAD_MEMORY_S)) * (target - flow[HALF_SPREAD])
    flow[PRESSURE] += (1.0 - math.exp(-dt_s / _PRESSURE_MEMORY_S)) * (math.tanh(move) - flow[PRESSURE])
    gap = max(1.0, regime[GAP] * fair)
    size = regime[LEVEL_SIZE] * lot[0]
    bid = math.floor(fair - flow[HALF_SPREAD])
    ask = max(math.ceil(fair + flow[HALF_SPREAD]), bid + 1)
    # Makers lean with the price: they offer less where it goes.
    lean = math.exp(_LEAN * flow[PRESSURE])
    for side in range(2):
        best = bid if side == 0 else -ask
        leaning = size * lean if side == 0 else size / lean
        state.levels[NOW, side] = _quote(
            rng, state.key[NOW, side], state.size[NOW, side], state.levels[NOW, side], best, gap, leaning, levels
        )
    for _ in range(_poisson(rng, min(regime[UPDATES_PER_S] * dt_s, MAX_MEAN))):
        side = 0 if rng.random() < 0.5 else 1
        near = rng.random()
        distance = int(levels * near * near)
        leaning = size * lean if side == 0 else size / lean
        state.size[NOW, side, levels - 1 - distance] = _level_size(rng, leaning, distance)


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
        move = math.log(fair[tick] / state.flow[FAIR]) / (volatility[tick] * math.sqrt(dt_s / YEAR_S))
        state.flow[FAIR] = fair[tick]
        _take(rng, state, tape, move, start_ns, end_ns, now, lot, dt_s)
        _make(rng, state, fair[tick], move, now, lot, dt_s, levels)
        write_changes(rng, state, end_ns, tape)
        if (first_tick + tick + 1) % snapshot_ticks == 0:
            write_snapshot(state, end_ns, tape)
        book_end[tick], trade_end[tick] = tape.written[BOOKS], tape.written[TRADES]
