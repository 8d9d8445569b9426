"""Level-2 order books: snapshots and deltas in, the best levels out.

Each side is a sorted array whose best level stands last, so a change near the touch moves few entries. A level's
*key* is ``side * price``: keys ascend towards the best on both sides, and one piece of code serves both.

An event (a run of rows ending with ``LAST``) is staged and applied as a whole: a half-applied event is never
visible. A book is *valid* from a complete snapshot until a row is lost or the venue's chain of ids breaks.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from features.counts import MAX_COUNT
from features.events import LAST, SESSION_ROWS, SNAPSHOT
from features.kernel import kernel

Array = np.ndarray[Any, Any]

MAX_LEVELS: Final = 8192
"""Levels kept a side; beyond that the worst is forgotten, so memory per instrument is bounded."""

NO_LEVEL: Final = -(2**62)
"""Key of a level that is not there: worse than every other."""

MAX_EVENT_ROWS: Final = 65_536
"""Rows of an event: a longer one breaks the book until the next snapshot. Memory is touched only as far as needed."""

BOOK_NUMBERS: Final = ("prev_id", "update_id", "side", "price", "size", "flags")

PENDING: Final = 0  # the event is not complete
APPLIED: Final = 1  # the event changed the book
IGNORED: Final = 2  # a duplicate, a stale event, or a delta to a book that waits for its snapshot
BROKEN: Final = 3  # the book has just become invalid


class Books(NamedTuple):
    """The books of S instruments, as arrays that kernels read and write.

    Shapes: ``key``, ``size`` (S, 2, MAX_LEVELS) with side 0 the bids; ``levels`` (S, 2) how many there are; the
    rest (S,), or (S, MAX_EVENT_ROWS) for the rows of the event that is not complete yet.
    """

    key: Array
    size: Array
    levels: Array
    update_id: Array
    valid: Array
    last_seq: Array
    lost: Array
    skip: Array  # rows are dropped until the next LAST: we came in the middle of an event
    staged: Array
    staged_side: Array
    staged_key: Array
    staged_size: Array
    staged_snapshot: Array
    staged_prev: Array
    staged_bad: Array
    drop_crossing: Array  # whether a delta removes the levels of the other side that it crosses


def empty_books(instruments: int, drop_crossing: bool = False) -> Books:
    """Books of ``instruments`` instruments that wait for their first snapshot.

    Args:
        instruments: how many.
        drop_crossing: public feeds lose deletes now and then, and a level that should be gone stays and crosses the
            market. With this, a delta that sets a level removes what it meets or crosses on the other side; without
            it, the book counts as crossed until the venue resolves it.
    """

    def zeros(*shape: int) -> Array:
        return np.zeros((instruments, *shape), dtype=np.int64)

    return Books(
        key=zeros(2, MAX_LEVELS),
        size=zeros(2, MAX_LEVELS),
        levels=zeros(2),
        update_id=zeros(),
        valid=zeros(),
        last_seq=zeros() - 1,
        lost=zeros(),
        skip=zeros() + 1,
        staged=zeros(),
        staged_side=np.zeros((instruments, MAX_EVENT_ROWS), dtype=np.int8),
        staged_key=zeros(MAX_EVENT_ROWS),
        staged_size=zeros(MAX_EVENT_ROWS),
        staged_snapshot=zeros(),
        staged_prev=zeros(),
        staged_bad=zeros(),
        drop_crossing=zeros() + int(drop_crossing),
    )


def select(books: Books, keep: Array, added: int, drop_crossing: bool = False) -> Books:
    """The books at the positions ``keep``, in that order, and ``added`` empty ones behind them.

    Pages that no level needs stay untouched.
    """
    fresh = empty_books(len(keep) + added, drop_crossing)
    levels, staged = int(books.levels.max(initial=0)), int(books.staged.max(initial=0))
    for name, old, new in zip(books._fields, books, fresh, strict=True):
        used = used_part(name, old, levels, staged)[keep]
        new[tuple(slice(0, length) for length in used.shape)] = used
    return fresh


def used_part(name: str, array: Array, levels: int, staged: int) -> Array:
    """The part of a field of :class:`Books` that holds anything, of ``levels`` levels and ``staged`` staged rows."""
    if name in ("key", "size"):
        return array[:, :, :levels]
    if name.startswith("staged_") and array.ndim == 2:
        return array[:, :staged]
    return array


@kernel
def set_level(key: Array, size: Array, count: int, level_key: int, level_size: int) -> int:
    """Set one level of a side and return the new number of levels. Size 0 deletes; deleting nothing is nothing."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if key[middle] < level_key:
            low = middle + 1
        else:
            high = middle
    if low < count and key[low] == level_key:
        if level_size > 0:
            size[low] = level_size
            return count
        for i in range(low, count - 1):
            key[i] = key[i + 1]
            size[i] = size[i + 1]
        return count - 1
    if level_size == 0:
        return count
    if count == MAX_LEVELS:
        if low == 0:
            return count
        for i in range(low - 1):
            key[i] = key[i + 1]
            size[i] = size[i + 1]
        key[low - 1] = level_key
        size[low - 1] = level_size
        return count
    for i in range(count, low, -1):
        key[i] = key[i - 1]
        size[i] = size[i - 1]
    key[low] = level_key
    size[low] = level_size
    return count + 1


