"""The kinds of market event and their schemas: the one place (DESIGN 2).

Every event is a row of an Arrow record batch of one kind. Times are int64 nanoseconds since the Unix epoch, UTC.
Prices and sizes are int64 counts of the instrument's increments; other decimals are int64 in units of 1e-9, and
their names end in ``_e9``. So sums are exact and do not depend on order.

Common columns, first in every schema:

=============  =================================================================================================
instrument     venue symbol with the venue's name in front, e.g. ``binance-usdm:BTCUSDT``; dictionary-encoded
ts_event       when it happened, by the venue's clock
ts_recv        when we had it, by our clock: availability, for training and as-of joins
seq            0, 1, 2 ... per (instrument, kind), given by the edge: a repeat is a duplicate, a jump is a loss. A live
               source starts each session at a larger multiple of ``SESSION_ROWS``
late_ns        how far ``ts_event`` lies behind the largest ``ts_event`` sent for this underlying, judged once, at
               the edge. ``ts_event + late_ns`` is thus the *stream time* of the row, which never decreases.
ref_version    version of the instrument's reference data that the row's increments refer to
=============  =================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from sys import byteorder
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from features.errors import BadInputError
from features.message_layout import layout_of

NANO: Final = 1_000_000_000
"""Nanoseconds in a second, and the unit of ``_e9`` columns."""

SNAPSHOT: Final = 1
"""Flag of a book row that belongs to a full snapshot; the first such row clears the book."""

LAST: Final = 2
"""Flag of the last row of a book event: only then does the event become visible."""

SESSION_ROWS: Final = 2**34
"""Rows that a session of a source may number: the next one starts at a multiple of this, so it repeats no ``seq``."""

BID: Final = 1
ASK: Final = -1


class Kind(StrEnum):
    """What an event is; also the ``kind`` header on the wire and the table's name in the lake."""

    BOOK = "book"
    TRADE = "trade"
    TRADE_CORRECTION = "trade_correction"
    OPTION_QUOTE = "option_quote"
    FUNDING = "funding"
    ALT = "alt"
    INSTRUMENT = "instrument"
    HEARTBEAT = "heartbeat"


INSTRUMENT_TYPE: Final = pa.dictionary(pa.int32(), pa.utf8())

_COMMON: Final = [
    pa.field("instrument", INSTRUMENT_TYPE, nullable=False),
    pa.field("ts_event", pa.int64(), nullable=False),
    pa.field("ts_recv", pa.int64(), nullable=False),
    pa.field("seq", pa.int64(), nullable=False),
    pa.field("late_ns", pa.int64(), nullable=False),
    pa.field("ref_version", pa.int32(), nullable=False),
]

EDGE_COLUMNS: Final = ("seq", "late_ns", "ref_version")
"""Columns that the edge fills; a source leaves them zero."""


def _schema(*own: pa.Field) -> pa.Schema:
    return pa.schema([*_COMMON, *own])


def _required(name: str, type_: Any) -> pa.Field:
    return pa.field(name, type_, nullable=False)


