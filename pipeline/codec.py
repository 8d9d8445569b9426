"""Messages on the wire: one Arrow IPC stream of one record batch, with its kind in a header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from features import signals
from features.catalog import STANDARD, Catalogue
from features.declared import own_activity
from features.errors import BadInputError
from features.events import SCHEMAS, EventBatch, Kind
from pipeline.ipc_messages import HostileMessageError, require_plain

KIND_HEADER: Final = "kind"
MAX_ROWS: Final = 1_600
MAX_BYTES: Final = 1_000_000
BEYOND: Final = 2**62
"""Times (ns) and numbers reach less: no sum or difference of two overflows in a kernel, which would not notice."""


def row_schemas(catalogue: Catalogue) -> Mapping[str, pa.Schema]:
    """Schemas of our own topics, by their ``kind`` header."""
    return {
        "features": catalogue.schema,
        "universe": catalogue.universe_schema,
        "signals": signals.SCHEMA,
        "own.activity": own_activity.SCHEMA,
    }


ROW_SCHEMAS: Final = row_schemas(STANDARD)


class UndecodableError(BadInputError):
    """A message that breaks its schema: the worker sends it to the dead letters and goes on.

    Args:
        reason: a short fixed word, by which dead letters are counted.
        detail: what exactly is wrong.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}.", 'See `hedgeflow sql "select * from dead_letters"`.')
        self.reason = reason
        self.detail = detail


def encode(data: pa.RecordBatch) -> bytes:
    """One record batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_batch(data)
    return bytes(sink.getvalue().to_pybytes())


def decode_rows(kind: str, payload: bytes, schemas: Mapping[str, pa.Schema] = ROW_SCHEMAS) -> pa.RecordBatch:
    """Decode rows of one of our own topics.

    Raises:
        UndecodableError: the kind is unknown, or the payload is not one batch of its schema.
    """
    schema = schemas.get(kind)
    if schema is None:
        raise UndecodableError("unknown_kind", f"kind {kind!r}")
    return _decode(schema, payload)


def decode_event(kind: str, underlying: str, payload: bytes) -> EventBatch:
    """Decode a message of ``md.events``.

    Raises:
        UndecodableError: as :func:`decode_rows`; or a time or number is negative or too large.
    """
    try:
        known = Kind(kind)
    except ValueError:
        raise UndecodableError("unknown_kind", f"kind {kind!r}") from None
    data = _decode(SCHEMAS[known], payload)
    if data.column(0).dictionary.null_count:
        raise UndecodableError("null_in_required", "an instrument has no name")
    event, recv, seq, late = (data.column(position).to_numpy() for position in (1, 2, 3, 4))
    # A sign bit is the highest of them: one look tells of all four.
    if (event | recv | seq | late).view(np.uint64).max() >= BEYOND:
        bad = "edge_column" if (seq | late).view(np.uint64).max() >= BEYOND else "time"
        raise UndecodableError(f"bad_{bad}", "ts_event, ts_recv, seq or late_ns is negative or beyond 2^62")
    return EventBatch(known, underlying, data)


class _Wire(NamedTuple):
    """What is known of the messages of one schema."""

    schema: pa.Schema
    head: bytes
    """The schema as a message: every stream that :func:`encode` writes begins with it."""
    required: list[int] | None
    """Positions of the columns that have no nulls; None: it is all of them."""
    dictionaries: int
    """How many columns have one."""


_WIRES: Final[dict[int, _Wire]] = {}
"""By the identity of a schema, which is kept, so that it stays its own: to hash a schema costs more than to decode."""


def _wire(schema: pa.Schema) -> _Wire:
    wire = _WIRES.get(id(schema))
    if wire is None:
        required = [position for position, field in enumerate(schema) if not field.nullable]
        dictionaries = sum(pa.types.is_dictionary(field.type) for field in schema)
        head = bytes(schema.serialize().to_pybytes())
        wire = _WIRES[id(schema)] = _Wire(
            schema, head, None if len(required) == len(schema) else required, dictionaries
        )
    return wire


def _decode(schema: pa.Schema, payload: bytes) -> pa.RecordBatch:
    """One batch of ``schema``, safe to read.

    The full validation stays for every message: it costs 1 to 5 us, and only it sees offsets, dictionary indices, text
    and null counts that would lead a reader out of its buffers. After it null counts can be trusted, so ``drop_null``
    tells of all required columns at once: it returns the very batch when there is none, and copies only what is about
    to be refused.
    """
    if len(payload) > MAX_BYTES:
        raise UndecodableError("too_large", f"{len(payload)} bytes, at most {MAX_BYTES} are allowed")
    wire = _wire(schema)
    try:
        data = _read(wire, payload)
        data.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration, HostileMessageError) as error:
        raise UndecodableError("undecodable", f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error
    if data.num_rows == 0:
        raise UndecodableError("empty", "a message has at least one row")
    required = data if wire.required is None else data.select(wire.required)
    if required.drop_null().num_rows < data.num_rows:
        names = [name for name in required.schema.names if required.column(name).null_count]
        raise UndecodableError("null_in_required", f"column {names[0]}")
    return data


def _read(wire: _Wire, payload: bytes) -> pa.RecordBatch:
    """The first batch of a stream.

    A stream that begins with the very bytes of our schema has our schema; others are compared field by field. Where
    no dictionary comes between the schema and the batch, the batch is read without parsing the schema again.
    """
    ours = payload.startswith(wire.head)
    if ours:
        require_plain(payload, len(wire.head), wire.dictionaries)
    if ours and not wire.dictionaries:
        try:
            return pa.ipc.read_record_batch(pa.py_buffer(payload).slice(len(wire.head)), wire.schema)
        except (pa.ArrowException, OSError, EOFError):
            pass  # the stream's reader says what is wrong
    reader = pa.ipc.open_stream(payload)
    if not ours:
        if not reader.schema.equals(wire.schema):
            raise UndecodableError("schema_mismatch", "the columns are not those of the kind")
        require_plain(payload, 0, wire.dictionaries)
    return reader.read_next_batch()
