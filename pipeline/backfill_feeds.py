"""What the tasks of a backfill read: in pieces that fit in memory, from any position on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from features.events import SCHEMAS, EventBatch, Kind
from pipeline.backfill_task import Task, settings_of, source_of
from pipeline.raw_files import BEGIN, listed, quoted
from pipeline.raw_reader import connected, read_underlying

Positions = Mapping[str, list[int]]

_COUNT: Final = "rows"


class Piece(NamedTuple):
    """The next part of the input.

    Args:
        item: for the stage.
        rows: of the input in it.
        position: of what follows, by underlying; merged into what is known.
        beyond: the window is over. The item only closes its last bar, and is not part of the state.
    """

    item: Any
    rows: int
    position: dict[str, list[int]]
    beyond: bool = False


def underlying_pieces(task: Task, positions: Positions) -> Iterator[Piece]:
    """The log of one underlying; ends with the row that closes the window's last bar."""
    log, end = task.log, task.window.end
    assert log is not None
    name = log.underlying
    first = positions.get(name)
    with connected(source_of(task), task.threads) as connection:
        if first is None and task.beginning is not None:
            introduced = _introductions(connection, task)
            if introduced is not None:
                yield Piece(introduced, introduced.data.num_rows, {})
            first = [task.beginning.offset, 0]
        begin = BEGIN if first is None else (first[0], first[1])
        for batch, offsets, rows in read_underlying(connection, log, begin):
            count = len(offsets) if end is None else _rows_until(batch, end)
            if count:
                last = count - 1
                part = EventBatch(batch.kind, name, batch.data.slice(0, count))
                yield Piece(part, count, {name: [int(offsets[last]), int(rows[last]) + 1]})
            if count < len(offsets):
                yield Piece(EventBatch(batch.kind, name, batch.data.slice(count, 1)), 1, {}, beyond=True)
                return


def _rows_until(batch: EventBatch, end: int) -> int:
    """Rows before the first whose stream time lies beyond ``end``; stream time never decreases."""
    stream = batch.data.column(1).to_numpy() + batch.data.column(4).to_numpy()
    return int(np.searchsorted(stream, end, side="right"))


def _introductions(connection: Any, task: Task) -> EventBatch | None:
    """The last word on each instrument before the warm-up begins, dated to its beginning."""
    beginning, log = task.beginning, task.log
    assert beginning is not None
    assert log is not None
    files = [file for group in beginning.groups for file in group]
    if not files:
        return None
    schema = SCHEMAS[Kind.INSTRUMENT]
    names = ", ".join(name for name in schema.names if name not in ("ts_event", "late_ns"))
    found = connection.sql(
        f"SELECT {names} FROM read_parquet({listed(files)}) WHERE underlying = {quoted(log.underlying)} "
        f"AND topic_offset < {beginning.offset} "
        "QUALIFY row_number() OVER (PARTITION BY instrument ORDER BY topic_offset DESC, topic_row DESC) = 1 "
        "ORDER BY topic_offset, topic_row"
    ).to_arrow_table()
    if not found.num_rows:
        return None
    found = found.append_column("ts_event", pa.array(np.full(found.num_rows, beginning.time)))
    found = found.append_column("late_ns", pa.array(np.zeros(found.num_rows, np.int64)))
    columns = []
    for field in schema:
        column = found.column(field.name).combine_chunks()
        columns.append(column.dictionary_encode() if field.name == "instrument" else column.cast(field.type))
    return EventBatch(Kind.INSTRUMENT, log.underlying, pa.RecordBatch.from_arrays(columns, schema=schema))


def recording_pieces(task: Task, positions: Positions, rejects: Counter[str]) -> Iterator[Piece]:
    """Recordings, decoded from their beginning: what was taken before is decoded again, and skipped by its count."""
    from pipeline.sources.open_files import open_source
    from pipeline.sources.stamped import stamped

    taken, seen = positions.get(_COUNT, [0])[0], 0

    def count(reject: Any) -> None:
        # What was refused among the rows that are skipped was counted when they were taken.
        rejects[reject.reason] += seen >= taken

    source = open_source([Path(path) for path in task.paths], increments=task.increments, on_reject=count)
    for batch in stamped(source, rejects):
        rows = batch.data.num_rows
        seen += rows
        fresh = min(rows, seen - taken)
        if fresh > 0:
            part = EventBatch(batch.kind, batch.underlying, batch.data.slice(rows - fresh))
            yield Piece(part, fresh, {_COUNT: [seen]})


def input_pieces(task: Task, positions: Positions) -> Iterator[Piece]:
    """The decision log, for the features of our own activity; in its order, skipped by count."""
    from pipeline.backfill_own_activity import logged_inputs

    taken = positions.get(_COUNT, [0])[0]
    for number, logged in enumerate(logged_inputs(source_of(task), taken), taken + 1):
        yield Piece(logged, 1, {_COUNT: [number]})


def row_schema(task: Task) -> pa.Schema:
    """Of the rows that the stage takes, when it takes computed ones."""
    from pipeline.user_features import catalogue_of

    catalogue = catalogue_of(settings_of(task))
    return catalogue.schema if task.work.value == "universe" else catalogue.universe_schema
