"""Messages that wait for a commit, and the rows of a table that they become: built once a commit, not a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.events import EventBatch
from pipeline.processor import Position
from pipeline.tables import Table
from pipeline.topics import EVENTS

OVERHEAD_BYTES: Final = 4_096
"""What a waiting message takes beside its payload: measured with messages of one row, whose objects are most of it."""

_DAY_NS: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one message, and where in the log it stands.

    Args:
        underlying: of market events, whose rows do not carry it; empty elsewhere.
        payload: size of the message in bytes.
    """

    position: Position
    offset: int
    data: pa.RecordBatch
    underlying: str = ""
    payload: int = 0

    @property
    def size(self) -> int:
        """Bytes of memory that it keeps."""
        return self.payload + OVERHEAD_BYTES


def stored_columns(batch: EventBatch) -> Mapping[str, pa.Array]:
    """The columns of raw rows as the lake stores them."""
    columns = dict(zip(batch.data.schema.names, batch.data.columns, strict=True))
    return {"underlying": pa.repeat(batch.underlying, batch.data.num_rows), **_plain(columns)}


def stacked(table: Table, pieces: Sequence[Piece]) -> pa.Table:
    """The rows of all pieces in their order, as the table stores them: with position and date."""
    data = pa.Table.from_batches([piece.data for piece in pieces])
    counts = np.array([piece.data.num_rows for piece in pieces])
    begins = np.cumsum(counts) - counts
    columns: dict[str, Any] = _plain(dict(zip(data.schema.names, data.columns, strict=True)))
    if table.topic == EVENTS:
        columns["underlying"] = _repeated([piece.underlying for piece in pieces], counts)
    partitions = np.array([piece.position[1] for piece in pieces], np.int32)
    columns["topic_partition"] = pa.array(np.repeat(partitions, counts))
    columns["topic_offset"] = pa.array(np.repeat(np.array([piece.offset for piece in pieces], np.int64), counts))
    columns["topic_row"] = pa.array((np.arange(len(data)) - np.repeat(begins, counts)).astype(np.int32))
    columns["date"] = _dates(columns[table.time])
    return pa.table({name: columns[name] for name in table.schema.names}).combine_chunks()


def _plain(columns: dict[str, Any]) -> dict[str, Any]:
    """Without dictionaries and unsigned flags, which Delta does not have."""
    plain = dict(columns)
    for name, column in columns.items():
        if pa.types.is_dictionary(column.type):
            plain[name] = column.cast(column.type.value_type)
        elif column.type == pa.uint8():
            plain[name] = column.cast(pa.int16())
    return plain


def _repeated(texts: Sequence[str], counts: np.ndarray[Any, Any]) -> pa.Array:
    """Each text as often as its message has rows."""
    encoded = pa.array(texts, pa.utf8()).dictionary_encode()
    codes = np.repeat(encoded.indices.to_numpy(), counts)
    return encoded.dictionary.take(pa.array(codes))


def _dates(times: pa.ChunkedArray) -> pa.Array:
    """The UTC date of each time, as text."""
    if len(times) == 0:
        return pa.array([], pa.utf8())
    bounds = pc.min_max(times).as_py()
    if bounds["min"] // _DAY_NS == bounds["max"] // _DAY_NS:
        return pa.repeat(_date(bounds["min"] // _DAY_NS), len(times))
    days, codes = np.unique(times.to_numpy() // _DAY_NS, return_inverse=True)
    return pa.array([_date(int(day)) for day in days], pa.utf8()).take(pa.array(codes))


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))
