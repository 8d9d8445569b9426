"""The loops behind the bars: rows of the log in, feature rows out, every float sum in one fixed order."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from features.book import Books, book_row
from features.events import NANO
from features.kernel import kernel
from features.surface.black import YEAR_NS

Array = np.ndarray[Any, Any]

RETURNS: Final = 300
"""Returns kept an instrument: five minutes of 1 s bars."""

WINDOWS_S: Final = (10, 60, 300)
"""Windows of realized variance."""

# Columns of the integer outputs of a feature row.
I_BAR_TS, I_TS_KNOWN, I_SLOT, I_VALID, I_LATE, I_LOST, I_TRADES = range(7)
INTEGERS: Final = 7
# Columns of the float outputs: the float features in the catalogue's order.
(
    F_BID, F_ASK, F_MID, F_SPREAD, F_MICRO, F_IMB1, F_IMB5, F_IMB10, F_BID_DEPTH, F_ASK_DEPTH, F_OFI,
    F_VWAP, F_VOLUME, F_SIGNED, F_RETURN, F_RV10, F_RV60, F_RV300,
    F_ATM, F_RR, F_SLOPE, F_VRP, F_SURFACE_AGE, F_FUNDING, F_FUNDING_AGE,
) = range(25)  # fmt: skip
FLOATS: Final = 25

MAX_NOTIONAL: Final = 2**62
"""Of one bar, in price increments times size increments; beyond it the sum would wrap, so the vwap is null."""


class Bars(NamedTuple):
    """The open bar of an underlying and what its windows remember; S instruments.

    ``clock`` holds [end of the open bar (0: no row yet), interval, largest ts_recv so far]; ``shared`` the values of
    the underlying: [atm_iv_30d, risk_reversal_25d, term_slope, funding_rate]; ``shared_ts`` the ts_event of the last
    [option quote, funding] row, -1 for none. All other arrays are (S,), ``returns`` (S, RETURNS).
    """

    clock: Array
    shared: Array
    shared_ts: Array
    tick_e9: Array
    lot_e9: Array
    touch: Array  # (S, 4): bid, bid size, ask, ask size after the last book event
    touch_ok: Array
    ofi: Array
    ofi_ok: Array
    trade_seq: Array
    trade_ok: Array
    trades: Array
    volume: Array
    signed: Array
    notional: Array
    late: Array
    lost: Array
    mid2: Array  # twice the mid of the last bar, in increments; 0 when it was unknown
    returns: Array
    bars: Array  # bars closed so far


def empty_bars(instruments: int, interval_ns: int) -> Bars:
    """Bars of ``instruments`` instruments before the first row."""

    def zeros(*shape: int) -> Array:
        return np.zeros((instruments, *shape), dtype=np.int64)

    return Bars(
        clock=np.array([0, interval_ns, 0], dtype=np.int64),
        shared=np.full(4, np.nan),
        shared_ts=np.full(2, -1, dtype=np.int64),
        tick_e9=zeros(),
        lot_e9=zeros(),
        touch=zeros(4),
        touch_ok=zeros(),
        ofi=zeros(),
        ofi_ok=zeros(),
        trade_seq=zeros() - 1,
        trade_ok=zeros() + 1,
        trades=zeros(),
        volume=zeros(),
        signed=zeros(),
        notional=zeros(),
        late=zeros(),
        lost=zeros(),
        mid2=zeros(),
        returns=np.full((instruments, RETURNS), np.nan),
        bars=zeros(),
    )


@kernel
def _imbalance(books: Books, s: int, levels: int) -> float:
    bids, asks = 0, 0
    for i in range(levels):
        at = books.levels[s, 0] - 1 - i
        if at >= 0:
            bids += books.size[s, 0, at]
        at = books.levels[s, 1] - 1 - i
        if at >= 0:
            asks += books.size[s, 1, at]
    return (bids - asks) / (bids + asks)


@kernel
def _depth_10bps(books: Books, s: int, side: int, mid2: int) -> int:
    """Sizes within 10 basis points of the mid: |price - mid| <= mid / 1000, compared in integers."""
    total = 0
    at = books.levels[s, side] - 1
    sign = 1 if side == 0 else -1
    while at >= 0:
        distance2 = sign * (mid2 - 2 * sign * books.key[s, side, at])
        if distance2 * 1000 > mid2:
            break
        total += books.size[s, side, at]
        at -= 1
    return total


@kernel
def _two_sided(books: Books, s: int) -> bool:
    """Valid, both sides present, not crossed and not locked."""
    if not books.valid[s] or books.levels[s, 0] == 0 or books.levels[s, 1] == 0:
        return False
    bid = books.key[s, 0, books.levels[s, 0] - 1]
    ask = -books.key[s, 1, books.levels[s, 1] - 1]
    return bool(bid < ask)


@kernel
def _book_features(bars: Bars, books: Books, s: int, row: Array) -> int:
    """Fill the book columns of a feature row; return twice the mid in increments."""
    top_bid, top_ask = books.levels[s, 0] - 1, books.levels[s, 1] - 1
    bid, ask = books.key[s, 0, top_bid], -books.key[s, 1, top_ask]
    bid_size, ask_size = books.size[s, 0, top_bid], books.size[s, 1, top_ask]
    tick, lot = bars.tick_e9[s], bars.lot_e9[s]
    mid2 = bid + ask
    row[F_BID] = (bid * tick) / NANO
    row[F_ASK] = (ask * tick) / NANO
    row[F_MID] = (mid2 * tick) / (2 * NANO)
    row[F_SPREAD] = (20_000 * (ask - bid)) / mid2
    row[F_MICRO] = (float(bid) * ask_size + float(ask) * bid_size) / (bid_size + ask_size) * tick / NANO
    row[F_IMB1] = _imbalance(books, s, 1)
    row[F_IMB5] = _imbalance(books, s, 5)
    row[F_IMB10] = _imbalance(books, s, 10)
    row[F_BID_DEPTH] = (_depth_10bps(books, s, 0, mid2) * lot) / NANO
    row[F_ASK_DEPTH] = (_depth_10bps(books, s, 1, mid2) * lot) / NANO
    return int(mid2)


@kernel
def _realized_variance(bars: Bars, s: int, window_s: int) -> float:
    """Sum of the squared returns of the last ``window_s`` seconds, oldest first; unknown when any of them is."""
    window = window_s * NANO // bars.clock[1]
    if bars.bars[s] < window:
        return math.nan
    total = 0.0
    for i in range(bars.bars[s] - window, bars.bars[s]):
        value = bars.returns[s, i % RETURNS]
        total += value * value
    return total


@kernel
def _trade_features(bars: Bars, s: int, row: Array) -> None:
    if not bars.trade_ok[s]:
        return
    lot = bars.lot_e9[s]
    row[F_VOLUME] = (bars.volume[s] * lot) / NANO
    row[F_SIGNED] = (bars.signed[s] * lot) / NANO
    if bars.volume[s] > 0 and bars.notional[s] >= 0:
        row[F_VWAP] = bars.notional[s] / bars.volume[s] * bars.tick_e9[s] / NANO


@kernel
def _open_bar(bars: Bars, books: Books, s: int) -> None:
    """Forget the closed bar's sums; windows and the book go on."""
    bars.ofi[s] = 0
    bars.ofi_ok[s] = 1 if _two_sided(books, s) else 0
    bars.trade_ok[s] = 1
    bars.trades[s] = 0
    bars.volume[s] = 0
    bars.signed[s] = 0
    bars.notional[s] = 0
    bars.late[s] = 0
    bars.lost[s] = 0
    books.lost[s] = 0


