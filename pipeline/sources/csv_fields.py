"""CSV files of any length as blocks of whole rows, and their numbers, exactly: no float on the way.

For files without quoting, such as Tardis' and LOBSTER's. Numbers become counts of an increment as in
:mod:`.decimals`; a number may also have an exponent (``1e-7``), which JavaScript prints for small ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.sources.csv_kernels import count_decimals, find_fields, mark_changes, mark_equal, parse_column
from pipeline.sources.decimals import Increment
from pipeline.sources.recording_lines import MAX_LINE, OnDamage, require_file, text_blocks

Array = np.ndarray[Any, Any]

BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CsvBlock:
    """Consecutive rows of a file.

    Args:
        text: their bytes, each row ending with a newline.
        bounds: (rows, columns + 1): field c of row r is ``text[bounds[r, c] : bounds[r, c + 1] - 1]``.
        torn: rows that do not have as many fields as the file has columns; their bounds but the first and last are
            zero.
        first_line: line number of the first row in the file, from 1.
    """

    text: Array
    bounds: Array
    torn: Array
    first_line: int

    @property
    def rows(self) -> int:
        """How many rows there are, torn ones included."""
        return len(self.bounds)

    def line(self, row: int) -> bytes:
        """A row's text without its end."""
        return bytes(self.text[self.bounds[row, 0] : self.bounds[row, -1]]).rstrip(b"\r\n")

    def field(self, row: int, column: int) -> bytes:
        """One field's text."""
        return bytes(self.text[self.bounds[row, column] : self.bounds[row, column + 1] - 1]).strip(b"\r")

    def counts(self, column: int, increments: Sequence[Increment], code: Array | None = None) -> tuple[Array, Array]:
        """A column as counts of increments.

        Args:
            column: which.
            increments: of the instruments.
            code: each row's instrument, as a position in ``increments``; None: the first, for all rows.

        Returns:
            The counts, and per row 0 or what is wrong: ``csv_kernels.MISSING``, or a negative code of :mod:`.decimals`.
        """
        form = np.array([(each.decimals, each.multiple) for each in increments], dtype=np.int64).reshape(-1, 2)
        return self._numbers(column, form, code, exact=True)

    def e9(self, column: int) -> tuple[Array, Array]:
        """A column in units of 1e-9, rounded half away from zero where it has more decimals."""
        return self._numbers(column, np.array([(9, 1)], dtype=np.int64), None, exact=False)

    def integers(self, column: int) -> tuple[Array, Array]:
        """A column of integers, as :meth:`counts`."""
        return self.counts(column, [Increment(0, 1)])

    def decimals(self, column: int) -> Array:
        """How many decimals each field prints, at least 0 and at most 9; 0 where it is no number."""
        out = np.empty(self.rows, dtype=np.int64)
        count_decimals(self.text, self.bounds, column, out)
        return out

    def changes(self, columns: Sequence[int]) -> Array:
        """Which rows differ in one of ``columns`` from the row before; the first row counts as different."""
        out = np.zeros(self.rows, dtype=np.bool_)
        for column in columns:
            mark_changes(self.text, self.bounds, column, out)
        return out

    def equals(self, column: int, word: bytes) -> Array:
        """Which rows have ``word`` in a column."""
        out = np.empty(self.rows, dtype=np.bool_)
        mark_equal(self.text, self.bounds, column, np.frombuffer(word, dtype=np.uint8), out)
        return out

    def _numbers(self, column: int, form: Array, code: Array | None, *, exact: bool) -> tuple[Array, Array]:
        value, fault = np.empty(self.rows, dtype=np.int64), np.empty(self.rows, dtype=np.int64)
        codes = np.zeros(self.rows, dtype=np.int64) if code is None else code
        parse_column(self.text, self.bounds, self.torn, column, codes, form, exact, value, fault)
        return value, fault


def read_blocks(path: Path, on_damage: OnDamage, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """A plain or gzip file as blocks of whole lines, each with the number of its first line.

    Memory is bounded by ``block_bytes`` and the longest line.

    Args:
        path: the file.
        on_damage: as in :func:`.recording_lines.read_lines`; what precedes the damage has been yielded, the torn line
            goes to it.
        block_bytes: about how long a block is.

    Raises:
        BadInputError: the file is missing or empty.
    """
    require_file(path)
    first, waiting = 1, bytearray()
    with path.open("rb") as file:
        blocks = text_blocks(file)
        damage: tuple[str, str] | None = None
        block: bytes | None = b""
        while block is not None:
            try:
                block = next(blocks, None)
            except EOFError:
                damage, block = ("truncated_gzip", f"{path.name} ends in the middle of its data"), None
            except zlib.error as error:
                damage, block = ("corrupt_gzip", f"{path.name} is damaged: {error}"), None
            waiting += block or b""
            if len(waiting) < block_bytes and block is not None:
                continue
            end = waiting.rfind(b"\n") + 1
            if end:
                lines = bytes(waiting[:end])
                del waiting[:end]
                yield first, lines
                first += lines.count(b"\n")
            elif len(waiting) > MAX_LINE:
                damage = ("line_too_long", f"{path.name} has more than {MAX_LINE} bytes in a line")
            if damage is not None:
                on_damage(*damage, first - 1, bytes(waiting[:80]))
                return
    if waiting:
        yield first, bytes(waiting) + b"\n"


def csv_block(first_line: int, lines: bytes, columns: int) -> CsvBlock:
    """Find the fields of ``lines``, which end with a newline. Blank lines are torn rows without text."""
    text = np.frombuffer(lines, dtype=np.uint8)
    rows = lines.count(b"\n")
    bounds, torn = np.zeros((rows, columns + 1), dtype=np.int64), np.zeros(rows, dtype=np.bool_)
    find_fields(text, columns, bounds, torn)
    return CsvBlock(text, bounds, torn, first_line)
