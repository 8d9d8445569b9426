"""The edge: where a source's events become rows of the log.

It numbers the rows of every (instrument, kind), judges lateness once, names the version of the reference data, and
keeps out what would break the log: rows with impossible times, prices or sizes go to the dead letters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from features.counts import MAX_COUNT
from features.events import EDGE_COLUMNS, LAST, NANO, SCHEMAS, SESSION_ROWS, EventBatch, Kind
from features.kernel import kernel
from features.stage import Reject
from pipeline.codec import MAX_ROWS

Array = np.ndarray[Any, Any]

MAX_CLOCK_STEP_NS: Final = 24 * 3_600 * NANO
"""How far a row's ``ts_event`` may lie from its ``ts_recv``: beyond it one of the clocks is wrong."""


SESSION_EPOCH_S: Final = 1_735_689_600
"""2025-01-01 UTC: live sessions are numbered by the second in which they start, counted from here."""


def live_session(clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep) -> int:
    """Number of a session that starts with the next second, for which it waits: larger than that of every earlier one.

    Runs one after another thus never share a number, however short they are.
    """
    now = clock()
    sleep(math.floor(now) + 1 - now)
    return math.floor(now) + 1 - SESSION_EPOCH_S


class Log(Protocol):
    """Where the edge appends."""

    def append(self, batch: EventBatch) -> None:
        """Append rows of one kind about one underlying, at most ``codec.MAX_ROWS``."""
        ...

    def reject(self, origin: str, reject: Reject) -> None:
        """Count what could not be appended."""
        ...


_NEVER: Final = -(2**63)
_INT64: Final = pa.int64()
_SEQ, _LATE_NS, _REF_VERSION = (SCHEMAS[Kind.HEARTBEAT].field(name) for name in EDGE_COLUMNS)


@kernel
def _number(code: Array, event: Array, counters: Array, latest: int, numbers: Array) -> int:
    """Number the rows and judge their lateness, (2, rows); return the largest event time so far."""
    for i in range(len(code)):
        numbers[0, i] = counters[code[i]]
        counters[code[i]] += 1
        latest = max(latest, event[i])
        numbers[1, i] = latest - event[i]
    return latest


@lru_cache(maxsize=512)
def _same_version(version: int, rows: int) -> pa.Array:
    return pa.array(np.full(rows, version, dtype=np.int32))


class Edge:
    """Numbers and judges the events of one source before they are appended to ``log``.

    Args:
        log: where they go.
        origin: of the source, for its dead letters.
        session: of a run that appends to a log that others may have appended to (:func:`live_session`): it numbers
            beyond all earlier sessions, so that it is not taken for a repeat of one of them; its books wait for their
            snapshots. Session 0 is for a log of its own: played twice, it is the same rows twice.
    """

    def __init__(self, log: Log, origin: str, session: int = 0) -> None:
        self._log = log
        self._first_seq = session * SESSION_ROWS
        self._origin = origin
        self._latest: dict[str, int] = {}
        self._next_seq: dict[tuple[Kind, str], int] = {}
        self._reference: dict[str, dict[str, Any]] = {}
        self._version: dict[str, int] = {}
        self.rows = 0

    @property
    def newest_event_ns(self) -> int | None:
        """The largest ``ts_event`` that was sent."""
        return max(self._latest.values(), default=None)

    def send(self, batch: EventBatch) -> None:
        """Append the rows of ``batch``, less those that :func:`plausible` refuses.

        Nearly every batch is plausible as a whole, which one pass over it tells; only the others are judged row by
        row. Of the columns, only the edge's own are replaced.
        """
        data = batch.data
        event = _numbers(data, 1)
        if not _surely_plausible(batch.kind, data, event):
            data = self._plausible_rows(batch.kind, data)
            event = _numbers(data, 1)
        if data.num_rows == 0:
            return
        if batch.kind is Kind.INSTRUMENT:
            self._note_reference(data)
        data = self._stamped(batch, data, event)
        self.rows += data.num_rows
        if data.num_rows <= MAX_ROWS:
            self._log.append(EventBatch(batch.kind, batch.underlying, data))
            return
        for start in range(0, data.num_rows, MAX_ROWS):
            self._log.append(EventBatch(batch.kind, batch.underlying, data.slice(start, MAX_ROWS)))

    def _plausible_rows(self, kind: Kind, data: pa.RecordBatch) -> pa.RecordBatch:
        keep, reasons = plausible(kind, data)
        for reason, count in reasons.items():
            self._log.reject(self._origin, Reject(reason, f"{count} row(s) of kind {kind}", count))
        return data if keep.all() else data.filter(pa.array(keep))

    def _stamped(self, batch: EventBatch, data: pa.RecordBatch, event: Array) -> pa.RecordBatch:
        instrument, rows = data.column(0), len(event)
        names = instrument.dictionary.to_pylist()
        numbered = [(batch.kind, name) for name in names]
        counters = np.array([self._next_seq.get(key, self._first_seq) for key in numbered], dtype=np.int64)
        code, numbers = np.from_dlpack(instrument.indices), np.empty((2, rows), dtype=np.int64)
        latest = self._latest.get(batch.underlying, _NEVER)
        self._latest[batch.underlying] = _number(code, event, counters, latest, numbers)
        self._next_seq.update(zip(numbered, counters.tolist(), strict=True))
        seq, late = pa.py_buffer(numbers[0]), pa.py_buffer(numbers[1])
        data = data.set_column(3, _SEQ, pa.Array.from_buffers(_INT64, rows, [None, seq], 0))
        data = data.set_column(4, _LATE_NS, pa.Array.from_buffers(_INT64, rows, [None, late], 0))
        return data.set_column(5, _REF_VERSION, self._versions(names, code))

    def _versions(self, names: list[str], code: Array) -> pa.Array:
        versions = [self._version.get(name, 0) for name in names]
        if len(code) <= MAX_ROWS and versions.count(versions[0]) == len(versions):
            return _same_version(versions[0], len(code))
        return pa.array(np.array(versions, dtype=np.int32)[code])

    def _note_reference(self, data: pa.RecordBatch) -> None:
        """A changed instrument gets the next version."""
        for row in data.to_pylist():
            name = row["instrument"]
            facts = {key: row[key] for key in data.schema.names[6:]}
            if self._reference.get(name) != facts:
                self._reference[name] = facts
                self._version[name] = self._version.get(name, 0) + 1


