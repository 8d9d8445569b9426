"""The feature engine of one underlying: its books, bars and chain, fed with the log's rows in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from features import bar_kernels as k
from features import bar_state
from features.alternative.state import AlternativeState
from features.alternative.text import TextModel
from features.bar_state import Bars, empty_bars, with_instruments
from features.book_state import Books, empty_books, refill, select, used_part
from features.catalog import STANDARD, Catalogue
from features.declared.derivative import INTEREST_NS
from features.declared.windowed import is_windowed
from features.errors import ConfigError
from features.events import NANO, EventBatch, Kind
from features.feature_rows import Room, feature_rows, room_for
from features.option_quotes import OptionQuotes, quote_rows
from features.stage import Reject
from features.state import pack, unpack
from features.user_state import UserStates
from features.windowed import plan_of

Array = np.ndarray[Any, Any]

MAX_SILENCE_NS: Final = 30 * 86_400 * NANO
"""A row that lies further ahead than this has a wrong clock."""

_KERNELS: Final[Mapping[Kind, tuple[Callable[..., int], tuple[int, ...], bool]]] = {
    Kind.BOOK: (k.book_rows, (1, 2, 3, *range(6, 12)), False),
    Kind.TRADE: (k.trade_rows, (1, 2, 3, *range(7, 10)), False),
    Kind.TRADE_CORRECTION: (k.correction_rows, (2, 3), False),
    Kind.FUNDING: (k.funding_rows, (1, 2, 6, 7, 9), True),
}
"""The loop over a kind's rows, the columns that it reads, and whether they may be null (0 then: unknown)."""

OPTION: Final = "option"
INSTRUMENT_TYPES: Final = frozenset({"spot", "perpetual", "future", OPTION})

_CARRY: Final = {"perpetual": bar_state.PERPETUAL, "future": bar_state.FUTURE}


