"""The loops behind the bars: rows of the log in, feature rows out, every float sum in one fixed order."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features import book_flow, book_shape, carry, trade_flow
from features.bar_state import (
    CHAIN_VALUES,
    COUNT,
    EARLIER,
    END,
    INDEX,
    INTEREST,
    INTERVAL,
    LATER,
    PAIRS,
    PRODUCT,
    R_COUNT,
    R_EARLIER,
    R_INTEREST,
    R_LATER,
    R_MID,
    R_NOTIONAL,
    R_PAIRS,
    R_PRODUCT,
    R_RANGE,
    R_RETURN,
    R_SIGNED,
    R_TRADES_OK,
    R_VOLUME,
    RATE,
    RECV,
    VOLUME,
    Bars,
)
from features.book_state import APPLIED, Books, book_row, invalidate, is_crossed, is_known
from features.declared.trade import VPIN_BUCKETS
from features.events import NANO, SESSION_ROWS
from features.kernel import row_kernel
from features.long_variance import HORIZONS_D, remember_return
from features.surface.chain_surface import VALUES
from features.windowed import Plan, windowed_features

Array = np.ndarray[Any, Any]

# Columns of the integer outputs of a feature row.
I_BAR_TS, I_TS_KNOWN, I_SLOT, I_VALID, I_CROSSED, I_LATE, I_LOST, I_CORRECTED, I_TRADES = range(9)
INTEGERS: Final = 9

CHAIN_COLUMNS: Final = (*VALUES, "surface_age_s")
PREMIUM_COLUMNS: Final = tuple(f"variance_risk_premium_{days}d" for days in HORIZONS_D)

COLUMNS: Final = (
    *book_shape.COLUMNS,
    *book_flow.COLUMNS,
    *trade_flow.COLUMNS,
    *carry.COLUMNS,
    *CHAIN_COLUMNS,
    *PREMIUM_COLUMNS,
    "log_return",
)
"""The float outputs of a feature row; the windowed features follow, in the order of their plan."""

SILENCE_NS: Final = 3_600 * NANO
"""Longer than this without a row, empty bars are left out: nobody has seen the market."""

_FLOW: Final = len(book_shape.COLUMNS)
_TRADE: Final = _FLOW + len(book_flow.COLUMNS)
_CARRY: Final = _TRADE + len(trade_flow.COLUMNS)
_CHAIN: Final = _CARRY + len(carry.COLUMNS)
_PREMIUM: Final = _CHAIN + len(CHAIN_COLUMNS)
_RETURN: Final = _PREMIUM + len(PREMIUM_COLUMNS)
_WINDOWED: Final = _RETURN + 1

_MID: Final = COLUMNS.index("mid")
_SIGNED_VOLUME: Final = COLUMNS.index("signed_volume")
_NOTIONAL_VALUE: Final = COLUMNS.index("notional")
_ATM: Final = COLUMNS.index("atm_iv_30d")
_SWAP: Final = COLUMNS.index("variance_swap_7d")
"""The variance swap levels stand in the order of the horizons."""


@row_kernel
def _remember(bars: Bars, s: int, row: Array) -> None:
    """Put what the windows need of the bar that closes into the rings, both copies."""
    size = bars.rings.shape[2] // 2
    low, high = bars.range2[s, 0], bars.range2[s, 1]
    for at in (bars.bars[s] % size, bars.bars[s] % size + size):
        ring, count = bars.rings[s, :, at], bars.counts[s, :, at]
        ring[R_RETURN] = row[_RETURN]
        ring[R_MID] = row[_MID]
        ring[R_RANGE] = math.log(high / low) if bars.known_all[s] else math.nan
        ring[R_SIGNED] = row[_SIGNED_VOLUME]
        ring[R_NOTIONAL] = row[_NOTIONAL_VALUE]
        ring[R_INTEREST] = bars.carry[s, INTEREST]
        count[R_TRADES_OK] = bars.trade_ok[s]
        count[R_VOLUME] = bars.trades[s, VOLUME]
        count[R_COUNT] = bars.trades[s, COUNT]
        count[R_PAIRS] = bars.roll[s, PAIRS]
        count[R_PRODUCT] = bars.roll[s, PRODUCT]
        count[R_LATER] = bars.roll[s, LATER]
        count[R_EARLIER] = bars.roll[s, EARLIER]
    bars.bars[s] += 1


@row_kernel
def _measure_trades(plan: Plan, bars: Bars, s: int) -> None:
    """What a typical trade of the window of closed bars was, and the volume buckets that it gives; 0 if unknown."""
    window = plan.typical[0]
    bars.typical[s, 0] = 0
    bars.typical[s, 1] = 0
    bars.bucket_size[s] = 0
    if bars.bars[s] < window:
        return
    size = bars.counts.shape[2] // 2
    end = (bars.bars[s] - 1) % size + size + 1
    volume, count = 0, 0
    for at in range(end - window, end):
        if bars.counts[s, R_TRADES_OK, at] == 0:
            return
        volume += bars.counts[s, R_VOLUME, at]
        count += bars.counts[s, R_COUNT, at]
    bars.typical[s, 0] = volume
    bars.typical[s, 1] = count
    if volume > 0:
        bars.bucket_size[s] = max(1, volume // VPIN_BUCKETS)


@row_kernel
def _open_bar(plan: Plan, bars: Bars, books: Books, s: int) -> None:
    """Forget the closed bar's sums; windows and the book go on."""
    book_flow.open_flow(bars, books, s)
    trade_flow.open_trades(bars, s)
    _measure_trades(plan, bars, s)
    bars.late[s] = 0
    bars.lost[s] = 0
    bars.corrected[s] = 0
    books.lost[s] = 0


