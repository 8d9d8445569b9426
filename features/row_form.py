"""A form of feature rows: their Arrow message with all that stays the same, into which numbers are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from features.message_layout import layout_of, null_count_offsets

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class RowForm:
    """See :func:`row_form`. Offsets in ``blank`` are counted in bytes, or in words of 8 of them."""

    schema: pa.Schema
    blank: Array
    nullable_words: Array
    """(rows, columns) of what may be unknown: the floats, and the counted column behind them."""
    null_count_words: Array
    validity_bytes: Array
    """(bytes, columns)."""
    count_source: int
    number_words: Array
    number_sources: Array
    flag_bytes: Array
    flag_sources: Array

    def filled(self, floats: Array, integers: Array) -> pa.RecordBatch:
        """The rows.

        Args:
            floats: (rows, floats), NaN is unknown.
            integers: (rows, ...), of which the form knows the columns; a negative count is unknown.
        """
        message = self.blank.copy()
        words = message.view(np.int64)
        values = np.empty(self.nullable_words.shape)
        values[:, :-1] = floats
        bits = values.view(np.int64)
        bits[:, -1] = integers[:, self.count_source]
        known = values == values
        known[:, -1] = bits[:, -1] >= 0
        words[self.nullable_words] = bits
        words[self.null_count_words] = len(known) - np.add.reduce(known, axis=0, dtype=np.int64)
        message[self.validity_bytes] = np.packbits(known, axis=0, bitorder="little")
        words[self.number_words] = integers[:, self.number_sources]
        message[self.flag_bytes] = np.packbits(integers[:, self.flag_sources] != 0, axis=0, bitorder="little")
        return pa.ipc.read_record_batch(pa.py_buffer(message), self.schema)


def row_form(
    sample: pa.RecordBatch,
    floats: Sequence[str],
    count: tuple[str, int],
    numbers: Mapping[str, int],
    flags: Mapping[str, int],
) -> RowForm | None:
    """The form of all rows that differ from those of ``sample`` in the columns named here only.

    Args:
        sample: all floats and counts are null in it, so that their validity has room.
        floats: by column of what the form is filled from.
        count: an integer column that may be unknown, and its column in the integers.
        numbers, flags: integer and Boolean columns without nulls, and their columns in the integers.

    Returns:
        None where ``floats`` are not exactly the other float columns of the schema, each of which may be null.
    """
    names, rows = sample.schema.names, sample.num_rows
    nullable = [*floats, count[0]]
    if {name for name, column in zip(names, sample.columns, strict=True) if column.null_count} != set(nullable):
        return None
    layout = layout_of(sample)
    null_counts = null_count_offsets(layout, sample)
    if null_counts is None or len(set(nullable)) < len(nullable):
        return None
    at = {name: position for position, name in enumerate(names)}
    step, mask = 8 * np.arange(rows)[:, None], np.arange((rows + 7) // 8)[:, None]

    def where(offsets: Sequence[int], columns: Iterable[str]) -> Array:
        return np.array([offsets[at[name]] for name in columns], dtype=np.int64)

    return RowForm(
        schema=sample.schema,
        blank=np.frombuffer(sample.serialize(), dtype=np.uint8).copy(),
        nullable_words=(where(layout.values, nullable) + step) // 8,
        null_count_words=where(null_counts, nullable) // 8,
        validity_bytes=where(layout.validity, nullable) + mask,
        count_source=count[1],
        number_words=(where(layout.values, numbers) + step) // 8,
        number_sources=np.array(list(numbers.values())),
        flag_bytes=where(layout.values, flags) + mask,
        flag_sources=np.array(list(flags.values())),
    )
