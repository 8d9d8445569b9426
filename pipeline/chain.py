"""The stages one after another in one process: what backfill and replay run instead of workers and topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from features.events import EventBatch
from features.stage import Reject, Stage

Sink = Callable[[str, pa.RecordBatch], None]
"""(topic, rows) of every stage's output."""


class Chain:
    """Feeds events through stages; every stage's rows go to ``sink`` and on to the next stage.

    Args:
        stages: (name of the output, stage) in order.
        sink: takes the rows of every stage.
        on_reject: takes what a stage could not use.
    """

    def __init__(
        self, stages: Sequence[tuple[str, Stage[Any]]], sink: Sink, on_reject: Callable[[str, Reject], None]
    ) -> None:
        self._stages = stages
        self._sink = sink
        self._on_reject = on_reject

    def push(self, batch: EventBatch) -> None:
        """Feed the next rows of the log."""
        self._run(0, batch)

    def _run(self, depth: int, item: Any) -> None:
        if depth == len(self._stages):
            return
        name, stage = self._stages[depth]
        output = stage.process(item)
        for reject in output.rejects:
            self._on_reject(name, reject)
        for rows in output.rows:
            self._sink(name, rows.data)
            self._run(depth + 1, rows.data)