@kernel
def _commit(books: Books, s: int, update_id: int) -> int:
    """Apply the staged event of instrument ``s`` as a whole."""
    rows = books.staged[s]
    books.staged[s] = 0
    if books.staged_bad[s]:
        books.staged_bad[s] = 0
        books.valid[s] = 0
        return BROKEN
    if books.staged_snapshot[s]:
        books.levels[s, 0] = 0
        books.levels[s, 1] = 0
        books.valid[s] = 1
    elif not books.valid[s] or update_id <= books.update_id[s]:
        return IGNORED
    elif books.staged_prev[s] > books.update_id[s]:
        books.valid[s] = 0
        return BROKEN
    for i in range(rows):
        side, level_key, level_size = books.staged_side[s, i], books.staged_key[s, i], books.staged_size[s, i]
        books.levels[s, side] = set_level(
            books.key[s, side], books.size[s, side], books.levels[s, side], level_key, level_size
        )
        if books.drop_crossing[s] and level_size > 0:
            other = 1 - side
            while books.levels[s, other] > 0 and -books.key[s, other, books.levels[s, other] - 1] <= level_key:
                books.levels[s, other] -= 1
    books.update_id[s] = update_id
    return APPLIED


@kernel
def touch_key(books: Books, s: int, side: int) -> int:
    """Key of the best level of a side: the best bid, or the best ask's negative; ``NO_LEVEL`` if there is none."""
    count = books.levels[s, side]
    return int(books.key[s, side, count - 1]) if count > 0 else NO_LEVEL


@kernel
def is_crossed(books: Books, s: int) -> bool:
    """Valid and two-sided, with the best bid at or above the best ask: crossed or locked."""
    bid, ask = touch_key(books, s, 0), touch_key(books, s, 1)
    return bool(books.valid[s] and bid != NO_LEVEL and ask != NO_LEVEL and bid >= -ask)


@kernel
def is_known(books: Books, s: int) -> bool:
    """Valid, two-sided, neither crossed nor locked: what features can be computed from."""
    bid, ask = touch_key(books, s, 0), touch_key(books, s, 1)
    return bool(books.valid[s] and bid != NO_LEVEL and ask != NO_LEVEL and bid < -ask)


@kernel
def invalidate(books: Books, s: int) -> None:
    """Wait for the next snapshot; what is staged belongs to an event that cannot be completed."""
    books.valid[s] = 0
    books.skip[s] = 1 if books.staged[s] > 0 or books.staged_bad[s] else books.skip[s]
    books.staged[s] = 0
    books.staged_bad[s] = 0


@kernel
def book_row(
    books: Books, s: int, seq: int, prev_id: int, update_id: int, side: int, price: int, size: int, flags: int
) -> int:
    """Take one row of the log for instrument ``s``; return what it did to the book.

    - A ``seq`` that was seen already is a duplicate: ignored.
    - A ``seq`` that jumps means lost rows: counted, and the book is invalid until the next complete snapshot. So does
      the start of another session, which counts as one: how many rows lie between nobody knows.
    - A negative size, a price that is not positive, or one of them beyond ``MAX_COUNT`` breaks the event: the book is
      invalid until the next snapshot.
    - A row of price 0 and size 0 carries no level (an empty snapshot still needs a row).
    """
    expected = books.last_seq[s] + 1
    if seq < expected:
        return IGNORED
    broke = False
    if seq > expected:
        if expected > 0:
            books.lost[s] += seq - expected if seq // SESSION_ROWS == expected // SESSION_ROWS else 1
        broke = books.valid[s] != 0
        invalidate(books, s)
        books.skip[s] = 1
    if seq % SESSION_ROWS == 0:
        books.skip[s] = 0
    books.last_seq[s] = seq
    last = (flags & LAST) != 0
    if books.skip[s]:
        if last:
            books.skip[s] = 0
        return BROKEN if broke else IGNORED
    rows = books.staged[s]
    if rows == 0:
        books.staged_snapshot[s] = flags & SNAPSHOT
        books.staged_prev[s] = prev_id
    empty = price == 0 and size == 0
    if size < 0 or size > MAX_COUNT or price > MAX_COUNT or (price <= 0 and not empty) or rows == MAX_EVENT_ROWS:
        books.staged_bad[s] = 1
    elif not empty:
        books.staged_side[s, rows] = 0 if side > 0 else 1
        books.staged_key[s, rows] = price if side > 0 else -price
        books.staged_size[s, rows] = size
        books.staged[s] = rows + 1
    if not last:
        return PENDING
    return _commit(books, s, update_id)
