"""The book read after every single row: what a peer's loop over deltas does."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.book_state import Books, book_row
from features.kernel import row_kernel

Array = np.ndarray[Any, Any]


@row_kernel
def best_after_rows(
    books: Books, slot: Array, seq: Array, prev_id: Array, update_id: Array, side: Array, price: Array, size: Array,
    flags: Array, out: Array,
) -> None:  # fmt: skip
    """Write (bid price, bid size, ask price, ask size) to ``out`` (N, 4) after each of N rows; -1 without a level."""
    for i in range(len(slot)):
        s = slot[i]
        book_row(books, s, seq[i], prev_id[i], update_id[i], side[i], price[i], size[i], flags[i])
        for side_index in range(2):
            at = books.end[s, side_index] - 1
            if at >= books.begin[s, side_index]:
                out[i, 2 * side_index] = abs(books.key[s, side_index, at])
                out[i, 2 * side_index + 1] = books.size[s, side_index, at]
            else:
                out[i, 2 * side_index] = -1
                out[i, 2 * side_index + 1] = -1


@row_kernel
def imbalance_after_rows(
    books: Books, slot: Array, seq: Array, prev_id: Array, update_id: Array, side: Array, price: Array, size: Array,
    flags: Array, levels: int, out: Array,
) -> None:  # fmt: skip
    """Write (bids - asks) / (bids + asks), sizes of the best ``levels`` a side, to ``out`` (N,) after each row."""
    for i in range(len(slot)):
        s = slot[i]
        book_row(books, s, seq[i], prev_id[i], update_id[i], side[i], price[i], size[i], flags[i])
        bids, asks = 0, 0
        end = books.end[s, 0]
        for at in range(max(books.begin[s, 0], end - levels), end):
            bids += books.size[s, 0, at]
        end = books.end[s, 1]
        for at in range(max(books.begin[s, 1], end - levels), end):
            asks += books.size[s, 1, at]
        out[i] = (bids - asks) / (bids + asks)
