"""Tardis ``incremental_book_L2``: level changes and their snapshots become book events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from features.book_side import MAX_LEVELS
from features.book_state import MAX_EVENT_ROWS
from features.events import ASK, BID, LAST, SNAPSHOT, Kind
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run
from pipeline.sources.tardis_decoder import TardisContext
from pipeline.sources.tardis_instruments import TardisInstrument
from pipeline.sources.tardis_rows import NANOS_PER_MICRO, TardisRows

Array = np.ndarray[Any, Any]

IDS_PER_MICRO: Final = 1_024
"""An event's ``update_id`` is its local_timestamp (µs) times this, plus its place among events of that time."""

_EMPTY: Final[tuple[Array, ...]] = (np.empty(0, dtype=np.int64),) * 8


class IncrementalBook:
    """Rows of one instrument with the same local_timestamp and is_snapshot are one event.

    The vendor's rule: where is_snapshot turns true, the book so far is void. So the first event of a run of snapshot
    events clears the book; those that follow it at other times add to it.

    Bad input:

    - A row that is refused (see :meth:`.tardis_rows.TardisFile.rows`; also a price or size that is no whole number of
      increments, a negative amount, a price that is not positive, a side other than bid and ask) takes its whole event
      with it, and the chain of ids breaks: the book is invalid until the next snapshot rather than wrong.
    - A file that begins without a snapshot: deltas are passed on, and no book takes them before its first snapshot.
    - A row that comes twice sets the same level twice: no harm. Amount 0 deletes; deleting nothing is nothing.
    - A snapshot deeper than a reader's book is cut to its best levels; a longer delta event becomes several.

    Memory: one block of the file and the longest event.
    """

    def __init__(self, context: TardisContext, source: int) -> None:
        self._context = context
        self._numbers = RunNumbers(source)
        self._waiting = _EMPTY
        self._last_id: dict[int, int] = {}
        self._in_snapshot: dict[int, bool] = {}
        self._instruments: list[TardisInstrument] = []

    def runs(self, rows: TardisRows) -> Iterator[Run]:
        """All events but the last, which may go on in the next block."""
        self._instruments = rows.instruments
        self._context.claim_books(rows)
        fresh = self._columns(rows)
        columns = tuple(np.concatenate(pair) for pair in zip(self._waiting, fresh, strict=True))
        code, recv, snapshot = columns[:3]
        changed = (code[1:] != code[:-1]) | (recv[1:] != recv[:-1]) | (snapshot[1:] != snapshot[:-1])
        starts = np.concatenate([[0], np.flatnonzero(changed) + 1]).tolist()
        self._waiting = tuple(column[starts[-1] :] for column in columns)
        yield from self._events(columns, starts)

    def finish(self) -> Iterator[Run]:
        """The last event."""
        columns, self._waiting = self._waiting, _EMPTY
        if len(columns[0]):
            yield from self._events(columns, [0, len(columns[0])])

    def _columns(self, rows: TardisRows) -> tuple[Array, ...]:
        """Per row: instrument, both times, whether of a snapshot, side, price, size, and whether it is good."""
        prices, sizes = self._context.by_code(rows)
        at, block = rows.layout.columns, rows.block
        safe = np.where(rows.good, rows.code, 0)
        price, price_fault = block.counts(at["price"], prices, safe)
        size, size_fault = block.counts(at["amount"], sizes, safe)
        rows.require(price_fault, "price")
        rows.require(size_fault, "amount")
        rows.refuse((price <= 0) | (size < 0), "bad_level", "a negative amount, or a price that is not positive")
        is_bid, is_ask = block.equals(at["side"], b"bid"), block.equals(at["side"], b"ask")
        snapshot = block.equals(at["is_snapshot"], b"true")
        rows.refuse(~(is_bid | is_ask), "unexpected_form", "side is bid or ask")
        told = snapshot | block.equals(at["is_snapshot"], b"false")
        rows.refuse(~told, "unexpected_form", "is_snapshot is true or false")
        # A row that does not tell is of the event around it, so that its loss takes that event.
        at_told = np.maximum.accumulate(np.where(told, np.arange(len(told)), -1))
        before = bool(self._waiting[2][-1]) if len(self._waiting[2]) else False
        in_snapshot = np.where(at_told < 0, before, snapshot[at_told]).astype(np.int64)
        side = np.where(is_bid, BID, ASK)
        return rows.code, rows.recv_us, in_snapshot, rows.event_us, side, price, size, rows.good

    def _events(self, columns: tuple[Array, ...], starts: list[int]) -> Iterator[Run]:
        code, recv, snapshot, event, side, price, size, good = columns
        first = np.array(starts[:-1], dtype=np.int64)
        if len(first) == 0:
            return
        end_of_last = starts[-1]
        happened = np.maximum.reduceat(event[:end_of_last], first)
        whole = np.minimum.reduceat(good[:end_of_last], first)
        flags = np.zeros(len(code), dtype=np.uint8)
        flags[np.array(starts[1:]) - 1] = LAST
        side = side.astype(np.int8)
        each = (column.tolist() for column in (code[first], recv[first], snapshot[first], happened, whole))
        for who, recv_us, is_snapshot, event_us, is_whole, start, end in zip(
            *each, starts[:-1], starts[1:], strict=True
        ):
            if who < 0:
                continue
            clears = bool(is_snapshot) and not self._in_snapshot.get(who, False)
            self._in_snapshot[who] = bool(is_snapshot)
            if not is_whole:
                self._next_id(who, recv_us)
                continue
            levels: tuple[Array, ...] = side[start:end], price[start:end], size[start:end], flags[start:end]
            parts: list[tuple[Array, ...]] = [levels]
            if end - start > MAX_EVENT_ROWS:
                parts = [_best(levels)] if clears else _parts(levels)
            for part in parts:
                yield self._run(who, recv_us, event_us, part, clears)

    def _run(self, who: int, recv_us: int, event_us: int, levels: tuple[Array, ...], clears: bool) -> Run:
        side, price, size, flags = levels
        before = self._last_id.get(who)
        update_id = self._next_id(who, recv_us)
        if clears:
            flags |= SNAPSHOT
            prev_id = update_id
        else:  # the first delta of a file follows no book that we know: the gap shows
            prev_id = update_id - 1 if before is None else before
        instrument = self._instruments[who]
        columns = {
            "instrument": instrument.name,
            "ts_event": event_us * NANOS_PER_MICRO,
            "prev_id": prev_id,
            "update_id": update_id,
            "side": side,
            "price": price,
            "size": size,
            "flags": flags,
        }
        return self._numbers.run(Kind.BOOK, recv_us * NANOS_PER_MICRO, instrument.underlying, len(side), columns)

    def _next_id(self, who: int, recv_us: int) -> int:
        update_id = max(self._last_id.get(who, 0) + 1, recv_us * IDS_PER_MICRO)
        self._last_id[who] = update_id
        return update_id


def _best(levels: tuple[Array, ...]) -> tuple[Array, ...]:
    """The levels of a snapshot that a reader's book can hold; of a level that comes twice, the later row."""
    side, price, size, _ = levels
    keep: list[Array] = []
    for sign in (BID, ASK):
        mine = np.flatnonzero(side == sign)[::-1]
        _, first = np.unique(-sign * price[mine], return_index=True)
        keep.append(mine[first[:MAX_LEVELS]])
    rows = np.concatenate(keep)
    return side[rows], price[rows], size[rows], _last_only(len(rows))


def _parts(levels: tuple[Array, ...]) -> list[tuple[Array, ...]]:
    side, price, size, _ = levels
    cuts = [slice(at, min(at + MAX_EVENT_ROWS, len(side))) for at in range(0, len(side), MAX_EVENT_ROWS)]
    return [(side[cut], price[cut], size[cut], _last_only(cut.stop - cut.start)) for cut in cuts]


def _last_only(rows: int) -> Array:
    flags = np.zeros(rows, dtype=np.uint8)
    flags[-1] = LAST
    return flags
