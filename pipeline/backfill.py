"""Backfill in one go and one process: the same stages over events, into an empty lake.

What ``hedgeflow backfill`` runs, in steps and in several processes, is :mod:`pipeline.backfill_job`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from features.events import EventBatch
from features.stage import Reject, Stage
from pipeline.backfill_rows import WaitingBatches
from pipeline.chain import Chain
from pipeline.lake import Lake, LakeError, positioned
from pipeline.settings import Settings
from pipeline.stages import feature_stage, signal_stage, universe_stage
from pipeline.tables import Table, tables_of
from pipeline.user_features import catalogue_of

COMMIT_ROWS: Final = 50_000


@dataclass(slots=True)
class BackfillResult:
    """What a backfill read and wrote."""

    events: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)


def chain_stages(settings: Settings, with_signals: bool) -> list[tuple[str, Stage[Any]]]:
    """The stages of a backfill, in order; signals only where models are."""
    stages: list[tuple[str, Stage[Any]]] = [
        ("features", feature_stage(settings)),
        ("universe", universe_stage(settings)),
    ]
    return [*stages, ("signals", signal_stage(settings))] if with_signals else stages


def backfill(
    events: Iterable[EventBatch],
    target: Lake,
    settings: Settings,
    *,
    with_signals: bool,
    progress: Callable[[int], None] = lambda _rows: None,
) -> BackfillResult:
    """Run the chain over ``events`` and append every stage's rows to ``target``.

    Raises:
        LakeError: ``target`` holds rows of these tables already; a backfill never mixes with them.
    """
    stages = chain_stages(settings, with_signals)
    tables = tables_of(catalogue_of(settings))
    for name, _ in stages:
        if target.files(tables[name]):
            raise LakeError(f"{target.path / name} has rows already.", "Backfill into an empty lake: --to.")
    result = BackfillResult()
    writer = _Writer(target, result, tables)

    def rejected(_stage: str, reject: Reject) -> None:
        result.rejects[reject.reason] += reject.rows

    chain = Chain(stages, writer.add, rejected)
    for batch in events:
        chain.push(batch)
        result.events += batch.data.num_rows
        progress(result.events)
    writer.flush()
    return result


class _Writer:
    """Collects rows and appends them in commits of a good size."""

    def __init__(self, lake: Lake, result: BackfillResult, tables: Mapping[str, Table]) -> None:
        self._lake = lake
        self._tables = tables
        self._result = result
        self._waiting: dict[str, WaitingBatches] = {}

    def add(self, name: str, rows: pa.RecordBatch) -> None:
        """Take rows of a stage."""
        self._waiting.setdefault(name, WaitingBatches()).add(rows)
        if sum(each.rows for each in self._waiting.values()) >= COMMIT_ROWS:
            self.flush()

    def flush(self) -> None:
        """Append what waits."""
        for name, waiting in self._waiting.items():
            data = waiting.take()
            if data is None:
                continue
            table = self._tables[name]
            first = self._result.rows[name]
            numbers = np.arange(first, first + data.num_rows)
            columns = {column: data.column(column).combine_chunks() for column in data.schema.names}
            self._lake.append(table, positioned(table, columns, 0, 0, numbers), {})
            self._result.rows[name] += data.num_rows
