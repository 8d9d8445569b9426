"""Level-2 order books: snapshots and deltas in, the best levels out.

Each side is a sorted array whose best level stands last (:mod:`features.book_side`). A level's *key* is
``side * price``: keys ascend towards the best on both sides, and one piece of code serves both.

An event (a run of rows ending with ``LAST``) is staged and applied as a whole: a half-applied event is never
visible. A book is *valid* from a complete snapshot until a row is lost or the venue's chain of ids breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from features.book_side import ROOM, set_level
from features.counts import MAX_COUNT
from features.events import LAST, SESSION_ROWS, SNAPSHOT
from features.kernel import row_kernel

Array = np.ndarray[Any, Any]

NO_LEVEL: Final = -(2**62)
"""Key of a level that is not there: worse than every other."""

MAX_EVENT_ROWS: Final = 65_536
"""Rows of an event: a longer one breaks the book until the next snapshot. Memory is touched only as far as needed."""

PENDING: Final = 0  # the event is not complete
APPLIED: Final = 1  # the event changed the book
IGNORED: Final = 2  # a duplicate, a stale event, or a delta to a book that waits for its snapshot
BROKEN: Final = 3  # the event could not be applied: the book is invalid


class Books(NamedTuple):
    """The books of S instruments, as arrays that kernels read and write.

    Shapes: ``key``, ``size`` (S, 2, ROOM) with side 0 the bids; ``begin`` (S, 2) where the worst level stands and
    ``end`` (S, 2) the position behind the best; the rest (S,), or (S, MAX_EVENT_ROWS) for the rows of the event that is
    not complete yet.
    """

    key: Array
    size: Array
    begin: Array
    end: Array
    update_id: Array
    valid: Array
    last_seq: Array
    lost: Array
    breaks: Array  # how often it became invalid
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
        key=zeros(2, ROOM),
        size=zeros(2, ROOM),
        begin=zeros(2) + ROOM // 2,
        end=zeros(2) + ROOM // 2,
        update_id=zeros(),
        valid=zeros(),
        last_seq=zeros() - 1,
        lost=zeros(),
        breaks=zeros(),
        skip=zeros(),
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
    used = used_part(books)
    for name, old in used.items():
        window = _window(used, name)
        getattr(fresh, name)[(slice(0, len(keep)), *window)] = old[keep]
    return fresh


def used_part(books: Books) -> dict[str, Array]:
    """Every field without the room that no book uses; :func:`refill` puts it back."""
    first, last = int(books.begin.min(initial=ROOM // 2)), int(books.end.max(initial=ROOM // 2))
    staged = int(books.staged.max(initial=0))
    parts = books._asdict()
    for name in ("key", "size"):
        parts[name] = parts[name][:, :, first:last]
    for name in ("staged_side", "staged_key", "staged_size"):
        parts[name] = parts[name][:, :staged]
    return parts


def refill(parts: Mapping[str, Array], drop_crossing: bool) -> Books:
    """Books of what :func:`used_part` gave."""
    books = empty_books(len(parts["valid"]), drop_crossing)
    for name in books._fields:
        getattr(books, name)[(slice(None), *_window(parts, name))] = parts[name]
    return books


def _window(parts: Mapping[str, Array], name: str) -> tuple[slice, ...]:
    """Where a trimmed field belongs in the whole one, behind its first dimension."""
    if name in ("key", "size"):
        first = int(parts["begin"].min(initial=ROOM // 2))
        return (slice(None), slice(first, first + parts[name].shape[2]))
    return tuple(slice(0, length) for length in parts[name].shape[1:])


@row_kernel
def _apply(books: Books, s: int, side: int, level_key: int, level_size: int) -> None:
    books.begin[s, side], books.end[s, side] = set_level(
        books.key[s, side], books.size[s, side], books.begin[s, side], books.end[s, side], level_key, level_size
    )
    if books.drop_crossing[s] and level_size > 0:
        other = 1 - side
        while touch_key(books, s, other) >= -level_key:
            books.end[s, other] -= 1


@row_kernel
def _best_first(books: Books, s: int, rows: int) -> bool:
    """Whether the staged levels of each side come strictly from the best to the worst, as venues send snapshots."""
    last_bid, last_ask = -NO_LEVEL, -NO_LEVEL
    for i in range(rows):
        level_key = books.staged_key[s, i]
        if books.staged_side[s, i] == 0:
            if level_key >= last_bid:
                return False
            last_bid = level_key
        else:
            if level_key >= last_ask:
                return False
            last_ask = level_key
    return True


@row_kernel
def _apply_staged(books: Books, s: int, rows: int) -> None:
    """Set the staged levels in order; a snapshot from its worst level up, where that is the same and only appends."""
    if books.staged_snapshot[s] and _best_first(books, s, rows):
        for i in range(rows - 1, -1, -1):
            _apply(books, s, books.staged_side[s, i], books.staged_key[s, i], books.staged_size[s, i])
    else:
        for i in range(rows):
            _apply(books, s, books.staged_side[s, i], books.staged_key[s, i], books.staged_size[s, i])


@row_kernel
def _commit(books: Books, s: int, update_id: int) -> int:
    """Apply the staged event of instrument ``s`` as a whole."""
    rows = books.staged[s]
    books.staged[s] = 0
    if books.staged_bad[s]:
        books.staged_bad[s] = 0
        invalidate(books, s)
        return BROKEN
    if books.staged_snapshot[s]:
        for side in range(2):
            books.begin[s, side] = ROOM // 2
            books.end[s, side] = ROOM // 2
        books.valid[s] = 1
    elif not books.valid[s] or update_id <= books.update_id[s]:
        return IGNORED
    elif books.staged_prev[s] > books.update_id[s]:
        invalidate(books, s)
        return BROKEN
    _apply_staged(books, s, rows)
    books.update_id[s] = update_id
    return APPLIED


@row_kernel
def depth(books: Books, s: int, side: int) -> int:
    """How many levels a side has; level i, 0 the best, stands at ``books.end[s, side] - 1 - i``."""
    return int(books.end[s, side] - books.begin[s, side])


@row_kernel
def touch_key(books: Books, s: int, side: int) -> int:
    """Key of the best level of a side: the best bid, or the best ask's negative; ``NO_LEVEL`` if there is none."""
    end = books.end[s, side]
    return int(books.key[s, side, end - 1]) if end > books.begin[s, side] else NO_LEVEL


