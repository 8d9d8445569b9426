"""Messages of a LOBSTER day beside the order book after each of them, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.sources.base import OnReject, Reject
from pipeline.sources.csv_fields import CsvBlock, csv_block, read_blocks
from pipeline.sources.csv_kernels import MISSING
from pipeline.sources.decimals import REASONS, Increment

Array = np.ndarray[Any, Any]


class Numbers(NamedTuple):
    """Consecutive rows of one file as integers.

    ``value`` (rows, columns); ``good`` (rows,): every number of the row is one; ``line`` its number in the file.
    """

    value: Array
    good: Array
    line: Array

    def take(self, start: int, end: int) -> Numbers:
        """Some of the rows."""
        return Numbers(*(column[start:end] for column in self))


def numbers_of(path: Path, increments: list[Increment], on_reject: OnReject) -> Iterator[Numbers]:
    """The first columns of a CSV file without header, as counts of ``increments``; faulty rows are reported.

    A blank line is a row that is not good: the two files of a day belong together by line.
    """

    def refuse(reason: str, detail: str, lines: int, rest: bytes) -> None:
        on_reject(Reject(reason, detail, rest, f"{path}:{lines + 1}"))

    width = 0
    for first, lines in read_blocks(path, refuse):
        width = width or max(len(lines.partition(b"\n")[0].split(b",")), len(increments))
        block = csv_block(first, lines, width)
        value = np.empty((block.rows, len(increments)), dtype=np.int64)
        good = ~block.torn
        _report(block, block.torn, "unexpected_form", f"a row has {width} fields", path, on_reject)
        for column, increment in enumerate(increments):
            value[:, column], fault = block.counts(column, [increment])
            _report(block, good & (fault == MISSING), "missing_field", f"field {column + 1} is empty", path, on_reject)
            for code, (reason, detail) in REASONS.items():
                _report(block, good & (fault == code), reason, f"field {column + 1} is {detail}", path, on_reject)
            good &= fault == 0
        yield Numbers(value, good, np.arange(first, first + block.rows))


def side_by_side(
    left: Iterator[Numbers], right: Iterator[Numbers], unequal: Callable[[int, str], None]
) -> Iterator[tuple[Numbers, Numbers]]:
    """Equally long blocks of two files; ``unequal`` is told where one of them ends early, and which."""
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        rows = min(len(one.good), len(other.good))
        yield one.take(0, rows), other.take(0, rows)
        end = int(one.line[rows - 1])
        one = one.take(rows, len(one.good)) if rows < len(one.good) else next(left, None)
        other = other.take(rows, len(other.good)) if rows < len(other.good) else next(right, None)
        if (one is None) != (other is None):
            unequal(end + 1, "message" if one is None else "orderbook")


def _report(block: CsvBlock, bad: Array, reason: str, detail: str, path: Path, on_reject: OnReject) -> None:
    for row in np.flatnonzero(bad).tolist():
        on_reject(Reject(reason, detail, block.line(row), f"{path}:{block.first_line + row}"))
