"""Events as frames: what a notebook has becomes what the stages read."""

from __future__ import annotations

from typing import Any, Final

import polars as pl
import pyarrow as pa

from features.errors import BadInputError
from features.events import EDGE_COLUMNS, SCHEMAS, EventBatch, Kind

FRAME_REMEDY: Final = "Give a polars DataFrame: collect() a LazyFrame, pl.from_arrow(...) a table of Arrow."


def event_batch(kind: Kind, underlying: str, rows: pl.DataFrame | pa.Table | pa.RecordBatch) -> EventBatch:
    """Rows of a frame as a batch of ``kind``; columns that the schema does not know are left out.

    Args:
        kind: of the rows.
        underlying: that they are about.
        rows: with the columns of ``SCHEMAS[kind]`` in any order, of types that cast without loss. Edge columns may be
            left out (zero), columns that may be null, too. Times are nanoseconds since 1970, or datetimes.

    Raises:
        BadInputError: a column is missing, has nulls where none may be or does not cast without loss; not a frame.
    """
    if not isinstance(rows, pl.DataFrame | pa.Table | pa.RecordBatch):
        raise BadInputError(f"Rows of kind {kind} are a {type(rows).__name__}, not a frame.", FRAME_REMEDY)
    table = rows.to_arrow() if isinstance(rows, pl.DataFrame) else rows
    columns = [_column(kind, table, field) for field in SCHEMAS[kind]]
    return EventBatch(kind, underlying, pa.RecordBatch.from_arrays(columns, schema=SCHEMAS[kind]))


def _column(kind: Kind, table: pa.Table | pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name not in table.schema.names:
        if field.name in EDGE_COLUMNS:
            return pa.array([0], field.type).take(pa.array([0] * table.num_rows, pa.int32()))
        if field.nullable:
            return pa.nulls(table.num_rows, field.type)
        needed = [each.name for each in SCHEMAS[kind] if not each.nullable and each.name not in EDGE_COLUMNS]
        raise BadInputError(f"Rows of kind {kind} lack the column {field.name!r}.", f"They need {needed}.")
    values: Any = table.column(field.name)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    try:
        if pa.types.is_dictionary(field.type):
            values = values.cast(pa.utf8()).dictionary_encode()
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.timestamp("ns", values.type.tz))
        values = values.cast(field.type)
    except pa.ArrowException as error:
        raise BadInputError(
            f"Column {field.name!r} of kind {kind} is {values.type}: {str(error).splitlines()[0]}.",
            f"It must be {field.type}.",
        ) from error
    if values.null_count and not field.nullable:
        raise BadInputError(f"Column {field.name!r} of kind {kind} has nulls.", "It must not.")
    return values
