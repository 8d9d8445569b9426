"""The feature engine of one underlying: its books, bars and chain, fed with the log's rows in order."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from features import bar_kernels as k
from features.book import Books, empty_books, grow
from features.catalog import FEATURES, INTEGER, SCHEMA, catalogue_hash
from features.errors import ConfigError
from features.events import NANO, EventBatch, Kind
from features.stage import Reject
from features.state import pack, unpack
from features.surface.chain import chain_features

Array = np.ndarray[Any, Any]

FLOAT_NAMES: Final = tuple(feature.name for feature in FEATURES if feature.dtype != INTEGER)

MAX_BARS_AT_ONCE: Final = 200_000
"""Bars that a row may close at once, more than two days of seconds: beyond it the row's clock is wrong."""


class UnderlyingEngine:
    """Books, bars and option chain of one underlying.

    Args:
        underlying: its name, the key of its rows in the log.
        interval_ns: length of a bar; divides ten seconds, so that every window is a whole number of bars.
    """

    def __init__(self, underlying: str, interval_ns: int = NANO) -> None:
        if interval_ns < NANO or (10 * NANO) % interval_ns:
            raise ConfigError(
                f"A bar of {interval_ns} ns does not divide ten seconds.", "Use 1, 2, 5 or 10 seconds: `interval_ns`."
            )
        self.underlying = underlying
        self._instruments: list[str] = []
        self._books: Books = empty_books(0)
        self._bars: k.Bars = k.empty_bars(0, interval_ns)
        self._chain = _Chain()
        self._version = catalogue_hash()

    def process(self, batch: EventBatch) -> tuple[pa.RecordBatch | None, list[Reject]]:
        """Take the next rows; return the feature rows of the bars that they close, and what could not be used.

        Rows of an instrument that no ``instrument`` event has introduced are rejected; they still move the clock.
        """
        data = batch.data
        if data.num_rows == 0:
            return None, []
        rejects: list[Reject] = []
        data = self._within_reach(data, rejects)
        if data.num_rows == 0:
            return None, rejects
        stream = data.column(1).to_numpy() + data.column(4).to_numpy()
        if batch.kind is not Kind.OPTION_QUOTE:
            self._refresh_surface(int(stream.max()))
        out = self._room(int(stream.max()))
        match batch.kind:
            case Kind.INSTRUMENT:
                written = self._advance_all(data, stream, out)
                self._introduce(data)
            case Kind.BOOK:
                written = self._book(data, stream, out, rejects)
            case Kind.TRADE:
                written = self._trade(data, stream, out, rejects)
            case Kind.OPTION_QUOTE:
                written = self._quotes(data, stream, out, rejects)
            case Kind.FUNDING:
                written = self._funding(data, stream, out)
            case Kind.HEARTBEAT | Kind.ALT:
                written = self._advance_all(data, stream, out)
        return (self._rows(out, written) if written else None), rejects

    # -- kinds ----------------------------------------------------------------------------------------------------

    def _book(self, data: pa.RecordBatch, stream: Array, out: _Out, rejects: list[Reject]) -> int:
        slot = self._slots(data, rejects)
        recv, seq, prev_id, update_id = (data.column(i).to_numpy() for i in (2, 3, 6, 7))
        side, price, size, flags = (data.column(i).to_numpy() for i in (8, 9, 10, 11))
        return k.book_rows(
            self._bars, self._books, slot, stream, recv, seq, prev_id, update_id, side, price, size, flags,
            out.integers, out.floats,
        )  # fmt: skip

    def _trade(self, data: pa.RecordBatch, stream: Array, out: _Out, rejects: list[Reject]) -> int:
        slot = self._slots(data, rejects)
        recv, seq, price, size, aggressor = (data.column(i).to_numpy() for i in (2, 3, 7, 8, 9))
        event = data.column(1).to_numpy()
        return k.trade_rows(
            self._bars, self._books, slot, event, stream, recv, seq, price, size, aggressor, out.integers, out.floats
        )

    def _quotes(self, data: pa.RecordBatch, stream: Array, out: _Out, rejects: list[Reject]) -> int:
        chain, bars = self._chain, self._bars
        index = _codes(data, chain.index, rejects)
        event, recv, seq = (data.column(i).to_numpy() for i in (1, 2, 3))
        bid, ask, forward = (data.column(i).fill_null(0).to_numpy() for i in (9, 10, 12))
        row, written = 0, 0
        while row < data.num_rows:
            if bars.clock[0] and stream[row] > bars.clock[0]:
                self._refresh_surface(int(stream[row]))
            written = k.advance(bars, self._books, int(stream[row]), int(recv[row]), out.integers, out.floats, written)
            until = k.quote_rows(
                row, int(bars.clock[0]), stream, event, index, seq, bid, ask, chain.tick_e9, forward, chain.inverse,
                chain.last_seq, chain.last_ts, chain.mid, chain.forward,
            )  # fmt: skip
            bars.clock[2] = max(int(bars.clock[2]), int(recv[row:until].max()))
            bars.shared_ts[0] = max(int(bars.shared_ts[0]), int(event[row:until].max()))
            chain.changed = True
            row = until
        return written

    def _funding(self, data: pa.RecordBatch, stream: Array, out: _Out) -> int:
        bars, written = self._bars, 0
        event, recv, rate = (data.column(i).to_numpy() for i in (1, 2, 6))
        for row in range(data.num_rows):
            written = k.advance(bars, self._books, int(stream[row]), int(recv[row]), out.integers, out.floats, written)
            if event[row] >= bars.shared_ts[1]:
                bars.shared[3] = rate[row] / NANO
                bars.shared_ts[1] = event[row]
        return written

    def _advance_all(self, data: pa.RecordBatch, stream: Array, out: _Out) -> int:
        written = 0
        recv = data.column(2).to_numpy()
        for row in range(data.num_rows):
            written = k.advance(
                self._bars, self._books, int(stream[row]), int(recv[row]), out.integers, out.floats, written
            )
        return written

    # -- instruments ----------------------------------------------------------------------------------------------

    def _introduce(self, data: pa.RecordBatch) -> None:
        for row in data.to_pylist():
            if row["instrument_type"] == "option":
                self._chain.introduce(row)
            else:
                self._introduce_slot(row)

    def _introduce_slot(self, row: dict[str, Any]) -> None:
        if row["instrument"] not in self._instruments:
            self._instruments.append(row["instrument"])
            self._books = grow(self._books, len(self._instruments))
            self._bars = _grow_bars(self._bars, len(self._instruments))
        slot = self._instruments.index(row["instrument"])
        self._bars.tick_e9[slot] = row["price_increment_e9"]
        self._bars.lot_e9[slot] = row["size_increment_e9"]

    def _slots(self, data: pa.RecordBatch, rejects: list[Reject]) -> Array:
        return _codes(data, {name: i for i, name in enumerate(self._instruments)}, rejects)

    # -- output ---------------------------------------------------------------------------------------------------

    def _refresh_surface(self, stream_ts: int) -> None:
        """Compute the chain's features if a bar is about to close and quotes have come since the last time."""
        bars, chain = self._bars, self._chain
        if not chain.changed or bars.clock[0] == 0 or stream_ts <= bars.clock[0]:
            return
        bars.shared[:3] = chain_features(
            chain.expiry, chain.strike, chain.is_call, chain.mid, chain.forward, len(chain.index), int(bars.clock[0])
        )
        chain.changed = False

    def _within_reach(self, data: pa.RecordBatch, rejects: list[Reject]) -> pa.RecordBatch:
        """The rows less those that would jump over more than ``MAX_BARS_AT_ONCE`` bars: their clock is wrong.

        Judged row by row against the rows accepted before, so that it does not matter where a batch is cut.
        """
        end, interval = int(self._bars.clock[0]), int(self._bars.clock[1])
        stream = data.column(1).to_numpy() + data.column(4).to_numpy()
        if end == 0 or int(stream.max()) - end <= MAX_BARS_AT_ONCE * interval:
            return data
        keep = np.ones(len(stream), dtype=np.bool_)
        for row, reached in enumerate(stream.tolist()):
            if reached - end > MAX_BARS_AT_ONCE * interval:
                keep[row] = False
            else:
                end = max(end, -(-reached // interval) * interval)
        rejected = int((~keep).sum())
        rejects.append(Reject("clock_step", f"stream time jumps by over {MAX_BARS_AT_ONCE} bars", rejected))
        return data.filter(pa.array(keep))

    def _room(self, stream_ts: int) -> _Out:
        end, interval = int(self._bars.clock[0]), int(self._bars.clock[1])
        closing = 0 if end == 0 else max(0, -(-(stream_ts - end) // interval))
        rows = closing * len(self._instruments)
        return _Out(np.empty((rows, k.INTEGERS), dtype=np.int64), np.empty((rows, k.FLOATS)))

    def _rows(self, out: _Out, written: int) -> pa.RecordBatch:
        integers, floats = out.integers[:written], out.floats[:written]
        names = pa.array(self._instruments, pa.utf8())
        columns: dict[str, pa.Array] = {
            "underlying": pa.array([self.underlying] * written, pa.utf8()),
            "instrument": names.take(pa.array(integers[:, k.I_SLOT])),
            "bar_ts": pa.array(integers[:, k.I_BAR_TS]),
            "ts_known": pa.array(integers[:, k.I_TS_KNOWN]),
            "version": pa.array([self._version] * written, pa.utf8()),
            "book_valid": pa.array(integers[:, k.I_VALID] != 0),
            "late_rows": pa.array(integers[:, k.I_LATE]),
            "lost_rows": pa.array(integers[:, k.I_LOST]),
            "trade_count": pa.array(integers[:, k.I_TRADES], mask=integers[:, k.I_TRADES] < 0),
        }
        for i, name in enumerate(FLOAT_NAMES):
            values = np.ascontiguousarray(floats[:, i])
            columns[name] = pa.array(values, mask=np.isnan(values))
        return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    # -- state ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Everything that later rows depend on; the books without their unused room."""
        levels = int(self._books.levels.max(initial=0))
        staged = int(self._books.staged.max(initial=0))
        books = {name: _trimmed(name, array, levels, staged) for name, array in self._books._asdict().items()}
        return pack(
            {
                "instruments": self._instruments,
                **{f"book.{name}": array for name, array in books.items()},
                **{f"bar.{name}": array for name, array in self._bars._asdict().items()},
                **{f"chain.{name}": value for name, value in self._chain.state().items()},
            }
        )

    def restore(self, data: bytes) -> None:
        """Continue where :meth:`snapshot` was taken."""
        state = unpack(data)
        self._instruments = list(state["instruments"])
        self._books = empty_books(len(self._instruments))
        for name, array in self._books._asdict().items():
            saved = state[f"book.{name}"]
            array[tuple(slice(0, length) for length in saved.shape)] = saved
        self._bars = k.Bars(**{name: state[f"bar.{name}"] for name in k.Bars._fields})
        self._chain = _Chain()
        self._chain.load({name[6:]: value for name, value in state.items() if name.startswith("chain.")})


class _Out:
    """Room for the feature rows of one batch."""

    __slots__ = ("floats", "integers")

    def __init__(self, integers: Array, floats: Array) -> None:
        self.integers = integers
        self.floats = floats


class _Chain:
    """The last quote of every option of an underlying."""

    _COLUMNS: Final = {
        "expiry": np.int64, "strike": np.float64, "is_call": np.bool_, "inverse": np.bool_, "tick_e9": np.int64,
        "last_seq": np.int64, "last_ts": np.int64, "mid": np.float64, "forward": np.float64,
    }  # fmt: skip

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.changed = False
        self.expiry = np.zeros(0, np.int64)
        self.strike = np.zeros(0)
        self.is_call = np.zeros(0, np.bool_)
        self.inverse = np.zeros(0, np.bool_)
        self.tick_e9 = np.zeros(0, np.int64)
        self.last_seq = np.zeros(0, np.int64)
        self.last_ts = np.zeros(0, np.int64)
        self.mid = np.zeros(0)
        self.forward = np.zeros(0)

    def introduce(self, row: dict[str, Any]) -> None:
        """Add an option, or take its new reference data."""
        values: dict[str, Any] = {
            "expiry": row["expiry_ns"],
            "strike": row["strike_e9"] / NANO,
            "is_call": row["is_call"],
            "inverse": row["is_inverse"],
            "tick_e9": row["price_increment_e9"],
        }
        at = self.index.setdefault(row["instrument"], len(self.index))
        if at == len(self.expiry):
            fresh = {"last_seq": -1, "last_ts": -1, "mid": np.nan, "forward": np.nan}
            for name, dtype in self._COLUMNS.items():
                first: Array = np.array([{**values, **fresh}[name]], dtype=dtype)
                setattr(self, name, np.concatenate([getattr(self, name), first]))
        for name, value in values.items():
            getattr(self, name)[at] = value

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"names": list(self.index), "changed": self.changed} | {n: getattr(self, n) for n in self._COLUMNS}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.index = {name: i for i, name in enumerate(state["names"])}
        self.changed = bool(state["changed"])
        for name in self._COLUMNS:
            setattr(self, name, state[name])


def _codes(data: pa.RecordBatch, known: dict[str, int], rejects: list[Reject]) -> Array:
    """Positions of the rows' instruments in our arrays; -1 for an instrument that nobody has introduced."""
    column = data.column(0)
    names = column.dictionary.to_pylist()
    positions = np.array([known.get(name, -1) for name in names], dtype=np.int64)
    code: Array = positions[column.indices.to_numpy()]
    unknown = int((code < 0).sum())
    if unknown:
        missing = sorted({name for name in names if name not in known})
        rejects.append(Reject("unknown_instrument", f"no instrument event for {', '.join(missing[:5])}", unknown))
    return code


def _trimmed(name: str, array: Array, levels: int, staged: int) -> Array:
    if name in ("key", "size"):
        return array[:, :, :levels]
    if name.startswith("staged_") and array.ndim == 2:
        return array[:, :staged]
    return array


def _grow_bars(bars: k.Bars, instruments: int) -> k.Bars:
    larger = k.empty_bars(instruments, int(bars.clock[1]))
    for old, new in zip(bars, larger, strict=True):
        new[: len(old)] = old
    return larger
