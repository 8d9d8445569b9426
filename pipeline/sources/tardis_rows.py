"""Rows of a Tardis file with what all data types share: instrument, times, and why a row cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.edge import MAX_CLOCK_STEP_NS
from pipeline.sources.base import OnReject, Reject
from pipeline.sources.csv_fields import CsvBlock, csv_block, read_blocks
from pipeline.sources.csv_kernels import MISSING
from pipeline.sources.decimals import REASONS
from pipeline.sources.tardis_instruments import TardisInstrument
from pipeline.sources.tardis_layout import DataType, Layout

Array = np.ndarray[Any, Any]

NANOS_PER_MICRO: Final = 1_000
MAX_TIME_US: Final = 2**62 // NANOS_PER_MICRO


@dataclass(slots=True)
class TardisRows:
    """A block of rows.

    ``code`` is the row's position in ``instruments``; ``recv_us`` and ``event_us`` are its times. Of a row that is not
    ``good``, these are those of the row before it where it does not tell them itself.
    """

    block: CsvBlock
    layout: Layout
    instruments: list[TardisInstrument]
    code: Array
    event_us: Array
    recv_us: Array
    good: Array
    refuse_row: Callable[[str, str, bytes, int], None] = field(repr=False)

    def refuse(self, bad: Array, reason: str, detail: str) -> None:
        """Report the rows of ``bad`` that were good so far."""
        for row in np.flatnonzero(bad & self.good).tolist():
            self.refuse_row(reason, detail, self.block.line(row), self.block.first_line + row)
        self.good &= ~bad

    def require(self, fault: Array, name: str) -> None:
        """Report rows whose number in column ``name`` is faulty or missing."""
        self.refuse(fault == MISSING, "missing_field", f"{name} is empty")
        self.accept_missing(fault, name)

    def accept_missing(self, fault: Array, name: str) -> None:
        """Report rows whose number in column ``name`` is faulty; an empty field is none."""
        if fault.any():
            for code, (reason, detail) in REASONS.items():
                self.refuse(fault == code, reason, f"{name} is {detail}")


class TardisFile:
    """One file, read in blocks.

    Args:
        path: plain or gzip.
        layout: what its header says.
        on_reject: receives every row that could not be used, as its text.
    """

    def __init__(self, path: Path, layout: Layout, on_reject: OnReject) -> None:
        self.path = path
        self.layout = layout
        self.instruments: list[TardisInstrument] = []
        self._codes: dict[tuple[bytes, bytes], int] = {}
        self._on_reject = on_reject
        self._last = np.array([-1, 0, 0], dtype=np.int64)  # code, event_us, recv_us of the newest row

    def blocks(self) -> Iterator[CsvBlock]:
        """The rows behind the header. Blank lines are no rows, and line numbers do not count them."""
        for first, lines in read_blocks(self.path, self._damaged):
            if first == 1:
                _, _, lines = lines.partition(b"\n")
                first = 2
            if b"\n\n" in lines or b"\n\r" in lines or lines[:1] in b"\r\n":
                lines = b"".join(line for line in lines.splitlines(keepends=True) if line.strip())
            if lines:
                yield csv_block(first, lines, len(self.layout.columns))

    def rows(self) -> Iterator[TardisRows]:
        """The rows with times and instrument.

        Refused are rows with another number of fields than the header (``unexpected_form``), with times that are none
        (``bad_time``) or lie more than a day apart (``clock_step``), and rows received before one that precedes them
        (``out_of_order``): the vendor sorts by local_timestamp, so such a file is damaged.
        """
        for block in self.blocks():
            yield self._timed(block)

    def codes(self, block: CsvBlock) -> Array:
        """Each row's instrument, -1 of torn rows."""
        exchange, symbol = self.layout.columns["exchange"], self.layout.columns["symbol"]
        starts = np.flatnonzero(block.changes([exchange, symbol]) | block.torn)
        found = [
            -1 if block.torn[row] else self._code(block.field(row, exchange), block.field(row, symbol))
            for row in starts.tolist()
        ]
        lengths = np.diff(np.append(starts, block.rows))
        return np.repeat(np.array(found, dtype=np.int64), lengths)

    def _code(self, exchange: bytes, symbol: bytes) -> int:
        code = self._codes.get((exchange, symbol))
        if code is None:
            is_option = self.layout.data_type is DataType.OPTIONS_CHAIN
            names = exchange.decode("utf-8", "replace"), symbol.decode("utf-8", "replace")
            code = self._codes[exchange, symbol] = len(self.instruments)
            self.instruments.append(TardisInstrument.of(*names, is_option=is_option))
        return code

    def _timed(self, block: CsvBlock) -> TardisRows:
        code = self.codes(block)
        event_us, event_fault = block.integers(self.layout.columns["timestamp"])
        recv_us, recv_fault = block.integers(self.layout.columns["local_timestamp"])
        good = np.ones(block.rows, dtype=np.bool_)
        rows = TardisRows(block, self.layout, self.instruments, code, event_us, recv_us, good, self._refuse)
        rows.refuse(block.torn, "unexpected_form", f"a row has {len(self.layout.columns)} fields")
        bad = (event_fault != 0) | (recv_fault != 0)
        for times in (event_us, recv_us):
            bad |= (times <= 0) | (times > MAX_TIME_US)
        rows.refuse(bad, "bad_time", "times are microseconds since 1970")
        step = np.abs(np.where(good, recv_us - event_us, 0)) > MAX_CLOCK_STEP_NS // NANOS_PER_MICRO
        rows.refuse(step, "clock_step", "timestamp and local_timestamp lie more than a day apart")
        latest = np.maximum.accumulate(np.where(good, recv_us, self._last[2]))
        behind = recv_us < np.maximum(latest, self._last[2])
        rows.refuse(behind, "out_of_order", "received before a row that precedes it")
        self._fill(rows)
        return rows

    def _fill(self, rows: TardisRows) -> None:
        """Give rows that are not good the times of the row before, and its instrument where they have none."""
        at = np.maximum.accumulate(np.where(rows.good, np.arange(len(rows.good)), -1))
        for which, name in ((1, "event_us"), (2, "recv_us")):
            values = getattr(rows, name)
            setattr(rows, name, np.where(at < 0, self._last[which], values[at]))
        known = np.maximum.accumulate(np.where(rows.code >= 0, np.arange(len(rows.code)), -1))
        rows.code = np.where(known < 0, self._last[0], rows.code[known])
        self._last[:] = rows.code[-1], rows.event_us[-1], rows.recv_us[-1]

    def _refuse(self, reason: str, detail: str, payload: bytes, line: int) -> None:
        self._on_reject(Reject(reason, detail, payload, f"{self.path}:{line}"))

    def _damaged(self, reason: str, detail: str, lines: int, rest: bytes) -> None:
        self._refuse(reason, detail, rest, lines + 1)