SCHEMAS: Final[Mapping[Kind, pa.Schema]] = {
    # One row is one price level of one side; size 0 deletes the level. An event (venue message) is a run of rows
    # that ends with LAST. `prev_id` and `update_id` chain events: an event applies to a book whose last
    # update_id lies in [prev_id, update_id).
    Kind.BOOK: _schema(
        _required("prev_id", pa.int64()),
        _required("update_id", pa.int64()),
        _required("side", pa.int8()),
        _required("price", pa.int64()),
        _required("size", pa.int64()),
        _required("flags", pa.uint8()),
    ),
    Kind.TRADE: _schema(
        _required("trade_id", pa.int64()),
        _required("price", pa.int64()),
        _required("size", pa.int64()),
        _required("aggressor", pa.int8()),  # +1 the buyer took, -1 the seller took, 0 unknown
    ),
    # What a trade should have been; size 0: it is busted. Counted, and never applied to a bar that was emitted.
    Kind.TRADE_CORRECTION: _schema(
        _required("trade_id", pa.int64()),
        _required("price", pa.int64()),
        _required("size", pa.int64()),
        _required("aggressor", pa.int8()),
    ),
    # Prices are in the option's quote currency (coin for inverse options). A missing bid or ask is null.
    Kind.OPTION_QUOTE: _schema(
        _required("expiry_ns", pa.int64()),
        _required("strike_e9", pa.int64()),
        _required("is_call", pa.bool_()),
        pa.field("bid", pa.int64()),
        pa.field("ask", pa.int64()),
        pa.field("mark_e9", pa.int64()),
        pa.field("forward_e9", pa.int64()),
        pa.field("open_interest_e9", pa.int64()),
        pa.field("volume_e9", pa.int64()),
    ),
    Kind.FUNDING: _schema(
        _required("rate_e9", pa.int64()),  # per 8 hours, as a fraction
        pa.field("index_e9", pa.int64()),
        pa.field("mark_e9", pa.int64()),
        pa.field("open_interest_e9", pa.int64()),
    ),
    Kind.ALT: _schema(
        _required("source", pa.utf8()),
        _required("name", pa.utf8()),
        pa.field("text", pa.utf8()),
        pa.field("value", pa.float64()),
        _required("ts_available", pa.int64()),
    ),
    Kind.INSTRUMENT: _schema(
        _required("instrument_type", pa.utf8()),  # spot | perpetual | future | option
        _required("quote_currency", pa.utf8()),
        _required("settlement_currency", pa.utf8()),
        _required("price_increment_e9", pa.int64()),
        _required("size_increment_e9", pa.int64()),
        # Units of the underlying in one contract; of an inverse perpetual or future, units of the quote currency.
        _required("contract_size_e9", pa.int64()),
        _required("is_inverse", pa.bool_()),
        pa.field("expiry_ns", pa.int64()),
        pa.field("strike_e9", pa.int64()),
        pa.field("is_call", pa.bool_()),
    ),
    Kind.HEARTBEAT: _schema(),
}


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Rows of one kind about one underlying, in log order; ``data`` has the schema ``SCHEMAS[kind]``."""

    kind: Kind
    underlying: str
    data: pa.RecordBatch


def record_batch(kind: Kind, names: Sequence[str], columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Build a record batch of ``kind``.

    Live sources make batches of a few rows, so the cost of a call counts. Where a kind has integers only behind the
    instrument, and none of them is null, up to ``MESSAGE_ROWS`` rows are joined to one Arrow message
    (:mod:`features.message_layout`); all others are made column by column. Rows and errors are the same.

    Args:
        kind: the kind of event.
        names: the instruments that occur.
        columns: ``instrument`` as int32 codes into ``names``; every other column of the schema as a numpy or
            Arrow array of one length, or as one integer that all rows share. Edge columns may be left out (zero).
            Arrays may be shared, not copied.

    Raises:
        BadInputError: a column is missing, unknown or of another length.
    """
    codes = np.asarray(columns["instrument"], dtype=np.int32)
    facts = _FACTS[kind]
    if not columns.keys() <= facts.names:
        unknown = set(columns) - facts.names
        known = SCHEMAS[kind].names
        raise BadInputError(f"Unknown column(s) {sorted(unknown)} for kind {kind}.", f"It has {known}.")
    instrument = _instrument(codes, tuple(names))
    if facts.integers and 0 < len(codes) <= MESSAGE_ROWS:
        message = _message(kind, len(codes), columns)
        if message is not None:
            rest = pa.ipc.read_record_batch(message, facts.rest)
            return rest.add_column(0, _COMMON[0], instrument)
    return _by_column(kind, instrument, columns)


def _by_column(kind: Kind, instrument: pa.Array, columns: Mapping[str, Any]) -> pa.RecordBatch:
    facts, rows = _FACTS[kind], len(instrument)
    arrays: list[pa.Array] = [instrument]
    for name, arrow_type, numpy_type, nullable in facts.own:
        if name in columns:
            arrays.append(_array(columns[name], arrow_type, rows))
        elif name in EDGE_COLUMNS:
            arrays.append(pa.array(np.zeros(rows, dtype=numpy_type)))
        elif nullable:
            arrays.append(pa.nulls(rows, arrow_type))
        else:
            raise BadInputError(f"Column {name!r} of kind {kind} is missing.", "Every required column is needed.")
        if len(arrays[-1]) != rows:
            raise BadInputError(
                f"Column {name!r} has {len(arrays[-1])} rows, 'instrument' has {rows}.",
                "All columns of a batch have one length.",
            )
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS[kind])


