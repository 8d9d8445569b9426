"""Rows of a table that wait to be written, joined before they are many."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

LOOSE_PARTS: Final = 256
"""Batches that wait before they are copied into one: a batch of one row of a hundred columns takes 75 kB."""


class WaitingBatches:
    """Batches of one schema as they came, in few pieces."""

    def __init__(self) -> None:
        self.rows = 0
        self._loose: list[pa.RecordBatch] = []
        self._joined: list[pa.RecordBatch] = []

    def add(self, rows: pa.RecordBatch) -> None:
        """Put rows behind those that wait."""
        self._loose.append(rows)
        self.rows += rows.num_rows
        if len(self._loose) == LOOSE_PARTS:
            self._join()

    def take(self) -> pa.Table | None:
        """All rows in one piece; None if there are none."""
        self._join()
        if not self._joined:
            return None
        data = pa.Table.from_batches(self._joined).combine_chunks()
        self._joined.clear()
        self.rows = 0
        return data

    def _join(self) -> None:
        if self._loose:
            self._joined += pa.Table.from_batches(self._loose).combine_chunks().to_batches()
            self._loose.clear()


def within(rows: pa.RecordBatch, time: str, start: int | None, end: int | None) -> pa.RecordBatch:
    """The rows whose ``time`` lies in (start, end]; no copy where all do."""
    ends = rows.column(time).to_numpy()
    keep = (ends > (-1 if start is None else start)) & (ends <= (2**63 - 1 if end is None else end))
    return rows if keep.all() else rows.filter(pa.array(keep))


def named(rows: pa.RecordBatch, names: Collection[str]) -> pa.RecordBatch:
    """The rows whose instrument or underlying is named; all, if none is."""
    if not names:
        return rows
    wanted = pa.array(list(names), pa.utf8())
    keep = pc.is_in(rows.column("underlying"), wanted)
    if "instrument" in rows.schema.names:
        keep = pc.or_(keep, pc.is_in(rows.column("instrument"), wanted))
    return rows.filter(keep)