@row_kernel
def is_crossed(books: Books, s: int) -> bool:
    """Valid and two-sided, with the best bid at or above the best ask: crossed or locked."""
    bid, ask = touch_key(books, s, 0), touch_key(books, s, 1)
    return bool(books.valid[s] and bid != NO_LEVEL and ask != NO_LEVEL and bid >= -ask)


@row_kernel
def is_known(books: Books, s: int) -> bool:
    """Valid, two-sided, neither crossed nor locked: what features can be computed from."""
    bid, ask = touch_key(books, s, 0), touch_key(books, s, 1)
    return bool(books.valid[s] and bid != NO_LEVEL and ask != NO_LEVEL and bid < -ask)


@row_kernel
def _apply_row(books: Books, s: int, prev_id: int, update_id: int, side: int, price: int, size: int) -> int:
    """Apply an event of one plain row: what staging and :func:`_commit` would do, at a third of the cost."""
    if not books.valid[s] or update_id <= books.update_id[s]:
        return IGNORED
    if prev_id > books.update_id[s]:
        invalidate(books, s)
        return BROKEN
    if side > 0:
        _apply(books, s, 0, price, size)
    else:
        _apply(books, s, 1, -price, size)
    books.update_id[s] = update_id
    return APPLIED


@row_kernel
def invalidate(books: Books, s: int) -> None:
    """Wait for the next snapshot; what is staged belongs to an event that cannot be completed."""
    if books.valid[s]:
        books.breaks[s] += 1
    books.valid[s] = 0
    books.skip[s] = 1 if books.staged[s] > 0 or books.staged_bad[s] else books.skip[s]
    books.staged[s] = 0
    books.staged_bad[s] = 0


@row_kernel
def _new_seq(books: Books, s: int, seq: int) -> bool:
    """Take a ``seq`` that does not follow the last one: False for a duplicate, else rows were lost."""
    expected = books.last_seq[s] + 1
    if seq < expected:
        return False
    if expected > 0:
        books.lost[s] += seq - expected if seq // SESSION_ROWS == expected // SESSION_ROWS else 1
    invalidate(books, s)
    # The first row of a session begins an event; any other may stand in the middle of one.
    books.skip[s] = 0 if seq % SESSION_ROWS == 0 else 1
    return True


@row_kernel
def book_row(
    books: Books, s: int, seq: int, prev_id: int, update_id: int, side: int, price: int, size: int, flags: int
) -> int:
    """Take one row of the log for instrument ``s``; return what became of its event.

    Whether it broke the book, ``breaks`` tells: the first row of a session may break it and mend it at once.

    - A ``seq`` that was seen already is a duplicate: ignored.
    - A ``seq`` that jumps means lost rows: counted, and the book is invalid until the next complete snapshot. So does
      the start of another session, which counts as one: how many rows lie between nobody knows.
    - A negative size, a price that is not positive, or one of them beyond ``MAX_COUNT`` breaks the event: the book is
      invalid until the next snapshot.
    - A row of price 0 and size 0 carries no level (an empty snapshot still needs a row).
    """
    if seq != books.last_seq[s] + 1 and not _new_seq(books, s, seq):
        return IGNORED
    books.last_seq[s] = seq
    last = (flags & LAST) != 0
    if books.skip[s]:
        if last:
            books.skip[s] = 0
        return IGNORED
    rows = books.staged[s]
    plain = 0 <= size <= MAX_COUNT and 0 < price <= MAX_COUNT
    if rows == 0 and last and plain and (flags & SNAPSHOT) == 0 and not books.staged_bad[s]:
        return _apply_row(books, s, prev_id, update_id, side, price, size)
    if rows == 0:
        books.staged_snapshot[s] = flags & SNAPSHOT
        books.staged_prev[s] = prev_id
    empty = price == 0 and size == 0
    if not (plain or empty) or rows == MAX_EVENT_ROWS:
        books.staged_bad[s] = 1
    elif not empty:
        books.staged_side[s, rows] = 0 if side > 0 else 1
        books.staged_key[s, rows] = price if side > 0 else -price
        books.staged_size[s, rows] = size
        books.staged[s] = rows + 1
    if not last:
        return PENDING
    return _commit(books, s, update_id)