@row_kernel
def _chain_features(bars: Bars, out: Array) -> None:
    for i in range(CHAIN_VALUES):
        out[i] = bars.chain[i]
    if bars.chain_ts[0] >= 0:
        out[CHAIN_VALUES] = (bars.clock[END] - bars.chain_ts[0]) / NANO


@row_kernel
def _write_row(plan: Plan, bars: Bars, books: Books, s: int, row: Array) -> None:
    for i in range(len(row)):
        row[i] = math.nan
    mid2 = 0
    if is_known(books, s):
        mid2 = book_shape.book_shape(books, s, bars.tick_e9[s], bars.lot_e9[s], row[:_FLOW])
    book_flow.flow_features(bars, s, row[_FLOW:_TRADE])
    trade_flow.trade_features(bars, s, row[_TRADE:_CARRY])
    carry.carry_features(bars, s, row[_MID], row[_CARRY:_CHAIN])
    _chain_features(bars, row[_CHAIN:_PREMIUM])
    if mid2 > 0 and bars.mid2[s] > 0:
        row[_RETURN] = math.log(mid2 / bars.mid2[s])
    bars.mid2[s] = mid2
    end, interval = bars.clock[END], bars.clock[INTERVAL]
    remember_return(bars.hour[s], bars.hour_sum[s], bars.hours[s], bars.long_variance[s], row[_RETURN], end, interval)
    for i in range(len(PREMIUM_COLUMNS)):
        row[_PREMIUM + i] = row[_SWAP + i] * row[_SWAP + i] - bars.long_variance[s, i]
    _remember(bars, s, row)
    windowed_features(plan, bars, s, row[_ATM], row[_WINDOWED:])


