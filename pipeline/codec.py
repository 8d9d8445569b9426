"""Messages on the wire: one Arrow IPC stream of one record batch, with its kind in a header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from features import signals
from features.catalog import STANDARD, Catalogue
from features.declared import own_activity
from features.errors import BadInputError
from features.events import SCHEMAS, EventBatch, Kind

KIND_HEADER: Final = "kind"
MAX_ROWS: Final = 1_600
MAX_BYTES: Final = 1_000_000


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
        UndecodableError: as :func:`decode_rows`; or a row has a negative ``seq`` or ``late_ns``.
    """
    try:
        known = Kind(kind)
    except ValueError:
        raise UndecodableError("unknown_kind", f"kind {kind!r}") from None
    data = _decode(SCHEMAS[known], payload)
    if data.column(3).to_numpy().min() < 0 or data.column(4).to_numpy().min() < 0:
        raise UndecodableError("bad_edge_column", "seq or late_ns is negative")
    return EventBatch(known, underlying, data)


def _decode(schema: pa.Schema, payload: bytes) -> pa.RecordBatch:
    if len(payload) > MAX_BYTES:
        raise UndecodableError("too_large", f"{len(payload)} bytes, at most {MAX_BYTES} are allowed")
    try:
        with pa.ipc.open_stream(payload) as reader:
            if not reader.schema.equals(schema):
                raise UndecodableError("schema_mismatch", "the columns are not those of the kind")
            data = reader.read_next_batch()
        data.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise UndecodableError("undecodable", f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error
    if data.num_rows == 0:
        raise UndecodableError("empty", "a message has at least one row")
    for field, column in zip(schema, data.columns, strict=True):
        if not field.nullable and column.null_count:
            raise UndecodableError("null_in_required", f"column {field.name}")
    return data
