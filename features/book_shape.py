"""What a book looks like at one moment: prices, imbalances, depth and slope."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.book_state import Books, depth, touch_key
from features.counts import decimal
from features.declared.book import DECAY_BPS, DEPTH_BPS, IMBALANCE_LEVELS, SHAPE_LEVELS, WEIGHTED_MID_LEVELS
from features.events import NANO
from features.kernel import kernel

Array = np.ndarray[Any, Any]

COLUMNS: Final = (
    "best_bid", "best_ask", "mid", "spread_ticks", "spread_bps", "microprice", "weighted_mid",
    *(f"imbalance_{levels}" for levels in IMBALANCE_LEVELS), "imbalance_weighted",
    *(f"{side}_depth_{bps}bps" for bps in DEPTH_BPS for side in ("bid", "ask")),
    *(f"depth_share_{bps}bps" for bps in DEPTH_BPS), "book_slope", "book_curvature",
)  # fmt: skip

_BID, _ASK, _MID, _TICKS, _BPS, _MICRO, _WEIGHTED = range(7)
_IMBALANCE: Final = 7
_EXPONENTIAL: Final = _IMBALANCE + len(IMBALANCE_LEVELS)
_DEPTH: Final = _EXPONENTIAL + 1
_SHARE: Final = _DEPTH + 2 * len(DEPTH_BPS)
_SLOPE: Final = _SHARE + len(DEPTH_BPS)
_CURVATURE: Final = _SLOPE + 1


@kernel
def _distance2(level_key: int, side: int, mid2: int) -> int:
    """Twice the distance of a level from the mid, in increments: x = 1e4 distance2 / mid2 basis points."""
    return mid2 - 2 * level_key if side == 0 else -2 * level_key - mid2


@kernel
def _imbalances(books: Books, s: int, out: Array) -> None:
    bids, asks, level = 0, 0, 0
    for i in range(len(IMBALANCE_LEVELS)):
        while level < IMBALANCE_LEVELS[i]:
            if level < depth(books, s, 0):
                bids += books.size[s, 0, books.end[s, 0] - 1 - level]
            if level < depth(books, s, 1):
                asks += books.size[s, 1, books.end[s, 1] - 1 - level]
            level += 1
        out[_IMBALANCE + i] = (bids - asks) / (bids + asks)


@kernel
def _weighted_mid(books: Books, s: int) -> float:
    """In price increments."""
    price_sum = np.zeros(2)
    size_sum = np.zeros(2, np.int64)
    for side in range(2):
        sign = 1 if side == 0 else -1
        for level in range(min(WEIGHTED_MID_LEVELS, depth(books, s, side))):
            at = books.end[s, side] - 1 - level
            price_sum[side] += float(sign * books.key[s, side, at]) * books.size[s, side, at]
            size_sum[side] += books.size[s, side, at]
    bid, ask = price_sum[0] / size_sum[0], price_sum[1] / size_sum[1]
    return float((bid * size_sum[1] + ask * size_sum[0]) / (size_sum[0] + size_sum[1]))


@kernel
def _exponential_imbalance(books: Books, s: int, mid2: int) -> float:
    """Weights relative to those of the best levels, which lie at one distance: the ratio stays, and none underflows."""
    nearest = 10_000 * _distance2(touch_key(books, s, 0), 0, mid2) / mid2
    total = np.zeros(2)
    for side in range(2):
        for level in range(min(SHAPE_LEVELS, depth(books, s, side))):
            at = books.end[s, side] - 1 - level
            x = 10_000 * _distance2(books.key[s, side, at], side, mid2) / mid2
            total[side] += math.exp((nearest - x) / DECAY_BPS) * books.size[s, side, at]
    return float((total[0] - total[1]) / (total[0] + total[1]))


@kernel
def _depths(books: Books, s: int, side: int, mid2: int, out: Array) -> None:
    """Sizes with x <= DEPTH_BPS[i], compared in integers."""
    total, i = 0, 0
    for level in range(depth(books, s, side)):
        at = books.end[s, side] - 1 - level
        distance2 = _distance2(books.key[s, side, at], side, mid2)
        while i < len(DEPTH_BPS) and distance2 * 10_000 > DEPTH_BPS[i] * mid2:
            out[i] = total
            i += 1
        if i == len(DEPTH_BPS):
            return
        total += books.size[s, side, at]
    while i < len(DEPTH_BPS):
        out[i] = total
        i += 1


@kernel
def _depth_profile(books: Books, s: int, mid2: int, lot_e9: int, out: Array) -> None:
    within_bps = np.zeros((2, len(DEPTH_BPS)), np.int64)
    for side in range(2):
        _depths(books, s, side, mid2, within_bps[side])
    last = len(DEPTH_BPS) - 1
    within = within_bps[0, last] + within_bps[1, last]
    nearer = 0
    for i in range(len(DEPTH_BPS)):
        for side in range(2):
            out[_DEPTH + 2 * i + side] = decimal(within_bps[side, i], lot_e9)
        both = within_bps[0, i] + within_bps[1, i]
        if within > 0:
            out[_SHARE + i] = (both - nearer) / within
        nearer = both


@kernel
def _slope_and_curvature(books: Books, s: int, mid2: int) -> tuple[float, float]:
    """Least squares D = s x + c x^2, in increments of size; by the part of x^2 that x does not explain."""
    xx, xxx, xD = 0.0, 0.0, 0.0
    nearest, farthest = -1, -1
    for side in range(2):
        cumulated = 0
        for level in range(min(SHAPE_LEVELS, depth(books, s, side))):
            at = books.end[s, side] - 1 - level
            cumulated += books.size[s, side, at]
            distance2 = _distance2(books.key[s, side, at], side, mid2)
            if nearest < 0 or distance2 < nearest:
                nearest = distance2
            farthest = max(farthest, distance2)
            x = 10_000 * distance2 / mid2
            xx += x * x
            xxx += x * x * x
            xD += x * cumulated
    if nearest == farthest:
        return math.nan, math.nan
    explained = xxx / xx
    vv, vD = 0.0, 0.0
    for side in range(2):
        cumulated = 0
        for level in range(min(SHAPE_LEVELS, depth(books, s, side))):
            at = books.end[s, side] - 1 - level
            cumulated += books.size[s, side, at]
            x = 10_000 * _distance2(books.key[s, side, at], side, mid2) / mid2
            v = x * x - explained * x
            vv += v * v
            vD += v * cumulated
    curvature = vD / vv
    return xD / xx - curvature * explained, curvature


@kernel
def book_shape(books: Books, s: int, tick_e9: int, lot_e9: int, out: Array) -> int:
    """Fill the columns ``COLUMNS`` from a book that is known; return twice the mid in increments.

    Args:
        books: of S instruments.
        s: which of them; its book is valid, two-sided, neither locked nor crossed.
        tick_e9: price increment in units of 1e-9 of the quote currency.
        lot_e9: size increment in units of 1e-9 contracts.
        out: (len(COLUMNS),), NaN before.
    """
    top_bid, top_ask = books.end[s, 0] - 1, books.end[s, 1] - 1
    bid, ask = books.key[s, 0, top_bid], -books.key[s, 1, top_ask]
    bid_size, ask_size = books.size[s, 0, top_bid], books.size[s, 1, top_ask]
    mid2 = bid + ask
    out[_BID] = decimal(bid, tick_e9)
    out[_ASK] = decimal(ask, tick_e9)
    out[_MID] = decimal(mid2, tick_e9) / 2
    out[_TICKS] = ask - bid
    out[_BPS] = (20_000 * (ask - bid)) / mid2
    out[_MICRO] = (float(bid) * ask_size + float(ask) * bid_size) / (bid_size + ask_size) * tick_e9 / NANO
    out[_WEIGHTED] = _weighted_mid(books, s) * tick_e9 / NANO
    _imbalances(books, s, out)
    out[_EXPONENTIAL] = _exponential_imbalance(books, s, mid2)
    _depth_profile(books, s, mid2, lot_e9, out)
    slope, curvature = _slope_and_curvature(books, s, mid2)
    out[_SLOPE] = slope * lot_e9 / NANO
    out[_CURVATURE] = curvature * lot_e9 / NANO
    return int(mid2)
