"""Order books over time: level-2 events in, the best levels after every complete event out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa

from features.book_state import PENDING, Books, book_row, empty_books, is_crossed, select
from features.errors import BadInputError
from features.event_frames import FRAME_REMEDY, event_batch
from features.events import LAST, NANO, EventBatch, Kind
from features.kernel import row_kernel

Array = np.ndarray[Any, Any]

Deltas: TypeAlias = pl.DataFrame | pa.Table | pa.RecordBatch | EventBatch | Iterable[EventBatch]

BOOK_NUMBERS: Final = ("prev_id", "update_id", "side", "price", "size", "flags")

_FIRST: Final = ("instrument", "update_id", "ts_event", "ts_recv")

_LEVEL_COLUMNS: Final = ("bid_price", "bid_size", "ask_price", "ask_size")


@row_kernel
def _replay(
    books: Books, slot: Array, seq: Array, prev_id: Array, update_id: Array, side: Array, price: Array, size: Array,
    flags: Array, levels: int, out_row: Array, state: Array, out: Array,
) -> int:  # fmt: skip
    """Replay rows; after every complete event write its row's number, (valid, crossed), and the best levels.

    ``out`` has shape (4 levels, rows): bid price, bid size, ask price, ask size of level 0, then of level 1 ...; -1
    where there is no level or the book is invalid.
    """
    written = 0
    for i in range(len(slot)):
        s = slot[i]
        done = book_row(books, s, seq[i], prev_id[i], update_id[i], side[i], price[i], size[i], flags[i])
        if (flags[i] & LAST) == 0 or done == PENDING:
            continue
        out_row[written] = i
        state[0, written] = books.valid[s]
        state[1, written] = is_crossed(books, s)
        for level in range(levels):
            for side_index in range(2):
                at = books.end[s, side_index] - 1 - level
                column = 4 * level + 2 * side_index
                if at >= books.begin[s, side_index] and books.valid[s]:
                    sign = 1 if side_index == 0 else -1
                    out[column, written] = sign * books.key[s, side_index, at]
                    out[column + 1, written] = books.size[s, side_index, at]
                else:
                    out[column, written] = -1
                    out[column + 1, written] = -1
        written += 1
    return written


def replay_l2(
    deltas: Deltas, instruments: pl.DataFrame | None = None, levels: int = 1, *, drop_crossing: bool = False
) -> pl.DataFrame:
    """Rebuild the books of a run of events; one row after every complete event.

    A half-applied event is never visible. Duplicates (by ``seq``), stale events and deltas to a book that waits for its
    snapshot change nothing; a lost row, a broken chain of ids and an impossible level make the book invalid until the
    next snapshot (:func:`features.book_state.book_row`). A crossed or locked book is returned as it is, and flagged.

    Args:
        deltas: events in log order: batches, of which kinds other than ``book`` pass unread, or a frame with the
            columns of the kind ``book`` (edge columns may be left out). ``seq`` as the edge gave it, or all zero or
            left out (then rows count as contiguous).
        instruments: rows of the kind ``instrument``: with them, ``best_bid``, ``best_ask`` (quote currency) and their
            ``bid_size``, ``ask_size`` (contracts) come as decimal numbers, too.
        levels: how many levels a side to return; level 0 is the best.
        drop_crossing: remove stale levels that a newer one crosses (:func:`features.book_state.empty_books`).

    Returns:
        ``instrument, update_id, ts_event, ts_recv, valid, crossed`` and per level ``bid_price_i, bid_size_i,
        ask_price_i, ask_size_i`` (int64 counts of increments, null where there is no level or the book is invalid).

    Raises:
        BadInputError: a column is missing or of another type, an instrument has no reference data, ``levels`` is below
            1, or ``deltas`` are no events.
    """
    if levels < 1:
        raise BadInputError(f"{levels} levels are none.", "Ask for 1 or more.")
    replay = _Replay(levels, drop_crossing)
    frames = [frame for batch in _batches(deltas) if (frame := replay.rows(batch)) is not None]
    rows = pl.concat(frames) if frames else _frame(replay.nothing(), [], levels)
    return rows if instruments is None else _decimal(rows, instruments)


def _batches(deltas: Deltas) -> Iterator[pa.RecordBatch]:
    if isinstance(deltas, (pl.DataFrame, pa.Table, pa.RecordBatch)):
        deltas = event_batch(Kind.BOOK, "", deltas)
    if isinstance(deltas, EventBatch):
        deltas = [deltas]
    if isinstance(deltas, pl.LazyFrame) or not isinstance(deltas, Iterable):
        raise BadInputError(f"Deltas are a {type(deltas).__name__}, not events.", FRAME_REMEDY)
    for batch in deltas:
        if not isinstance(batch, EventBatch):
            raise BadInputError(f"Deltas hold a {type(batch).__name__}, not batches.", "Concatenate frames to one.")
        if batch.kind is Kind.BOOK and batch.data.num_rows:
            yield batch.data


class _Replay:
    """The books of all instruments seen so far."""

    def __init__(self, levels: int, drop_crossing: bool) -> None:
        self._levels = levels
        self._drop_crossing = drop_crossing
        self._books = empty_books(0)
        self._slots: dict[str, int] = {}
        self._contiguous: dict[str, int] = {}

    def rows(self, data: pa.RecordBatch) -> pl.DataFrame | None:
        """Take a batch; return its complete events."""
        names = data.column(0).dictionary.to_pylist()
        for name in names:
            self._slots.setdefault(name, len(self._slots))
        here = len(self._books.valid)
        if len(self._slots) > here:
            self._books = select(self._books, np.arange(here), len(self._slots) - here, self._drop_crossing)
        code = data.column(0).indices.to_numpy()
        slot = np.array([self._slots[name] for name in names], dtype=np.int64)[code]
        seq = data.column(3).to_numpy()
        if not seq.any():
            seq = self._numbered(slot, names)
        numbers = [data.column(name).to_numpy() for name in BOOK_NUMBERS]
        # An event ends with LAST, so there are no more of them than such rows.
        events = int(np.count_nonzero(data.column("flags").to_numpy() & LAST))
        out_row = np.empty(events, dtype=np.int64)
        state = np.empty((2, events), dtype=np.bool_)
        out = np.empty((4 * self._levels, events), dtype=np.int64)
        everything: Any = (self._books, slot, seq, *numbers, self._levels, out_row, state, out)
        written = _replay(*everything)
        at = pa.array(out_row[:written])
        picked = [data.column(name).take(at) for name in _FIRST]
        return _frame(picked, [*state[:, :written], *out[:, :written]], self._levels)

    def nothing(self) -> list[pa.Array]:
        """The first columns of no rows."""
        return [pa.array([], pa.utf8()), *(pa.array([], pa.int64()) for _ in range(3))]

    def _numbered(self, slot: Array, names: list[str]) -> Array:
        """Sequence numbers for rows that come from a source, before the edge numbered them."""
        seq = np.empty(len(slot), dtype=np.int64)
        for name in names:
            mine = slot == self._slots[name]
            start, count = self._contiguous.get(name, 0), int(mine.sum())
            seq[mine] = np.arange(start, start + count)
            self._contiguous[name] = start + count
        return seq


def _frame(picked: list[pa.Array], arrays: list[Array], levels: int) -> pl.DataFrame:
    empty: list[Any] = [np.zeros(0, np.bool_)] * 2 + [np.zeros(0, np.int64)] * (4 * levels)
    state, numbers = (arrays or empty)[:2], (arrays or empty)[2:]
    instrument = picked[0].cast(pa.utf8()) if pa.types.is_dictionary(picked[0].type) else picked[0]
    columns: dict[str, Any] = dict(zip(_FIRST, [instrument, *picked[1:]], strict=True))
    columns |= {"valid": pa.array(state[0]), "crossed": pa.array(state[1])}
    for i, values in enumerate(numbers):
        columns[f"{_LEVEL_COLUMNS[i % 4]}_{i // 4}"] = pa.array(values, mask=values < 0)
    frame = pl.from_arrow(pa.table(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _decimal(rows: pl.DataFrame, instruments: pl.DataFrame) -> pl.DataFrame:
    if not isinstance(instruments, pl.DataFrame):
        raise BadInputError(f"`instruments` is a {type(instruments).__name__}.", FRAME_REMEDY)
    needed = ("instrument", "price_increment_e9", "size_increment_e9")
    if lacking := [name for name in needed if name not in instruments.columns]:
        raise BadInputError(f"`instruments` lacks {', '.join(lacking)}.", f"It needs {', '.join(needed)}.")
    increments = (
        instruments.group_by("instrument")
        .agg(pl.col("price_increment_e9").last(), pl.col("size_increment_e9").last())
        .with_columns(pl.col("instrument").cast(pl.String))
    )
    joined = rows.join(increments, on="instrument", how="left", maintain_order="left")
    if missing := sorted(joined.filter(pl.col("price_increment_e9").is_null())["instrument"].unique()):
        raise BadInputError(f"No reference data for {', '.join(missing[:5])}.", "Give `instruments` a row for each.")

    def scaled(column: str, increment: str) -> pl.Expr:
        return pl.col(column) * pl.col(increment) / NANO

    return joined.with_columns(
        scaled("bid_price_0", "price_increment_e9").alias("best_bid"),
        scaled("bid_size_0", "size_increment_e9").alias("bid_size"),
        scaled("ask_price_0", "price_increment_e9").alias("best_ask"),
        scaled("ask_size_0", "size_increment_e9").alias("ask_size"),
    ).drop("price_increment_e9", "size_increment_e9")
