"""The trades of a bar: their sums, how fast they come, what they paid for the spread."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.bar_state import (
    CHANGE,
    COUNT,
    EARLIER,
    END,
    HAS_CHANGE,
    HAS_PRICE,
    KNOWN,
    LARGE,
    LATER,
    MAX_SUM,
    NOTIONAL,
    PAIRS,
    PRICE,
    PRODUCT,
    SIGNED,
    SPREAD,
    SPREAD_BASE,
    VOLUME,
    Bars,
)  # fmt: skip
from features.book_state import Books, is_known, touch_key
from features.counts import MAX_COUNT, decimal
from features.declared.trade import INTENSITY_NS, LARGE_TRADE
from features.events import NANO
from features.feature import window_name
from features.kernel import row_kernel
from features.toxicity import empty_buckets, pour, vpin

Array = np.ndarray[Any, Any]

COLUMNS: Final = (
    "vwap", "volume", "notional", "signed_volume", "buy_share",
    *(f"trade_intensity_{window_name(tau)}" for tau in INTENSITY_NS),
    "effective_spread_bps", "large_trade_share", "vpin",
)  # fmt: skip

MAX_CHANGE: Final = 2**26
"""From one trade to the next, in price increments: pairs with a larger change are left out of Roll's covariance, so
that its integer sums cannot wrap."""

_VWAP, _VOLUME, _NOTIONAL, _SIGNED, _BUY_SHARE = range(5)
_INTENSITY: Final = 5
_SPREAD: Final = _INTENSITY + len(INTENSITY_NS)
_LARGE: Final = _SPREAD + 1
_VPIN: Final = _SPREAD + 2


@row_kernel
def lose_trade(bars: Bars, s: int) -> None:
    """A trade of the open bar is missing: its sums are unknown, and nothing may span the place where it was."""
    bars.trade_ok[s] = 0
    bars.roll[s, HAS_PRICE] = 0
    bars.roll[s, HAS_CHANGE] = 0
    empty_buckets(bars, s)


@row_kernel
def _roll_pair(roll: Array, price: int) -> None:
    """Add the pair of the last two changes of the price to the sums of the open bar."""
    if roll[HAS_PRICE]:
        change = price - roll[PRICE]
        if roll[HAS_CHANGE] and max(abs(change), abs(roll[CHANGE])) < MAX_CHANGE:
            roll[PAIRS] += 1
            roll[PRODUCT] += change * roll[CHANGE]
            roll[LATER] += change
            roll[EARLIER] += roll[CHANGE]
        roll[CHANGE] = change
        roll[HAS_CHANGE] = 1
    roll[PRICE] = price
    roll[HAS_PRICE] = 1


@row_kernel
def take_trade(bars: Bars, books: Books, s: int, stream_ts: int, price: int, size: int, aggressor: int) -> None:
    """Add an on-time trade of instrument ``s`` to the open bar.

    Without a positive price and size, or with one beyond ``MAX_COUNT``, it is unusable and counts as lost. Where a sum
    of price times size would not fit into an int64, ``vwap``, ``notional`` and ``effective_spread_bps`` of the bar are
    null.
    """
    if not (0 < price <= MAX_COUNT and 0 < size <= MAX_COUNT):
        lose_trade(bars, s)
        return
    sums = bars.trades[s]
    sums[COUNT] += 1
    sums[VOLUME] += size
    sums[SIGNED] += aggressor * size
    if aggressor != 0:
        sums[KNOWN] += size
    if float(size) * bars.typical[s, 1] >= float(LARGE_TRADE) * bars.typical[s, 0]:
        sums[LARGE] += size
    if float(price) * float(size) + float(sums[NOTIONAL]) < MAX_SUM:
        sums[NOTIONAL] += price * size
    else:
        bars.too_large[s] = 1
    if aggressor != 0 and is_known(books, s):
        mid2 = touch_key(books, s, 0) - touch_key(books, s, 1)
        paid = aggressor * (2 * price - mid2)
        if (
            max(abs(float(paid)), float(mid2)) * float(size) + float(max(abs(sums[SPREAD]), sums[SPREAD_BASE]))
            < MAX_SUM
        ):
            sums[SPREAD] += size * paid
            sums[SPREAD_BASE] += size * mid2
        else:
            bars.too_large[s] = 1
    for i in range(len(INTENSITY_NS)):
        if bars.intensity_ts[s] >= 0:
            bars.intensity[s, i] *= math.exp(-(stream_ts - bars.intensity_ts[s]) / INTENSITY_NS[i])
        bars.intensity[s, i] += 1.0
    bars.intensity_ts[s] = stream_ts
    _roll_pair(bars.roll[s], price)
    pour(bars, s, size, aggressor)


@row_kernel
def trade_features(bars: Bars, s: int, out: Array) -> None:
    """Fill the columns ``COLUMNS`` of the bar that closes; ``out`` (len(COLUMNS),) holds NaN before."""
    if not bars.trade_ok[s]:
        return
    sums, tick, lot = bars.trades[s], bars.tick_e9[s], bars.lot_e9[s]
    out[_VOLUME] = decimal(sums[VOLUME], lot)
    out[_SIGNED] = decimal(sums[SIGNED], lot)
    contract = bars.contract_e9[s] / NANO
    if bars.inverse[s]:
        out[_NOTIONAL] = decimal(sums[VOLUME], lot) * contract
    if not bars.too_large[s]:
        if not bars.inverse[s]:
            out[_NOTIONAL] = float(sums[NOTIONAL]) * (tick / NANO) * (lot / NANO) * contract
        if sums[VOLUME] > 0:
            out[_VWAP] = sums[NOTIONAL] / sums[VOLUME] * tick / NANO
        if sums[SPREAD_BASE] > 0:
            out[_SPREAD] = 20_000 * (sums[SPREAD] / sums[SPREAD_BASE])
    if sums[KNOWN] > 0:
        out[_BUY_SHARE] = (sums[KNOWN] + sums[SIGNED]) / (2 * sums[KNOWN])
    if sums[VOLUME] > 0 and bars.typical[s, 1] > 0:
        out[_LARGE] = sums[LARGE] / sums[VOLUME]
    if bars.intensity_ts[s] >= 0:
        for i in range(len(INTENSITY_NS)):
            decay = math.exp(-(bars.clock[END] - bars.intensity_ts[s]) / INTENSITY_NS[i])
            out[_INTENSITY + i] = bars.intensity[s, i] * decay / (INTENSITY_NS[i] / NANO)
    out[_VPIN] = vpin(bars, s)


@row_kernel
def open_trades(bars: Bars, s: int) -> None:
    """Forget the closed bar's sums."""
    for i in range(bars.trades.shape[1]):
        bars.trades[s, i] = 0
    bars.trade_ok[s] = 1
    bars.too_large[s] = 0
    for i in (PAIRS, PRODUCT, LATER, EARLIER):
        bars.roll[s, i] = 0