def _surely_plausible(kind: Kind, data: pa.RecordBatch, event: Array) -> bool:
    """Whether :func:`plausible` keeps all rows, at a glance. Of option quotes and of references it is never sure."""
    recv = _numbers(data, 2)
    if kind is Kind.BOOK:
        return _only_levels(event, recv, _numbers(data, 9), _numbers(data, 10))
    if kind is Kind.TRADE:
        return _only_trades(event, recv, _numbers(data, 7), _numbers(data, 8))
    return kind in (Kind.FUNDING, Kind.ALT, Kind.HEARTBEAT) and _on_time(event, recv)


def _numbers(data: pa.RecordBatch, position: int) -> Array:
    """A column of integers without nulls, not copied: what ``to_numpy`` gives, for half of its cost."""
    return np.from_dlpack(data.column(position))


@kernel
def _on_time(event: Array, recv: Array) -> bool:
    for i in range(len(event)):
        apart = event[i] - recv[i]
        if not -MAX_CLOCK_STEP_NS <= apart <= MAX_CLOCK_STEP_NS:
            return False
    return True


@kernel
def _only_levels(event: Array, recv: Array, price: Array, size: Array) -> bool:
    for i in range(len(price)):
        is_level = 0 < price[i] <= MAX_COUNT and 0 <= size[i] <= MAX_COUNT
        if not is_level and not price[i] == size[i] == 0:
            return False
    return _on_time(event, recv)


@kernel
def _only_trades(event: Array, recv: Array, price: Array, size: Array) -> bool:
    for i in range(len(price)):
        is_trade = 0 < price[i] <= MAX_COUNT and 0 < size[i] <= MAX_COUNT
        if not is_trade:
            return False
    return _on_time(event, recv)


_POSITIVE: Final = ("price_increment_e9", "size_increment_e9", "contract_size_e9")


def plausible(kind: Kind, data: pa.RecordBatch) -> tuple[Array, dict[str, int]]:
    """Which rows may enter the log, and how many may not, by reason.

    - ``clock_step``: ``ts_event`` and ``ts_recv`` lie more than a day apart.
    - ``bad_level``: a book row with a negative size, a price that is not positive, or one of them beyond ``MAX_COUNT``
      increments. The whole event goes: the
      venue's chain of ids then breaks, and the book is invalid until its next snapshot rather than wrong.
    - ``bad_trade``: a trade without a positive price and size up to ``MAX_COUNT``.
    - ``bad_quote``: an option quote with a negative bid or ask.
    - ``bad_instrument``: an increment or a contract size that is not positive.
    - ``bad_correction``: a trade correction with a negative price or size.
    """
    event, recv = data.column(1).to_numpy(), data.column(2).to_numpy()
    keep = np.abs(event - recv) <= MAX_CLOCK_STEP_NS
    reasons: dict[str, int] = {}
    _count(reasons, "clock_step", ~keep)
    if kind is Kind.BOOK:
        bad = _bad_events(data)
    elif kind is Kind.TRADE:
        price, size = data.column(7).to_numpy(), data.column(8).to_numpy()
        bad = (price <= 0) | (size <= 0) | (price > MAX_COUNT) | (size > MAX_COUNT)
    elif kind is Kind.OPTION_QUOTE:
        bad = (data.column(9).fill_null(0).to_numpy() < 0) | (data.column(10).fill_null(0).to_numpy() < 0)
    elif kind is Kind.TRADE_CORRECTION:
        bad = (data.column(7).to_numpy() < 0) | (data.column(8).to_numpy() < 0)
    elif kind is Kind.INSTRUMENT:
        bad = np.minimum.reduce([data.column(name).to_numpy() for name in _POSITIVE]) <= 0
    else:
        return keep, reasons
    names = {
        Kind.BOOK: "bad_level",
        Kind.TRADE: "bad_trade",
        Kind.OPTION_QUOTE: "bad_quote",
        Kind.INSTRUMENT: "bad_instrument",
        Kind.TRADE_CORRECTION: "bad_correction",
    }
    _count(reasons, names[kind], bad & keep)
    return keep & ~bad, reasons


def _bad_events(data: pa.RecordBatch) -> Array:
    price, size = data.column(9).to_numpy(), data.column(10).to_numpy()
    bad: Array = (size < 0) | ((price <= 0) & ~((price == 0) & (size == 0))) | (np.maximum(price, size) > MAX_COUNT)
    if not bad.any():
        return bad
    flags = data.column(11).to_numpy()
    event = np.concatenate([[0], np.cumsum((flags & LAST) != 0)[:-1]])
    broken: Array = np.isin(event, event[bad])
    return broken


def _count(reasons: dict[str, int], reason: str, rows: Array) -> None:
    if number := int(rows.sum()):
        reasons[reason] = number
