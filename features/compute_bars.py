"""Bars of frames: the stage of the live system, called on what a notebook holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from features.catalog import STANDARD, Catalogue
from features.engine import UnderlyingEngine
from features.errors import BadInputError, ConfigError
from features.event_frames import FRAME_REMEDY, event_batch
from features.events import LAST, NANO, SCHEMAS, EventBatch, Kind

_ORDER = {Kind.INSTRUMENT: 0, Kind.BOOK: 1, Kind.TRADE: 2}


def compute_bars(
    book: pl.DataFrame,
    trades: pl.DataFrame,
    instruments: pl.DataFrame,
    interval: int | timedelta = NANO,
    *,
    catalogue: Catalogue = STANDARD,
    drop_crossing: bool = False,
) -> pl.DataFrame:
    """The feature rows of frames of events: the same numbers, to the bit, as the streaming stage gives.

    Rows are merged by (``ts_recv``, kind, row): reference data first, then books, then trades. Where the frames have no
    edge columns, ``seq`` numbers the rows of an instrument and kind, and ``late_ns`` follows from ``ts_event``. A bar
    (t - interval, t] closes with the first row beyond t, so the last bar of the frames, which nothing closed, is not
    among the rows.

    Args:
        book: rows of kind ``book`` (:mod:`features.events`), prices and sizes in counts of increments.
        trades: rows of kind ``trade``. Those that no market can have (a size below 1) are left out, as in the stream:
            what they were part of is null.
        instruments: rows of kind ``instrument``; with a column ``underlying``, instruments that share one close their
            bars together; else each is its own. Times may be left out: known before the first row.
        interval: length of a bar, nanoseconds or a timedelta: 1, 2, 5 or 10 seconds.
        catalogue: the features.
        drop_crossing: remove stale levels that a newer one crosses.

    Returns:
        Rows of ``catalogue.schema``, by bar and instrument.

    Raises:
        BadInputError: a column is missing or of another type, a time is before 1970, an event's instrument is not in
            ``instruments``, or its reference data are impossible.
        ConfigError: the interval is none of those.
    """
    if not isinstance(interval, int | timedelta):
        raise ConfigError(f"The interval is {interval!r}.", "Give nanoseconds as int, or a timedelta.")
    interval_ns = interval if isinstance(interval, int) else round(interval / timedelta(microseconds=1)) * 1_000
    book, trades = _in_ns("book", book), _in_ns("trades", trades)
    instruments = _in_ns("instruments", instruments)
    kinds = {Kind.INSTRUMENT: _with_times(instruments, book, trades), Kind.BOOK: book, Kind.TRADE: trades}
    listed = _underlyings(kinds)
    frames: list[pl.DataFrame] = []
    for underlying in dict.fromkeys(listed.values()):
        engine = UnderlyingEngine(underlying, interval_ns, catalogue, drop_crossing=drop_crossing)
        mine = [name for name, each in listed.items() if each == underlying]
        for batch in _log(underlying, {kind: _of(frame, mine) for kind, frame in kinds.items()}):
            found, rejects = engine.process(batch)
            if rejects and batch.kind is Kind.INSTRUMENT:
                raise BadInputError(f"Reference data cannot be used: {rejects[0].detail}.", "Correct `instruments`.")
            for rows in found:
                frame = pl.from_arrow(rows)
                assert isinstance(frame, pl.DataFrame)
                frames.append(frame)
    empty = pl.from_arrow(catalogue.schema.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return pl.concat([empty, *frames]).sort("bar_ts", "instrument", maintain_order=True)


def _in_ns(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Times as nanoseconds since 1970."""
    if not isinstance(frame, pl.DataFrame):
        raise BadInputError(f"`{name}` is a {type(frame).__name__}.", FRAME_REMEDY)
    times = [each for each in ("ts_event", "ts_recv") if each in frame.columns]
    frame = frame.with_columns(pl.col(each).dt.epoch("ns") for each in times if frame[each].dtype == pl.Datetime)
    for each in times:
        if frame[each].dtype.is_numeric() and (frame[each] <= 0).any():
            raise BadInputError(f"`{name}` has a {each} of 0 or less.", "Times are nanoseconds since 1970.")
    return frame


def _with_times(instruments: pl.DataFrame, book: pl.DataFrame, trades: pl.DataFrame) -> pl.DataFrame:
    """Reference data without times holds from the first row on."""
    missing = [name for name in ("ts_event", "ts_recv") if name not in instruments.columns]
    times = {
        name: [value for frame in (book, trades) if name in frame.columns and (value := frame[name].min()) is not None]
        for name in missing
    }
    return instruments.with_columns(pl.lit(min(times[name], default=0), pl.Int64).alias(name) for name in missing)


