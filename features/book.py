"""Level-2 order books: snapshots and deltas in, the best levels out.

Each side is a sorted array whose best level stands last, so a change near the touch moves few entries. A level's
*key* is ``side * price``: keys ascend towards the best on both sides, and one piece of code serves both.

An event (a run of rows ending with ``LAST``) is staged and applied as a whole: a half-applied event is never
visible. A book is *valid* from a complete snapshot until a row is lost or the venue's chain of ids breaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from features.events import LAST, SNAPSHOT, EventBatch, Kind
from features.kernel import kernel

Array = np.ndarray[Any, Any]

MAX_LEVELS: Final = 4096
"""Levels kept a side; beyond that the worst is forgotten, so memory per instrument is bounded."""

MAX_EVENT_ROWS: Final = 2 * MAX_LEVELS

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


def empty_books(instruments: int) -> Books:
    """Books of ``instruments`` instruments that wait for their first snapshot."""

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
    )


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
        side = books.staged_side[s, i]
        books.levels[s, side] = set_level(
            books.key[s, side],
            books.size[s, side],
            books.levels[s, side],
            books.staged_key[s, i],
            books.staged_size[s, i],
        )
    books.update_id[s] = update_id
    return APPLIED


@kernel
def book_row(
    books: Books, s: int, seq: int, prev_id: int, update_id: int, side: int, price: int, size: int, flags: int
) -> int:
    """Take one row of the log for instrument ``s``; return what it did to the book.

    - A ``seq`` that was seen already is a duplicate: ignored.
    - A ``seq`` that jumps means lost rows: counted, and the book is invalid until the next complete snapshot.
    - A negative size or a price that is not positive breaks the event: the book is invalid until the next snapshot.
    - A row of price 0 and size 0 carries no level (an empty snapshot still needs a row).
    """
    expected = books.last_seq[s] + 1
    if seq < expected:
        return IGNORED
    broke = False
    if seq > expected:
        if expected > 0:
            books.lost[s] += seq - expected
        broke = books.valid[s] != 0
        books.valid[s] = 0
        books.staged[s] = 0
        books.staged_bad[s] = 0
        books.skip[s] = 1
    elif seq == 0:
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
    if size < 0 or (price <= 0 and not empty) or rows == MAX_EVENT_ROWS:
        books.staged_bad[s] = 1
    elif not empty:
        books.staged_side[s, rows] = 0 if side > 0 else 1
        books.staged_key[s, rows] = price if side > 0 else -price
        books.staged_size[s, rows] = size
        books.staged[s] = rows + 1
    if not last:
        return PENDING
    return _commit(books, s, update_id)


@kernel
def _replay(
    books: Books,
    slot: Array,
    seq: Array,
    prev_id: Array,
    update_id: Array,
    side: Array,
    price: Array,
    size: Array,
    flags: Array,
    levels: int,
    out_row: Array,
    out: Array,
) -> int:
    """Replay rows and write a line of ``out`` after every complete event: valid, then (price, size) bid and ask."""
    written = 0
    for i in range(len(slot)):
        s = slot[i]
        done = book_row(books, s, seq[i], prev_id[i], update_id[i], side[i], price[i], size[i], flags[i])
        if (flags[i] & LAST) == 0 or done == PENDING:
            continue
        out_row[written] = i
        out[written, 0] = books.valid[s]
        for level in range(levels):
            for side_index in range(2):
                at = books.levels[s, side_index] - 1 - level
                column = 1 + 4 * level + 2 * side_index
                if at >= 0:
                    sign = 1 if side_index == 0 else -1
                    out[written, column] = sign * books.key[s, side_index, at]
                    out[written, column + 1] = books.size[s, side_index, at]
                else:
                    out[written, column] = -1
                    out[written, column + 1] = -1
        written += 1
    return written


def replay_l2(deltas: Iterable[EventBatch], levels: int = 1) -> pl.DataFrame:
    """Rebuild the books of a run of events; one row after every complete event.

    Args:
        deltas: events in log order; kinds other than ``book`` pass unread. ``seq`` as the edge gave it, or all
            zero as a source yields it (then rows count as contiguous).
        levels: how many levels a side to return; level 0 is the best.

    Returns:
        ``instrument, update_id, ts_event, ts_recv, valid, crossed`` and per level ``bid_price_i, bid_size_i,
        ask_price_i, ask_size_i`` (counts of increments, null where there is no level or the book is invalid).
    """
    slots: dict[str, int] = {}
    books = empty_books(0)
    frames: list[pl.DataFrame] = []
    sent: dict[str, int] = {}
    for batch in deltas:
        if batch.kind is not Kind.BOOK or batch.data.num_rows == 0:
            continue
        names = batch.data.column(0).dictionary.to_pylist()
        for name in names:
            slots.setdefault(name, len(slots))
        if len(slots) > len(books.valid):
            books = grow(books, len(slots))
        frames.append(_replay_batch(books, batch.data, names, slots, sent, levels))
    return (
        pl.concat(frames) if frames else _replay_frame([], [], [], [], np.zeros((0, 1 + 4 * levels), np.int64), levels)
    )


def grow(books: Books, instruments: int) -> Books:
    """The same books with room for more instruments."""
    larger = empty_books(instruments)
    for old, new in zip(books, larger, strict=True):
        new[: len(old)] = old
    return larger


def _replay_batch(
    books: Books, data: pa.RecordBatch, names: list[str], slots: dict[str, int], sent: dict[str, int], levels: int
) -> pl.DataFrame:
    column = {name: data.column(name) for name in data.schema.names}
    code = column["instrument"].indices.to_numpy()
    slot = np.array([slots[name] for name in names], dtype=np.int64)[code]
    seq = column["seq"].to_numpy()
    if not seq.any():
        seq = _contiguous(slot, names, slots, sent)
    rows = data.num_rows
    out_row = np.empty(rows, dtype=np.int64)
    out = np.empty((rows, 1 + 4 * levels), dtype=np.int64)
    prev_id, update_id, side, price, size, flags = (column[name].to_numpy() for name in BOOK_NUMBERS)
    written = _replay(books, slot, seq, prev_id, update_id, side, price, size, flags, levels, out_row, out)
    at = out_row[:written]
    return _replay_frame(
        [names[c] for c in code[at]],
        column["update_id"].to_numpy()[at],
        column["ts_event"].to_numpy()[at],
        column["ts_recv"].to_numpy()[at],
        out[:written],
        levels,
    )


def _contiguous(slot: Array, names: Sequence[str], slots: dict[str, int], sent: dict[str, int]) -> Array:
    """Sequence numbers for rows that come from a source, before the edge numbered them."""
    seq = np.empty(len(slot), dtype=np.int64)
    for name in names:
        mine = slot == slots[name]
        count = int(mine.sum())
        start = sent.get(name, 0)
        seq[mine] = np.arange(start, start + count)
        sent[name] = start + count
    return seq


def _replay_frame(
    instrument: list[str], update_id: Any, ts_event: Any, ts_recv: Any, out: Array, levels: int
) -> pl.DataFrame:
    frame: dict[str, pl.Series] = {
        "instrument": pl.Series("instrument", instrument, dtype=pl.String),
        "update_id": pl.Series("update_id", update_id, dtype=pl.Int64),
        "ts_event": pl.Series("ts_event", ts_event, dtype=pl.Int64),
        "ts_recv": pl.Series("ts_recv", ts_recv, dtype=pl.Int64),
        "valid": pl.Series("valid", out[:, 0] != 0, dtype=pl.Boolean),
        "crossed": pl.Series("crossed", (out[:, 1] >= out[:, 3]) & (out[:, 1] > 0) & (out[:, 3] > 0), dtype=pl.Boolean),
    }
    known = out[:, 0] != 0
    for level in range(levels):
        for offset, name in enumerate(("bid_price", "bid_size", "ask_price", "ask_size")):
            values = out[:, 1 + 4 * level + offset]
            frame[f"{name}_{level}"] = pl.Series(values).set(pl.Series(~known | (values < 0)), None)
    return pl.DataFrame(frame)
