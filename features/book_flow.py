"""What happens to a book between two moments: order flow, depletion, how often and how lately it changed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from features.bar_state import ASK_DEPLETED, BID_DEPLETED, END, EVENTS, INTERVAL, OFI, OFI_DEEP, Bars
from features.book_state import NO_LEVEL, Books, is_known, touch_key
from features.counts import decimal
from features.declared.book import FLOW_LEVELS
from features.events import NANO
from features.kernel import row_kernel

Array = np.ndarray[Any, Any]

COLUMNS: Final = (
    "order_flow_imbalance", f"order_flow_imbalance_{FLOW_LEVELS}", "bid_depletion", "ask_depletion",
    "quote_intensity", "book_age_s",
)  # fmt: skip


@row_kernel
def _flow_of_level(key: int, size: int, old_key: int, old_size: int) -> int:
    """1{key >= old} size - 1{key <= old} old size: keys ascend towards the best on both sides."""
    flow = 0
    if key >= old_key:
        flow += size
    if key <= old_key:
        flow -= old_size
    return flow


@row_kernel
def book_broke(bars: Bars, s: int) -> None:
    """Take note that the book of instrument ``s`` is unknown, or was for a moment: nothing is compared across it."""
    bars.known[s] = 0
    bars.known_all[s] = 0


@row_kernel
def book_changed(bars: Bars, books: Books, s: int, ts_event: int) -> None:
    """Take note of a book event of instrument ``s`` that was applied.

    Adds the event's order flow and depletion, in size increments, if the book was known before and after it.
    """
    bars.flow[s, EVENTS] += 1
    bars.book_ts[s] = max(bars.book_ts[s], ts_event)
    if not is_known(books, s):
        book_broke(bars, s)
        return
    compare = bars.known[s] != 0
    for side in range(2):
        sign = 1 if side == 0 else -1
        end = books.end[s, side]
        for level in range(FLOW_LEVELS):
            at = end - 1 - level
            there = at >= books.begin[s, side]
            key = books.key[s, side, at] if there else NO_LEVEL
            size = books.size[s, side, at] if there else 0
            old = bars.touch[s, side, level]
            if compare:
                flow = sign * _flow_of_level(key, size, old[0], old[1])
                bars.flow[s, OFI_DEEP] += flow
                if level == 0:
                    bars.flow[s, OFI] += flow
                    gone = 0
                    if key == old[0]:
                        gone = max(old[1] - size, 0)
                    elif key < old[0]:
                        gone = old[1]
                    bars.flow[s, BID_DEPLETED if side == 0 else ASK_DEPLETED] += gone
            old[0], old[1] = key, size
    bars.known[s] = 1
    mid2 = bars.touch[s, 0, 0, 0] - bars.touch[s, 1, 0, 0]
    bars.range2[s, 0] = min(bars.range2[s, 0], mid2)
    bars.range2[s, 1] = max(bars.range2[s, 1], mid2)


@row_kernel
def flow_features(bars: Bars, s: int, out: Array) -> None:
    """Fill the columns ``COLUMNS`` of the bar that closes; ``out`` (len(COLUMNS),) holds NaN before."""
    if bars.known_all[s]:
        lot = bars.lot_e9[s]
        out[0] = decimal(bars.flow[s, OFI], lot)
        out[1] = decimal(bars.flow[s, OFI_DEEP], lot)
        out[2] = decimal(bars.flow[s, BID_DEPLETED], lot)
        out[3] = decimal(bars.flow[s, ASK_DEPLETED], lot)
        out[4] = (bars.flow[s, EVENTS] * NANO) / bars.clock[INTERVAL]
    if bars.book_ts[s] >= 0:
        out[5] = (bars.clock[END] - bars.book_ts[s]) / NANO


@row_kernel
def open_flow(bars: Bars, books: Books, s: int) -> None:
    """Forget the closed bar's flow; the range starts at the mid where the bar before ended."""
    for i in range(bars.flow.shape[1]):
        bars.flow[s, i] = 0
    known = is_known(books, s)
    bars.known_all[s] = 1 if known else 0
    mid2 = touch_key(books, s, 0) - touch_key(books, s, 1) if known else 0
    bars.range2[s, 0] = mid2
    bars.range2[s, 1] = mid2