def _array(values: Any, type_: Any, rows: int) -> pa.Array:
    if type(values) is int:
        values = np.full(rows, values)
    if isinstance(values, pa.Array):
        return values if values.type == type_ else values.cast(type_)
    return pa.array(values, type=type_)


def _message(kind: Kind, rows: int, columns: Mapping[str, Any]) -> bytes | None:
    """The columns behind the instrument as an Arrow message; None: not all of them are ``rows`` integers."""
    head, blanks = _blank(kind, rows)
    parts = [head]
    for name, arrow_type, numpy_type, zeros, padding in blanks:
        values = columns.get(name)
        if type(values) is int:
            try:
                parts.append(values.to_bytes(numpy_type.itemsize, byteorder, signed=numpy_type.kind == "i") * rows)
            except OverflowError:
                return None
            parts.append(padding)
            continue
        if values is None:
            if zeros is None or name in columns:
                return None
            parts.append(bytes(zeros))
            continue
        if type(values) is not np.ndarray or values.dtype != numpy_type:
            array = _array(values, arrow_type, rows)
            if type(array) is pa.ChunkedArray or array.null_count:
                return None
            values = array.to_numpy()
        if values.shape != (rows,):
            return None
        parts.append(values.tobytes())
        parts.append(padding)
    return b"".join(parts)


class _Facts(NamedTuple):
    """What is known of a kind: the columns behind the instrument, by name, type, numpy's type, and if nullable."""

    rest: pa.Schema
    names: frozenset[str]
    own: tuple[tuple[str, Any, Any, bool], ...]
    integers: bool


def _facts(schema: pa.Schema) -> _Facts:
    rest = [field for field in schema if field.name != "instrument"]
    own = tuple((field.name, field.type, np.dtype(field.type.to_pandas_dtype()), field.nullable) for field in rest)
    integers = all(pa.types.is_integer(field.type) for field in rest)
    return _Facts(pa.schema(rest), frozenset(schema.names), own, integers)


_FACTS: Final = {kind: _facts(schema) for kind, schema in SCHEMAS.items()}

MESSAGE_ROWS: Final = 2_048
"""Above it, the cost of a row is what counts."""


def _instrument(codes: Any, names: tuple[str, ...]) -> pa.Array:
    if len(names) == 1 and codes.ndim == 1 and len(codes) <= MESSAGE_ROWS and codes.tobytes() == bytes(codes.nbytes):
        return _only(names, len(codes))
    return pa.DictionaryArray.from_arrays(pa.array(codes), _dictionary(names))


@lru_cache(maxsize=512)
def _only(names: tuple[str, ...], rows: int) -> pa.Array:
    """Rows about one instrument. Not cut from longer ones: Arrow would write up to 64 bytes of these."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), _dictionary(names))


@lru_cache(maxsize=64)
def _dictionary(names: tuple[str, ...]) -> pa.Array:
    return pa.array(names, pa.utf8())


@lru_cache(maxsize=1_024)
def _blank(kind: Kind, rows: int) -> tuple[bytes, tuple[tuple[str, Any, Any, int | None, bytes], ...]]:
    """A message without its columns: the head, and of each column its name, types, bytes of zeros if the edge fills
    it, and what follows it."""
    facts = _FACTS[kind]
    arrays = [pa.array(np.zeros(rows, numpy_type)) for _, _, numpy_type, _ in facts.own]
    layout = layout_of(pa.RecordBatch.from_arrays(arrays, schema=facts.rest))
    blanks = []
    for column, start, end in zip(facts.own, layout.values, (*layout.values[1:], layout.size), strict=True):
        name, arrow_type, numpy_type, _ = column
        zeros = end - start if name in EDGE_COLUMNS else None
        padding = bytes(end - start - rows * numpy_type.itemsize)
        blanks.append((name, arrow_type, numpy_type, zeros, padding))
    return layout.head, tuple(blanks)