@kernel
def _close_bar(bars: Bars, books: Books, integers: Array, floats: Array, written: int) -> int:
    """Write a row for every instrument and open the next bar."""
    end = bars.clock[0]
    for s in range(len(bars.tick_e9)):
        row = floats[written]
        row[:] = math.nan
        known = _two_sided(books, s)
        mid2 = _book_features(bars, books, s, row) if known else 0
        if known and bars.ofi_ok[s]:
            row[F_OFI] = (bars.ofi[s] * bars.lot_e9[s]) / NANO
        _trade_features(bars, s, row)
        change = math.nan
        if mid2 > 0 and bars.mid2[s] > 0:
            change = math.log(mid2 / bars.mid2[s])
        bars.mid2[s] = mid2
        bars.returns[s, bars.bars[s] % RETURNS] = change
        bars.bars[s] += 1
        row[F_RETURN] = change
        row[F_RV10] = _realized_variance(bars, s, WINDOWS_S[0])
        row[F_RV60] = _realized_variance(bars, s, WINDOWS_S[1])
        row[F_RV300] = _realized_variance(bars, s, WINDOWS_S[2])
        _shared_features(bars, end, row)
        integers[written, I_BAR_TS] = end
        integers[written, I_TS_KNOWN] = bars.clock[2]
        integers[written, I_SLOT] = s
        integers[written, I_VALID] = 1 if known else 0
        integers[written, I_LATE] = bars.late[s]
        integers[written, I_LOST] = bars.lost[s] + books.lost[s]
        integers[written, I_TRADES] = bars.trades[s] if bars.trade_ok[s] else -1
        _open_bar(bars, books, s)
        written += 1
    bars.clock[0] = end + bars.clock[1]
    return written


