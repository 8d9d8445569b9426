"""Where the columns of a record batch lie in its Arrow message.

To make a batch column by column costs about a microsecond a column, whatever its length; a message that holds them all
is read in a few. Messages of one schema and one number of rows differ in the bytes of their columns only, so what was
found out about one of them holds for all: whoever knows the layout joins the bytes, and lets Arrow read them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa


class MessageLayout(NamedTuple):
    """Of all messages with the schema, the number of rows and the null counts of one of them.

    ``validity`` and ``values`` are the offsets of a column's buffers in the message, ``validity`` is -1 where there is
    none. Of text, ``values`` is where the offsets lie.
    """

    schema: pa.Schema
    head: bytes
    validity: tuple[int, ...]
    values: tuple[int, ...]
    size: int


def layout_of(sample: pa.RecordBatch) -> MessageLayout:
    """Find out the layout by writing ``sample`` and reading it, which copies nothing.

    Nothing is assumed about Arrow's format beyond that: the addresses of what was read tell where it was written.

    Args:
        sample: at least one row, no dictionaries.
    """
    message = sample.serialize()
    columns = pa.ipc.read_record_batch(message, sample.schema).columns
    first, size = message.address, message.size
    buffers = [column.buffers()[:2] for column in columns]
    validity = tuple(-1 if mask is None else mask.address - first for mask, _ in buffers)
    values = tuple(data.address - first for _, data in buffers)
    if not all(0 < offset < size for offset in values):
        raise AssertionError("Arrow copied a column of an uncompressed message.")
    body = min(offset for offset in (*validity, *values) if offset >= 0)
    return MessageLayout(sample.schema, bytes(message.to_pybytes())[:body], validity, values, size)


def null_count_offsets(layout: MessageLayout, sample: pa.RecordBatch) -> tuple[int, ...] | None:
    """Where the head of ``sample``'s message holds the null count of each column, as an int64.

    The format has them in a row, each behind its column's number of rows (Arrow, "Serialization and Interprocess
    Communication", RecordBatch message). A reader takes no heed of a column's ``validity`` where it is zero. None: that
    row of numbers is not in the head, or not only once.
    """
    pairs = [(sample.num_rows, column.null_count) for column in sample.columns]
    nodes = np.array(pairs, dtype=np.int64).tobytes()
    if layout.head.count(nodes) != 1:
        return None
    first = layout.head.index(nodes)
    return tuple(first + 16 * position + 8 for position in range(len(pairs)))
