"""Stages one after another in one process: what a worker, a backfill and a replay run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from features.events import EventBatch
from features.stage import Reject, Stage, StageOutput

Sink = Callable[[str, pa.RecordBatch], None]
"""(stage, rows) of every stage's output."""

NamedStages = Sequence[tuple[str, Stage[Any]]]


def flow(stages: NamedStages, item: Any, depth: int = 0) -> Iterator[tuple[str, StageOutput]]:
    """Send ``item`` through the stages: what each of them makes of it, by name, before the next one takes it."""
    if depth == len(stages):
        return
    name, stage = stages[depth]
    output = stage.process(item)
    yield name, output
    for rows in output.rows:
        yield from flow(stages, rows.data, depth + 1)


def snapshot(stages: NamedStages) -> dict[str, bytes]:
    """The state of all stages; keys are ``STAGE/KEY``."""
    return {f"{name}/{key}": data for name, stage in stages for key, data in stage.snapshot().items()}


def restore(stages: NamedStages, state: Mapping[str, bytes]) -> None:
    """Continue where :func:`snapshot` was taken."""
    for name, stage in stages:
        prefix = f"{name}/"
        stage.restore({key[len(prefix) :]: data for key, data in state.items() if key.startswith(prefix)})


class Chain:
    """Feeds events through stages; every stage's rows go to ``sink`` and on to the next stage.

    Args:
        stages: (name of the output, stage) in order.
        sink: takes the rows of every stage.
        on_reject: takes what a stage could not use.
    """

    def __init__(self, stages: NamedStages, sink: Sink, on_reject: Callable[[str, Reject], None]) -> None:
        self._stages = stages
        self._sink = sink
        self._on_reject = on_reject

    def push(self, batch: EventBatch) -> None:
        """Feed the next rows of the log."""
        for name, output in flow(self._stages, batch):
            for reject in output.rejects:
                self._on_reject(name, reject)
            for rows in output.rows:
                self._sink(name, rows.data)

    def snapshot(self) -> dict[str, bytes]:
        """The state of all stages; keys are ``STAGE/KEY``."""
        return snapshot(self._stages)

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Continue where :meth:`snapshot` was taken."""
        restore(self._stages, state)