@kernel
def _shared_features(bars: Bars, end: int, row: Array) -> None:
    """The values of the underlying, with their age at the end of the bar."""
    if bars.shared_ts[0] >= 0:
        atm = bars.shared[0]
        row[F_ATM] = atm
        row[F_RR] = bars.shared[1]
        row[F_SLOPE] = bars.shared[2]
        row[F_SURFACE_AGE] = (end - bars.shared_ts[0]) / NANO
        window_ns = WINDOWS_S[2] * NANO
        row[F_VRP] = atm * atm - row[F_RV300] * (YEAR_NS / window_ns)
    if bars.shared_ts[1] >= 0:
        row[F_FUNDING] = bars.shared[3]
        row[F_FUNDING_AGE] = (end - bars.shared_ts[1]) / NANO


@kernel
def advance(
    bars: Bars, books: Books, stream_ts: int, ts_recv: int, integers: Array, floats: Array, written: int
) -> int:
    """Let stream time reach a row: close every bar whose end it passes. Returns the rows written so far.

    The bar (end - interval, end] closes at the first row whose stream time lies beyond its end. That row makes the
    bar known, so its ``ts_recv`` counts into ``ts_known``.
    """
    interval = bars.clock[1]
    bars.clock[2] = max(bars.clock[2], ts_recv)
    if bars.clock[0] == 0:
        bars.clock[0] = -(-stream_ts // interval) * interval
    while stream_ts > bars.clock[0]:
        written = _close_bar(bars, books, integers, floats, written)
    return written


@kernel
def _touch_changed(bars: Bars, books: Books, s: int) -> None:
    """Add an event's order flow imbalance (Cont, Kukanov and Stoikov 2014, eq. 2), in size increments."""
    if not _two_sided(books, s):
        bars.touch_ok[s] = 0
        bars.ofi_ok[s] = 0
        return
    top_bid, top_ask = books.levels[s, 0] - 1, books.levels[s, 1] - 1
    bid, ask = books.key[s, 0, top_bid], -books.key[s, 1, top_ask]
    bid_size, ask_size = books.size[s, 0, top_bid], books.size[s, 1, top_ask]
    old = bars.touch[s]
    if bars.touch_ok[s]:
        if bid >= old[0]:
            bars.ofi[s] += bid_size
        if bid <= old[0]:
            bars.ofi[s] -= old[1]
        if ask <= old[2]:
            bars.ofi[s] -= ask_size
        if ask >= old[2]:
            bars.ofi[s] += old[3]
    old[0], old[1], old[2], old[3] = bid, bid_size, ask, ask_size
    bars.touch_ok[s] = 1


@kernel
def book_rows(
    bars: Bars, books: Books, slot: Array, stream_ts: Array, ts_recv: Array, seq: Array, prev_id: Array,
    update_id: Array, side: Array, price: Array, size: Array, flags: Array, integers: Array, floats: Array,
) -> int:  # fmt: skip
    """Take rows of kind ``book``; slot -1 is an unknown instrument, whose rows only move the clock."""
    written = 0
    for i in range(len(slot)):
        written = advance(bars, books, stream_ts[i], ts_recv[i], integers, floats, written)
        s = slot[i]
        if s < 0:
            continue
        done = book_row(books, s, seq[i], prev_id[i], update_id[i], side[i], price[i], size[i], flags[i])
        if done == 1 or done == 3:
            _touch_changed(bars, books, s)
    return written


@kernel
def trade_rows(
    bars: Bars, books: Books, slot: Array, ts_event: Array, stream_ts: Array, ts_recv: Array, seq: Array,
    price: Array, size: Array, aggressor: Array, integers: Array, floats: Array,
) -> int:  # fmt: skip
    """Take rows of kind ``trade``.

    A repeated ``seq`` is a duplicate and ignored. A ``seq`` that jumps, or a trade without a positive price and size,
    makes the open bar's trade features null. A trade of a bar that has closed is counted as late and left out.
    """
    written = 0
    for i in range(len(slot)):
        written = advance(bars, books, stream_ts[i], ts_recv[i], integers, floats, written)
        s = slot[i]
        if s < 0:
            continue
        expected = bars.trade_seq[s] + 1
        if seq[i] < expected:
            continue
        if seq[i] > expected and expected > 0:
            bars.lost[s] += seq[i] - expected
            bars.trade_ok[s] = 0
        bars.trade_seq[s] = seq[i]
        if ts_event[i] <= bars.clock[0] - bars.clock[1]:
            bars.late[s] += 1
            continue
        if price[i] <= 0 or size[i] <= 0:
            bars.trade_ok[s] = 0
            continue
        bars.trades[s] += 1
        bars.volume[s] += size[i]
        bars.signed[s] += aggressor[i] * size[i]
        if float(price[i]) * float(size[i]) + float(abs(bars.notional[s])) < MAX_NOTIONAL and bars.notional[s] >= 0:
            bars.notional[s] += price[i] * size[i]
        else:
            bars.notional[s] = -1
    return written


@kernel
def quote_rows(
    first: int, stop_ts: int, stream_ts: Array, ts_event: Array, index: Array, seq: Array, bid: Array, ask: Array,
    scale: Array, forward_e9: Array, inverse: Array, last_seq: Array, last_ts: Array, mid: Array, forward: Array,
) -> int:  # fmt: skip
    """Take option quotes from row ``first`` up to the first row whose stream time passes ``stop_ts``.

    ``mid[j]`` is the undiscounted mid price in quote currency of option j (coin price times forward for inverse
    options), NaN unless bid and ask are both there and ordered. A quote older than the one we have is left out.
    Returns the row to go on with.
    """
    for i in range(first, len(index)):
        if stream_ts[i] > stop_ts:
            return i
        j = index[i]
        if j < 0 or seq[i] <= last_seq[j]:
            continue
        last_seq[j] = seq[i]
        if ts_event[i] < last_ts[j]:
            continue
        last_ts[j] = ts_event[i]
        forward[j] = forward_e9[i] / NANO if forward_e9[i] > 0 else math.nan
        if bid[i] > 0 and ask[i] >= bid[i]:
            mid[j] = (bid[i] + ask[i]) * scale[j] / (2 * NANO)
            if inverse[j]:
                mid[j] *= forward[j]
        else:
            mid[j] = math.nan
    return len(index)
