"""Rows of one underlying that wait until every other underlying has the same bar."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

MAX_WAITING_BARS: Final = 20_000
"""Bars an underlying may run ahead of the slowest one before the stage stops and says which one is silent.

Five and a half hours of bars of a second. A row of the catalogue's 97 columns takes 0.8 kB of numbers, and 2.2 kB of
memory as it waits (measured, ``WaitingRows`` of 20,000 one-row messages): 45 MB an underlying.
"""

LOOSE_PARTS: Final = 64
"""Batches that wait before they are copied into one: a batch of one row takes 75 kB as it came, with its schema."""


class WaitingRows:
    """Rows of one underlying as they came, in few pieces, with the ends of their bars (ns) beside them."""

    __slots__ = ("_loose", "ends", "parts")

    def __init__(self) -> None:
        self.ends: deque[int] = deque()
        self.parts: deque[pa.RecordBatch] = deque()
        self._loose = 0

    def append(self, rows: pa.RecordBatch, ends: Sequence[int]) -> None:
        """Put rows behind those that wait; ``ends`` has the end of the bar of each, ascending."""
        self.ends.extend(ends)
        self.parts.append(rows)
        self._loose += 1
        if self._loose == LOOSE_PARTS:
            self._loose = 0
            self.parts.append(one_batch([self.parts.pop() for _ in range(LOOSE_PARTS)][::-1]))

    def take(self, count: int, keep: list[int]) -> list[pa.RecordBatch]:
        """Remove the first ``count`` rows and return those at the places ``keep``, as at most one batch.

        Their ``ends`` are the caller's to remove: it reads them one by one to find out how many rows to take.
        """
        found: list[pa.RecordBatch] = []
        while count > 0:
            part = self.parts.popleft()
            found.append(part.slice(0, count))
            if part.num_rows > count:
                self.parts.appendleft(part.slice(count))
            count -= part.num_rows
        self._loose = min(self._loose, len(self.parts))
        return [rows_at(one_batch(found), keep)] if keep else []


def rows_at(rows: pa.RecordBatch, at: list[int]) -> pa.RecordBatch:
    """Rows at ascending places; no copy where they are neighbours."""
    if len(at) == rows.num_rows:
        return rows
    if at and at[-1] - at[0] + 1 == len(at):
        return rows.slice(at[0], len(at))
    return rows.take(pa.array(at, pa.int64()))


def one_batch(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of one schema as one; no copy of a single one."""
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