def _underlyings(kinds: dict[Kind, pl.DataFrame]) -> dict[str, str]:
    """Instrument -> underlying, in order of first appearance."""
    instruments = kinds[Kind.INSTRUMENT]
    if "instrument" not in instruments.columns:
        raise BadInputError("`instruments` lacks the column 'instrument'.", "Give rows of kind instrument.")
    names = instruments["instrument"].cast(pl.String).to_list()
    owners = instruments["underlying"].cast(pl.String).to_list() if "underlying" in instruments.columns else names
    listed = dict(zip(names, owners, strict=True))
    for kind in (Kind.BOOK, Kind.TRADE):
        if "instrument" not in kinds[kind].columns:
            raise BadInputError(
                f"Rows of kind {kind} lack the column 'instrument'.", f"They need {SCHEMAS[kind].names}."
            )
        unknown = set(kinds[kind]["instrument"].cast(pl.String).unique()) - set(listed)
        if unknown:
            raise BadInputError(f"No reference data for {sorted(unknown)[:5]}.", "Give `instruments` a row for each.")
    return listed


def _of(frame: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    return frame.filter(pl.col("instrument").cast(pl.String).is_in(names))


def _log(underlying: str, kinds: dict[Kind, pl.DataFrame]) -> Iterator[EventBatch]:
    """The rows of one underlying as runs of one kind, in the order of the log.

    An event of the book, a run of rows up to ``LAST``, is never cut by the merge: its rows share their place.
    """
    batches = {kind: event_batch(kind, underlying, frame).data for kind, frame in kinds.items()}
    recv = {kind: _places(kind, data) for kind, data in batches.items()}
    place = np.concatenate([recv[kind] for kind in _ORDER])
    kind_of = np.concatenate([np.full(batches[kind].num_rows, order) for kind, order in _ORDER.items()])
    row_of = np.concatenate([np.arange(batches[kind].num_rows) for kind in _ORDER])
    order = np.lexsort((row_of, kind_of, place))
    stamped = _stamped({kind: frame.columns for kind, frame in kinds.items()}, batches, kind_of[order], row_of[order])
    kinds_in_order = list(_ORDER)
    cuts = np.flatnonzero(np.diff(kind_of[order])) + 1
    for rows in np.split(order, cuts):
        if len(rows):
            kind = kinds_in_order[kind_of[rows[0]]]
            yield EventBatch(kind, underlying, stamped[kind].take(pa.array(row_of[rows])))


def _places(kind: Kind, data: pa.RecordBatch) -> Any:
    """The time by which rows are merged: ``ts_recv``, of a book event that of its last row.

    It never goes back within an instrument and kind: their rows stay in the order of the frame.
    """
    recv = data.column("ts_recv").to_numpy().copy()
    code = data.column(0).indices.to_numpy()
    for instrument in np.unique(code):
        rows = np.flatnonzero(code == instrument)
        reached = np.maximum.accumulate(recv[rows])
        if kind is Kind.BOOK:
            last = np.flatnonzero(data.column("flags").to_numpy()[rows] & LAST)
            event = np.searchsorted(last, np.arange(len(rows)))
            whole = event < len(last)
            reached[whole] = reached[last[event[whole]]]
        recv[rows] = reached
    return recv


def _stamped(given: dict[Kind, list[str]], batches: dict[Kind, pa.RecordBatch], kind_of: Any, row_of: Any) -> Any:
    """Batches with the edge columns that their frames did not have."""
    event = np.empty(len(kind_of), dtype=np.int64)
    for order, kind in enumerate(_ORDER):
        mine = kind_of == order
        event[mine] = batches[kind].column("ts_event").to_numpy()[row_of[mine]]
    late = np.maximum.accumulate(event) - event if len(event) else event
    stamped = dict(batches)
    for order, kind in enumerate(_ORDER):
        data, mine = stamped[kind], kind_of == order
        if "late_ns" not in given[kind]:
            values = np.empty(data.num_rows, dtype=np.int64)
            values[row_of[mine]] = late[mine]
            data = data.set_column(4, data.schema.field(4), pa.array(values))
        if "seq" not in given[kind]:
            data = data.set_column(3, data.schema.field(3), pa.array(_numbers(data.column(0).indices.to_numpy())))
        stamped[kind] = data
    return stamped


def _numbers(code: Any) -> Any:
    """0, 1, 2 ... for the rows of each instrument."""
    numbers = np.empty(len(code), dtype=np.int64)
    for instrument in np.unique(code):
        rows = np.flatnonzero(code == instrument)
        numbers[rows] = np.arange(len(rows))
    return numbers