class UnderlyingEngine:
    """Books, bars, option chain and alternative data of one underlying.

    Args:
        underlying: its name, the key of its rows in the log.
        interval_ns: length of a bar; divides ten seconds, so that every window is a whole number of bars.
        catalogue: the features to compute.
        text: reads the headlines; None: only scores that come with the feed count.
        drop_crossing: let a newer level remove the stale ones that it crosses (:mod:`features.book_state`).
    """

    def __init__(
        self,
        underlying: str,
        interval_ns: int = NANO,
        catalogue: Catalogue = STANDARD,
        text: TextModel | None = None,
        drop_crossing: bool = False,
    ) -> None:
        if interval_ns < NANO or (10 * NANO) % interval_ns:
            raise ConfigError(
                f"A bar of {interval_ns} ns does not divide ten seconds.", "Use 1, 2, 5 or 10 seconds: `interval_ns`."
            )
        self.underlying = underlying
        self._catalogue = catalogue
        self._version = catalogue.hash if text is None else f"{catalogue.hash}+{text.version}"
        self._drop_crossing = drop_crossing
        windowed = [feature for feature in catalogue.market if is_windowed(feature)]
        self._plan = plan_of(windowed, interval_ns)
        self._names = (*k.COLUMNS, *(feature.name for feature in windowed))
        longest = max([INTEREST_NS, *(feature.window_ns for feature in windowed)])
        self._bars: Bars = empty_bars(0, interval_ns, longest // interval_ns + 1)
        self._books: Books = empty_books(0)
        self._instruments: list[str] = []
        self._slot_of: dict[str, int] = {}
        self._no_room = room_for(0, len(self._names))
        self._quotes = OptionQuotes()
        self._alternative = AlternativeState(text, catalogue.alternative)
        self._user = UserStates(catalogue.user)

    def process(self, batch: EventBatch) -> tuple[list[pa.RecordBatch], list[Reject]]:
        """Take the next rows; return the feature rows of the bars that they close, and what could not be used.

        Rows of an instrument that no ``instrument`` event has introduced are rejected (``unknown_instrument``); they
        still move the clock. A row before 1970, or more than ``MAX_SILENCE_NS`` ahead, is rejected whole
        (``clock_step``). A silence of more than an hour ends the open bar and gives no others
        (:func:`features.bar_kernels.advance`). Duplicates, late rows and impossible values: see the kernels of
        :mod:`features.bar_kernels`.
        """
        data, rejects = batch.data, list[Reject]()
        if data.num_rows == 0:
            return [], rejects
        stream = _stream_time(data)
        reached = int(stream.max())
        if self._out_of_reach(reached):
            data = self._within_reach(data, stream, rejects)
            if data.num_rows == 0:
                return [], rejects
            stream = _stream_time(data)
            reached = int(stream.max())
        match batch.kind:
            case Kind.INSTRUMENT:
                rows = self._reference_rows(data, stream, rejects)
            case Kind.OPTION_QUOTE:
                rows = self._option_quotes(data, stream, reached, rejects)
            case Kind.ALT:
                rows = self._alternative_rows(data, stream, rejects)
            case Kind.HEARTBEAT:
                rows = self._moved(data, stream, reached)
            case _:
                rows = self._market(batch.kind, data, stream, reached, rejects)
        return rows, rejects

    # -- kinds ----------------------------------------------------------------------------------------------------

    def _market(
        self, kind: Kind, data: pa.RecordBatch, stream: Array, reached: int, rejects: list[Reject]
    ) -> list[pa.RecordBatch]:
        """Rows of books, trades, corrections and funding: one kernel each."""
        self._refresh_chain(reached)
        slot = self._slots(data, rejects)
        room = self._room(stream, reached)
        run, chosen, nullable = _KERNELS[kind]
        if nullable:
            own = [data.column(i).fill_null(0).to_numpy() for i in chosen]
        else:
            own = [np.from_dlpack(data.column(i)) for i in chosen]  # as to_numpy, for half of its cost
        state: tuple[Any, ...] = (self._plan, self._bars, self._books, slot, stream)
        written = run(*state, *own, room.integers, room.floats)
        return self._finished(room, written)

    def _moved(self, data: pa.RecordBatch, stream: Array, reached: int) -> list[pa.RecordBatch]:
        self._refresh_chain(reached)
        room = self._room(stream, reached)
        recv = data.column(2).to_numpy()
        written = k.move_clock(self._plan, self._bars, self._books, stream, recv, room.integers, room.floats)
        return self._finished(room, written)

    def _option_quotes(
        self, data: pa.RecordBatch, stream: Array, reached: int, rejects: list[Reject]
    ) -> list[pa.RecordBatch]:
        quotes, bars = self._quotes, self._bars
        room = self._room(stream, reached)
        index = _positions(data, quotes.index, {}, rejects)
        event, recv, seq = (data.column(i).to_numpy() for i in (1, 2, 3))
        bid, ask, forward = (data.column(i).fill_null(0).to_numpy() for i in (9, 10, 12))
        row, written = 0, 0
        while row < data.num_rows:
            self._refresh_chain(int(stream[row]))
            written = k.advance(
                self._plan, bars, self._books, int(stream[row]), int(recv[row]), room.integers, room.floats, written
            )
            until = quote_rows(
                row, int(bars.clock[bar_state.END]), stream, event, index, seq, bid, ask, quotes.tick_e9, forward,
                quotes.last_seq, quotes.last_ts, quotes.bid, quotes.ask, quotes.forward,
            )  # fmt: skip
            bars.clock[bar_state.RECV] = max(int(bars.clock[bar_state.RECV]), int(recv[row:until].max()))
            quotes.changed = True
            row = until
        return self._finished(room, written)

    def _alternative_rows(self, data: pa.RecordBatch, stream: Array, rejects: list[Reject]) -> list[pa.RecordBatch]:
        """One by one: a row that is taken must not be seen by the bars that closed before it."""
        rows: list[pa.RecordBatch] = []
        for i, row in enumerate(data.to_pylist()):
            rows.extend(self._moved(data.slice(i, 1), stream[i : i + 1], int(stream[i])))
            if (reject := self._alternative.take(row, int(stream[i]))) is not None:
                rejects.append(reject)
        return rows

    def _reference_rows(self, data: pa.RecordBatch, stream: Array, rejects: list[Reject]) -> list[pa.RecordBatch]:
        """In runs of one time: reference data must not be seen by the bars that closed before it."""
        rows: list[pa.RecordBatch] = []
        cuts = [0, *(np.flatnonzero(np.diff(stream)) + 1).tolist(), len(stream)]
        for start, stop in pairwise(cuts):
            run = data.slice(start, stop - start)
            rows.extend(self._moved(run, stream[start:stop], int(stream[start])))
            self._introduce(run, rejects)
        return rows

    # -- instruments ----------------------------------------------------------------------------------------------

    def _introduce(self, data: pa.RecordBatch, rejects: list[Reject]) -> None:
        self._forget_expired()
        good = []
        for row in data.to_pylist():
            if (wrong := _wrong_terms(row)) is None:
                good.append(row)
            else:
                rejects.append(Reject("bad_instrument", f"{row['instrument']} {wrong}"))
        linear = [row["instrument"] for row in good if row["instrument_type"] != OPTION]
        self._make_slots([name for name in dict.fromkeys(linear) if name not in self._slot_of])
        for row in good:
            if row["instrument_type"] == OPTION:
                self._quotes.introduce(row)
            else:
                self._introduce_slot(row)

    def _make_slots(self, names: list[str]) -> None:
        """All at once: to make room for one moves the books of all others."""
        if names:
            before = len(self._instruments)
            self._instruments.extend(names)
            self._keep(np.arange(before), added=len(names))

    def _introduce_slot(self, row: Mapping[str, Any]) -> None:
        bars, slot = self._bars, self._slot_of[row["instrument"]]
        increments = (row["price_increment_e9"], row["size_increment_e9"])
        before = (int(bars.tick_e9[slot]), int(bars.lot_e9[slot]))
        bars.tick_e9[slot], bars.lot_e9[slot] = increments
        bars.contract_e9[slot] = row["contract_size_e9"]
        bars.inverse[slot] = row["is_inverse"]
        bars.carry_kind[slot] = _CARRY.get(row["instrument_type"], bar_state.NO_CARRY)
        bars.expiry_ns[slot] = row["expiry_ns"] or 0
        if before not in ((0, 0), increments):
            k.increments_changed(bars, self._books, slot)

    def _forget_expired(self) -> None:
        """Make room for those that are listed: what expired before the open bar gives no more rows."""
        bars = self._bars
        start = int(bars.clock[bar_state.END] - bars.clock[bar_state.INTERVAL])
        keep = np.flatnonzero((bars.expiry_ns == 0) | (bars.expiry_ns > start))
        if len(keep) < len(self._instruments):
            self._user.keep(self._instruments, [self._instruments[i] for i in keep])
            self._instruments = [self._instruments[i] for i in keep]
            self._keep(keep, added=0)
        self._quotes.forget_expired(start)

    def _keep(self, keep: Array, added: int) -> None:
        self._slot_of = {name: slot for slot, name in enumerate(self._instruments)}
        self._books = select(self._books, keep, added, self._drop_crossing)
        self._bars = with_instruments(self._bars, keep, added)

    def _slots(self, data: pa.RecordBatch, rejects: list[Reject]) -> Array:
        return _positions(data, self._slot_of, self._quotes.index, rejects)

    # -- output ---------------------------------------------------------------------------------------------------

    def _refresh_chain(self, stream_ts: int) -> None:
        """Compute the chain's features if a bar is about to close and quotes have come since the last time."""
        end = int(self._bars.clock[bar_state.END])
        if self._quotes.changed and end and stream_ts > end:
            self._bars.chain[:] = self._quotes.features(end)
            self._bars.chain_ts[0] = self._quotes.surface.fitted_ns
            self._quotes.changed = False

    def _out_of_reach(self, reached: int) -> bool:
        end = self._clock()[0]
        return end == 0 or reached - end > MAX_SILENCE_NS

    def _within_reach(self, data: pa.RecordBatch, stream: Array, rejects: list[Reject]) -> pa.RecordBatch:
        """The rows less those before 1970 and those too far ahead: their clock is wrong.

        Judged row by row against the rows accepted before, so that it does not matter where a batch is cut.
        """
        end, interval = self._clock()
        keep = np.ones(len(stream), dtype=np.bool_)
        for row, reached in enumerate(stream.tolist()):
            if (end == 0 and reached <= 0) or (end > 0 and reached - end > MAX_SILENCE_NS):
                keep[row] = False
            else:
                end = max(end, -(-reached // interval) * interval)
        rejected = int((~keep).sum())
        if rejected == 0:
            return data
        rejects.append(Reject("clock_step", "stream time lies before 1970 or jumps by over 30 days", rejected))
        return data.filter(pa.array(keep))

    def _clock(self) -> tuple[int, int]:
        clock = self._bars.clock
        return int(clock[bar_state.END]), int(clock[bar_state.INTERVAL])

    def _room(self, stream: Array, reached: int) -> Room:
        end, interval = self._clock()
        if end == 0 or reached <= end:
            bars = 0 if end else _bars_within(stream, -(-int(stream[0]) // interval) * interval, interval)
        elif reached - end <= k.SILENCE_NS:
            bars = -(-(reached - end) // interval)
        else:
            bars = _bars_within(stream, end, interval)
        return room_for(bars * len(self._instruments), len(self._names)) if bars else self._no_room

    def _finished(self, room: Room, written: int) -> list[pa.RecordBatch]:
        """The rows that were written, with the columns that no kernel computes."""
        if written == 0:
            return []
        room = Room(room.integers[:written], room.floats[:written])
        ends = room.integers[:, k.I_BAR_TS]
        by_end = {end: self._alternative.values(end) for end in dict.fromkeys(ends.tolist())}
        other = np.stack([by_end[end] for end in ends.tolist()])
        names = (*self._names, *(feature.name for feature in self._catalogue.alternative))
        floats = np.hstack([room.floats, other])
        if self._catalogue.user:
            instruments = [self._instruments[slot] for slot in room.integers[:, k.I_SLOT]]
            counts = room.integers[:, k.I_TRADES]
            names, floats = self._user.extend(instruments, names, floats, counts)
        full = Room(room.integers, floats)
        return [feature_rows(self._catalogue, self.underlying, self._version, self._instruments, names, full)]

    # -- state ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Everything that later rows depend on; the books without their unused room."""
        return pack(
            {
                "instruments": self._instruments,
                **{f"book.{name}": array for name, array in used_part(self._books).items()},
                **{f"bar.{name}": array for name, array in self._bars._asdict().items()},
                **{f"chain.{name}": value for name, value in self._quotes.state().items()},
                "alternative": self._alternative.snapshot(),
                **{f"user.{name}": value for name, value in self._user.state().items()},
            }
        )

    def restore(self, data: bytes) -> None:
        """Continue where :meth:`snapshot` was taken."""
        state = unpack(data)
        self._instruments = list(state["instruments"])
        self._slot_of = {name: slot for slot, name in enumerate(self._instruments)}
        books = {name: state[f"book.{name}"] for name in Books._fields}
        self._books = refill(books, self._drop_crossing)
        self._bars = Bars(**{name: state[f"bar.{name}"] for name in Bars._fields})
        self._quotes = OptionQuotes()
        self._quotes.load({name[6:]: value for name, value in state.items() if name.startswith("chain.")})
        self._alternative.restore(state["alternative"])
        self._user.load({name[5:]: value for name, value in state.items() if name.startswith("user.")})


def _wrong_terms(row: Mapping[str, Any]) -> str | None:
    """Why an instrument cannot be introduced."""
    if row["price_increment_e9"] <= 0 or row["size_increment_e9"] <= 0 or row["contract_size_e9"] <= 0:
        return "has an increment that is not positive"
    if row["instrument_type"] not in INSTRUMENT_TYPES:
        return f"has the type {row['instrument_type'][:40]!r}"
    if row["instrument_type"] == OPTION and None in (row["expiry_ns"], row["strike_e9"], row["is_call"]):
        return "is an option and lacks expiry, strike or side"
    return None


def _bars_within(stream: Array, end: int, interval: int) -> int:
    """Bars that rows close, the open one ending at ``end``: after a long silence one only."""
    bars = 0
    for reached in stream[stream > end].tolist():
        if reached > end:
            bars += 1 if reached - end > k.SILENCE_NS else -(-(reached - end) // interval)
            end = -(-reached // interval) * interval
    return bars


def _stream_time(data: pa.RecordBatch) -> Array:
    event: Array = np.from_dlpack(data.column(1))
    late: Array = np.from_dlpack(data.column(4))
    return event + late


def _positions(
    data: pa.RecordBatch, known: Mapping[str, int], silent: Mapping[str, int], rejects: list[Reject]
) -> Array:
    """Positions of the rows' instruments in our arrays; -1 for one without features.

    Those of ``silent`` are known, too (the books and trades of options are stored, but nothing is computed from them);
    all others nobody has introduced.
    """
    column = data.column(0)
    names = column.dictionary.to_pylist()
    positions = np.array([known.get(name, -1) for name in names], dtype=np.int64)
    indices = np.from_dlpack(column.indices)
    code: Array = positions[indices]
    missing = [i for i, name in enumerate(names) if name not in known and name not in silent]
    if missing and (unknown := int(np.isin(indices, missing).sum())):
        example = ", ".join(sorted(names[i] for i in missing)[:5])
        rejects.append(Reject("unknown_instrument", f"no instrument event for {example}", unknown))
    return code