@row_kernel
def close_bar(plan: Plan, bars: Bars, books: Books, integers: Array, floats: Array, written: int) -> int:
    """Write a row for every instrument that was alive in the bar, and open the next one."""
    end = bars.clock[END]
    for s in range(len(bars.tick_e9)):
        if 0 < bars.expiry_ns[s] <= end - bars.clock[INTERVAL]:
            continue
        _write_row(plan, bars, books, s, floats[written])
        integers[written, I_BAR_TS] = end
        integers[written, I_TS_KNOWN] = bars.clock[RECV]
        integers[written, I_SLOT] = s
        integers[written, I_VALID] = is_known(books, s)
        integers[written, I_CROSSED] = is_crossed(books, s)
        integers[written, I_LATE] = bars.late[s]
        integers[written, I_LOST] = bars.lost[s] + books.lost[s]
        integers[written, I_CORRECTED] = bars.corrected[s]
        integers[written, I_TRADES] = bars.trades[s, COUNT] if bars.trade_ok[s] else -1
        _open_bar(plan, bars, books, s)
        written += 1
    bars.clock[END] = end + bars.clock[INTERVAL]
    return written


@row_kernel
def _skip_silence(plan: Plan, bars: Bars, books: Books, stream_ts: int) -> None:
    """Open the bar that ``stream_ts`` lies in; what is remembered of closed bars is of another time."""
    interval = bars.clock[INTERVAL]
    bars.clock[END] = -(-stream_ts // interval) * interval
    for s in range(len(bars.tick_e9)):
        bars.bars[s] = 0
        bars.mid2[s] = 0
        trade_flow.lose_trade(bars, s)
        _open_bar(plan, bars, books, s)


@row_kernel
def advance(
    plan: Plan, bars: Bars, books: Books, stream_ts: int, ts_recv: int, integers: Array, floats: Array, written: int
) -> int:
    """Let stream time reach a row: close every bar whose end it passes. Returns the rows written so far.

    The bar (end - interval, end] closes at the first row whose stream time lies beyond its end. That row makes the
    bar known, so its ``ts_recv`` counts into ``ts_known``. A row that comes more than ``SILENCE_NS`` after that end (a
    weekend, a source that was down) closes the open bar only: the empty ones up to it give no rows, and all windows
    start anew.
    """
    interval = bars.clock[INTERVAL]
    bars.clock[RECV] = max(bars.clock[RECV], ts_recv)
    if bars.clock[END] == 0:
        bars.clock[END] = -(-stream_ts // interval) * interval
    if stream_ts - bars.clock[END] > SILENCE_NS:
        written = close_bar(plan, bars, books, integers, floats, written)
        _skip_silence(plan, bars, books, stream_ts)
    while stream_ts > bars.clock[END]:
        written = close_bar(plan, bars, books, integers, floats, written)
    return written


@row_kernel
def book_rows(
    plan: Plan, bars: Bars, books: Books, slot: Array, stream_ts: Array, ts_event: Array, ts_recv: Array, seq: Array,
    prev_id: Array, update_id: Array, side: Array, price: Array, size: Array, flags: Array, integers: Array,
    floats: Array,
) -> int:  # fmt: skip
    """Take rows of kind ``book``; slot -1 is an instrument without features, whose rows only move the clock."""
    written = 0
    for i in range(len(slot)):
        written = advance(plan, bars, books, stream_ts[i], ts_recv[i], integers, floats, written)
        s = slot[i]
        if s < 0:
            continue
        breaks = books.breaks[s]
        done = book_row(books, s, seq[i], prev_id[i], update_id[i], side[i], price[i], size[i], flags[i])
        if books.breaks[s] != breaks:
            book_flow.book_broke(bars, s)
        if done == APPLIED:
            book_flow.book_changed(bars, books, s, ts_event[i])
    return written


@row_kernel
def _missing(expected: int, seq: int) -> int:
    """Rows lost before ``seq``: those between, or one where another session begins and nobody knows."""
    return seq - expected if seq // SESSION_ROWS == expected // SESSION_ROWS else 1


@row_kernel
def _fresh(bars: Bars, s: int, seq: int) -> bool:
    """Note a trade's ``seq``: False for a duplicate; a jump counts as lost, another session as one lost row."""
    expected = bars.trade_seq[s] + 1
    if seq < expected:
        return False
    if seq > expected and expected > 0:
        bars.lost[s] += _missing(expected, seq)
        trade_flow.lose_trade(bars, s)
    bars.trade_seq[s] = seq
    return True


@row_kernel
def trade_rows(
    plan: Plan, bars: Bars, books: Books, slot: Array, stream_ts: Array, ts_event: Array, ts_recv: Array, seq: Array,
    price: Array, size: Array, aggressor: Array, integers: Array, floats: Array,
) -> int:  # fmt: skip
    """Take rows of kind ``trade``.

    A repeated ``seq`` is a duplicate and ignored. A ``seq`` that jumps, or a trade without a positive price and size,
    makes the open bar's trade features null. A trade of a bar that has closed is counted as late and left out.
    """
    written = 0
    for i in range(len(slot)):
        written = advance(plan, bars, books, stream_ts[i], ts_recv[i], integers, floats, written)
        s = slot[i]
        if s < 0 or not _fresh(bars, s, seq[i]):
            continue
        if ts_event[i] <= bars.clock[END] - bars.clock[INTERVAL]:
            bars.late[s] += 1
        else:
            trade_flow.take_trade(bars, books, s, stream_ts[i], price[i], size[i], aggressor[i])
    return written


@row_kernel
def correction_rows(
    plan: Plan, bars: Bars, books: Books, slot: Array, stream_ts: Array, ts_recv: Array, seq: Array, integers: Array,
    floats: Array,
) -> int:  # fmt: skip
    """Take rows of kind ``trade_correction``: counted in the open bar; a bar that was emitted is never rewritten.

    A repeated ``seq`` is a duplicate and ignored.
    """
    written = 0
    for i in range(len(slot)):
        written = advance(plan, bars, books, stream_ts[i], ts_recv[i], integers, floats, written)
        s = slot[i]
        if s < 0 or seq[i] <= bars.correction_seq[s]:
            continue
        bars.correction_seq[s] = seq[i]
        bars.corrected[s] += 1
    return written


@row_kernel
def funding_rows(
    plan: Plan, bars: Bars, books: Books, slot: Array, stream_ts: Array, ts_event: Array, ts_recv: Array,
    rate_e9: Array, index_e9: Array, interest_e9: Array, integers: Array, floats: Array,
) -> int:  # fmt: skip
    """Take rows of kind ``funding``; one older than the last is left out. An index or interest of 0 is unknown."""
    written = 0
    for i in range(len(slot)):
        written = advance(plan, bars, books, stream_ts[i], ts_recv[i], integers, floats, written)
        s = slot[i]
        if s < 0 or ts_event[i] < bars.carry_ts[s]:
            continue
        bars.carry_ts[s] = ts_event[i]
        bars.carry[s, RATE] = rate_e9[i] / NANO
        bars.carry[s, INDEX] = index_e9[i] / NANO if index_e9[i] > 0 else math.nan
        bars.carry[s, INTEREST] = interest_e9[i] / NANO if interest_e9[i] > 0 else math.nan
    return written


@row_kernel
def move_clock(
    plan: Plan, bars: Bars, books: Books, stream_ts: Array, ts_recv: Array, integers: Array, floats: Array
) -> int:
    """Take rows that only move the clock."""
    written = 0
    for i in range(len(stream_ts)):
        written = advance(plan, bars, books, stream_ts[i], ts_recv[i], integers, floats, written)
    return written


@row_kernel
def increments_changed(bars: Bars, books: Books, s: int) -> None:
    """The increments of instrument ``s`` are others from here on: what counts in the old ones is unknown.

    The book waits for its next snapshot; the open bar counts as having lost a trade; no return spans the change.
    """
    invalidate(books, s)
    book_flow.book_broke(bars, s)
    trade_flow.lose_trade(bars, s)
    bars.mid2[s] = 0
