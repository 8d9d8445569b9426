"""Order-flow toxicity: the imbalance of the last full volume buckets (VPIN)."""

from __future__ import annotations

import math

from features.bar_state import BUCKETS_FILLED, FILLED, IMBALANCE, SIZE, Bars
from features.declared.trade import VPIN_BUCKETS
from features.kernel import row_kernel


@row_kernel
def _push(bars: Bars, s: int, imbalance: int, size: int) -> None:
    at = bars.bucket[s, BUCKETS_FILLED] % VPIN_BUCKETS
    bars.buckets[s, at, 0] = imbalance
    bars.buckets[s, at, 1] = size
    bars.bucket[s, BUCKETS_FILLED] += 1


@row_kernel
def pour(bars: Bars, s: int, size: int, aggressor: int) -> None:
    """Pour a trade into the buckets: the open one first, and what is left into new ones of today's size.

    Args:
        bars: of S instruments.
        s: which of them.
        size: of the trade, in increments.
        aggressor: +1, -1, or 0, which fills a bucket and leaves its imbalance.
    """
    left = size
    bucket = bars.bucket[s]
    if bucket[SIZE] == 0:
        bucket[SIZE] = bars.bucket_size[s]
    while left > 0 and bucket[SIZE] > 0:
        poured = min(left, bucket[SIZE] - bucket[FILLED])
        bucket[FILLED] += poured
        bucket[IMBALANCE] += aggressor * poured
        left -= poured
        if bucket[FILLED] < bucket[SIZE]:
            return
        _push(bars, s, abs(bucket[IMBALANCE]), bucket[SIZE])
        bucket[FILLED] = 0
        bucket[IMBALANCE] = 0
        bucket[SIZE] = bars.bucket_size[s] if left > 0 else 0
        # A trade that fills very many buckets leaves only the last ones to be seen.
        if left > 0 and bucket[SIZE] > 0 and left // bucket[SIZE] > VPIN_BUCKETS:
            left -= (left // bucket[SIZE] - VPIN_BUCKETS) * bucket[SIZE]


@row_kernel
def empty_buckets(bars: Bars, s: int) -> None:
    """Forget all buckets: a trade was lost, so nobody knows what they hold."""
    for i in range(bars.bucket.shape[1]):
        bars.bucket[s, i] = 0


@row_kernel
def vpin(bars: Bars, s: int) -> float:
    """sum |V_buy - V_sell| / sum V over the last VPIN_BUCKETS full buckets; NaN before so many are full.

    Easley, Lopez de Prado and O'Hara 2012, Flow toxicity and liquidity in a high-frequency world.
    """
    if bars.bucket[s, BUCKETS_FILLED] < VPIN_BUCKETS:
        return math.nan
    imbalance, volume = 0, 0
    for i in range(VPIN_BUCKETS):
        imbalance += bars.buckets[s, i, 0]
        volume += bars.buckets[s, i, 1]
    return imbalance / volume
