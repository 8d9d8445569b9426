"""Backfill of our own activity: the ``own`` stage over the decision log that lies in a lake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from features.stage import Reject
from pipeline.backfill import COMMIT_ROWS, BackfillResult
from pipeline.codec import UndecodableError
from pipeline.lake import Lake, LakeError, positioned
from pipeline.own_activity import LoggedInput, OwnActivityStage, decode_logged_input
from pipeline.query import open_lake
from pipeline.settings import Settings
from pipeline.tables import TABLES

BATCH_ROWS: Final = 10_000

_TABLE: Final = TABLES["own_activity"]
_LOG: Final = (
    "SELECT portfolio, document FROM decision_inputs ORDER BY topic_partition, topic_offset, topic_row OFFSET {}"
)


def backfill_own_activity(source: Lake, target: Lake, settings: Settings) -> BackfillResult:
    """Append the rows of ``own_activity`` that the decision log of ``source`` gives; ``target`` may be the same lake.

    To the bit what the live stage gives with the same portfolio and limits.

    Args:
        source: its ``decision_inputs`` are read, in the order of the log and in bounded memory.
        target: has no such rows yet.
        settings: name the portfolio and the limits.

    Returns:
        How many inputs were read, rows written, and inputs rejected by reason.

    Raises:
        LakeError: ``source`` is no lake, or ``target`` has rows of this table already.
        ConfigError: portfolio or limits are missing or out of range.
    """
    if target.files(_TABLE):
        raise LakeError(f"{target.path / _TABLE.name} has rows already.", "Backfill into an empty lake.")
    stage = OwnActivityStage.load(settings)
    result = BackfillResult()
    waiting: list[pa.RecordBatch] = []
    for logged in logged_inputs(source):
        result.events += 1
        if isinstance(logged, Reject):
            result.rejects[logged.reason] += logged.rows
            continue
        output = stage.process(logged)
        waiting += [rows.data for rows in output.rows]
        for reject in output.rejects:
            result.rejects[reject.reason] += reject.rows
        if len(waiting) >= COMMIT_ROWS:
            _append(target, waiting, result)
    _append(target, waiting, result)
    return result


def logged_inputs(source: Lake, skip: int = 0) -> Iterator[LoggedInput | Reject]:
    """The decision log of a lake in its order, after the first ``skip`` inputs; an unreadable one is a reject."""
    with open_lake(source.path) as connection:
        for rows in connection.sql(_LOG.format(skip)).to_arrow_reader(BATCH_ROWS):
            for portfolio, document in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                try:
                    yield decode_logged_input("input", portfolio or "", (document or "").encode())
                except UndecodableError as error:
                    yield Reject(error.reason, error.detail)


def _append(target: Lake, waiting: list[pa.RecordBatch], result: BackfillResult) -> None:
    if not waiting:
        return
    data = pa.Table.from_batches(waiting).combine_chunks()
    first = result.rows[_TABLE.name]
    columns = {name: data.column(name).combine_chunks() for name in data.schema.names}
    target.append(_TABLE, positioned(_TABLE, columns, 0, 0, np.arange(first, first + data.num_rows)), {})
    result.rows[_TABLE.name] += data.num_rows
    waiting.clear()
