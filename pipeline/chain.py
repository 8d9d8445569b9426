"""Stages one after another in one process: what a worker, a backfill and a replay run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from features.events import NANO, EventBatch
from features.stage import Reject, Stage, StageOutput

Sink = Callable[[str, pa.RecordBatch], None]
"""(stage, rows) of every stage's output."""

PIECE_NS: Final = 600 * NANO
"""At most 600 bars of a second an instrument, and one silence that is filled."""

NamedStages = Sequence[tuple[str, Stage[Any]]]


def flow(stages: NamedStages, item: Any, depth: int = 0) -> Iterator[tuple[str, StageOutput]]:
    """Send ``item`` through the stages: what each of them makes of it, by name, before the next one takes it.

    Events that span a long time are taken in pieces, so that their bars need not all be in memory at once.
    """
    if depth == len(stages):
        return
    name, stage = stages[depth]
    for piece in pieces(item) if isinstance(item, EventBatch) else (item,):
        output = stage.process(piece)
        yield name, output
        for rows in output.rows:
            yield from flow(stages, rows.data, depth + 1)


def pieces(batch: EventBatch) -> Iterator[EventBatch]:
    """The rows in order, cut before their stream time has moved by more than ``PIECE_NS``."""
    rows = batch.data.num_rows
    if rows < 2:
        yield batch
        return
    event, late = (np.from_dlpack(batch.data.column(i)) for i in (1, 4))
    stream: np.ndarray[Any, np.dtype[np.int64]] = np.add(event, late)
    if stream.max() - stream.min() <= PIECE_NS:
        yield batch
        return
    # How far it has moved in all: a time that is refused may lead there and back.
    moved = np.concatenate([[0], np.cumsum(np.clip(np.diff(stream), 0, PIECE_NS + 1))])
    begin = 0
    while begin < rows:
        end = int(np.searchsorted(moved, moved[begin] + PIECE_NS, side="right"))
        yield EventBatch(batch.kind, batch.underlying, batch.data.slice(begin, end - begin))
        begin = end


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
