"""Tardis ``book_snapshot_N`` and ``quotes``: each row is the whole of what is known of the book."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from features.events import ASK, BID, LAST, SNAPSHOT, Kind
from pipeline.sources.csv_kernels import MISSING
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run
from pipeline.sources.tardis_book import IDS_PER_MICRO
from pipeline.sources.tardis_decoder import TardisContext
from pipeline.sources.tardis_rows import NANOS_PER_MICRO, TardisRows

Array = np.ndarray[Any, Any]


class BookSnapshots:
    """Every row is one snapshot event, bids first; it replaces the book.

    Bad input: a level without price and amount, or with both zero, is none; a row without any level empties the book.
    A row with a faulty number, a negative amount or a price that is not positive is refused whole (``bad_level``,
    ``off_increment``, ...); the book before it stays, and is whole again with the next row. A row that comes twice
    changes nothing. Crossed rows are passed on: the book says that it is crossed.
    """

    def __init__(self, context: TardisContext, source: int) -> None:
        self._context = context
        self._numbers = RunNumbers(source)
        self._last_id: dict[int, int] = {}

    def runs(self, rows: TardisRows) -> Iterator[Run]:
        """One run a row."""
        self._context.claim_books(rows)
        side, price, size, present = self._levels(rows)
        whole: Array = np.logical_and.reduce(present, axis=1)
        full_flags = _flags(len(side))
        for row in np.flatnonzero(rows.good).tolist():
            if whole[row]:
                levels = side, price[row], size[row], full_flags
            else:
                there = present[row]
                levels = side[there], price[row][there], size[row][there], _flags(int(there.sum()))
                if not there.any():
                    none = np.zeros(1, dtype=np.int64)
                    levels = none.astype(np.int8), none, none, _flags(1)
            yield self._run(rows, row, levels)

    def finish(self) -> Iterator[Run]:
        """Nothing waits."""
        return iter(())

    def _levels(self, rows: TardisRows) -> tuple[Array, Array, Array, Array]:
        """Side by level; price, size and presence by row and level."""
        prices, sizes = self._context.by_code(rows)
        places = rows.layout.level_columns()
        safe = np.where(rows.good, rows.code, 0)
        shape = (rows.block.rows, len(places))
        price, size = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        present = np.empty(shape, dtype=np.bool_)
        for level, (_, price_column, size_column) in enumerate(places):
            price[:, level], price_fault = rows.block.counts(price_column, prices, safe)
            size[:, level], size_fault = rows.block.counts(size_column, sizes, safe)
            empty = (price_fault == MISSING) & (size_fault == MISSING)
            empty |= (price_fault == 0) & (size_fault == 0) & (price[:, level] == 0) & (size[:, level] == 0)
            rows.require(np.where(empty, 0, price_fault), "price")
            rows.require(np.where(empty, 0, size_fault), "amount")
            bad = (price[:, level] <= 0) | (size[:, level] < 0)
            rows.refuse(bad & ~empty, "bad_level", "a negative amount, or a price that is not positive")
            present[:, level] = ~empty & (size[:, level] > 0)
        side = np.array([BID if name == "bids" else ASK for name, _, _ in places], dtype=np.int8)
        return side, price, size, present

    def _run(self, rows: TardisRows, row: int, levels: tuple[Array, Array, Array, Array]) -> Run:
        side, price, size, flags = levels
        who, recv_us = int(rows.code[row]), int(rows.recv_us[row])
        update_id = max(self._last_id.get(who, 0) + 1, recv_us * IDS_PER_MICRO)
        self._last_id[who] = update_id
        instrument = rows.instruments[who]
        columns = {
            "instrument": instrument.name,
            "ts_event": int(rows.event_us[row]) * NANOS_PER_MICRO,
            "prev_id": update_id,
            "update_id": update_id,
            "side": side,
            "price": price,
            "size": size,
            "flags": flags,
        }
        return self._numbers.run(Kind.BOOK, recv_us * NANOS_PER_MICRO, instrument.underlying, len(side), columns)


def _flags(rows: int) -> Array:
    flags = np.full(rows, SNAPSHOT, dtype=np.uint8)
    if rows:
        flags[-1] |= LAST
    return flags
