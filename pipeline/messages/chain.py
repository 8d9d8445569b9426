"""What a worker runs over topics of JSON: a micro-batch of messages is one frame for the stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from features.stage import Reject
from pipeline.chain_spec import ChainSpec, StageSpec
from pipeline.codec import KIND_HEADER, MAX_ROWS, encode
from pipeline.messages.declaration import OFFSET, Declaration
from pipeline.messages.fields import Fields
from pipeline.metrics import WorkerMetrics
from pipeline.processor import Position
from pipeline.settings import Settings
from pipeline.sources.base import UnusableError
from pipeline.stage_chain import StageChain

STAGE: Final = "messages"


class MessageChain(StageChain):
    """A :class:`StageChain` whose input is JSON; rows leave for the partition that they came from.

    A message is parsed by msgspec, a micro-batch is computed as columns. What cannot be used becomes a dead letter with
    reason, position and bytes, and the rest of its batch goes on.

    Args:
        settings: of broker and checkpoints.
        declared: fields and stage.
        version: of the declaration; state of another is refused.
        topics: to read; of equally many partitions, one state for partition n of all.
        sink: topic of the rows.
        metrics: of the worker.
    """

    def __init__(
        self,
        settings: Settings,
        declared: Declaration,
        version: str,
        topics: Sequence[str],
        sink: str,
        metrics: WorkerMetrics,
    ) -> None:
        stage = StageSpec(STAGE, topics[0], sink, _undecoded, declared.stage)
        name = f"{STAGE}.{sink}"
        super().__init__(settings, ChainSpec(name, topics[0], _undecoded, (stage,), version=version), metrics)
        self.sources = tuple(topics)
        self._fields = Fields(declared.fields)
        self._accepts = declared.accepts
        self._sink = sink

    def take(self, messages: Sequence[Any]) -> None:
        """Run each partition's messages through its stage as one frame, and send what that gives."""
        for position, part in by_partition(messages, self.sources):
            task = self._tasks.get(position[1])
            if task is None:
                continue
            done = task.offsets.get(position, 0)
            if part[0].offset() < done:
                part = [each for each in part if each.offset() >= done]
            if part:
                task.offsets[position] = part[-1].offset() + 1
                task.dirty = True
                self._take(task, position, part)

    def _take(self, task: Any, position: Position, messages: Sequence[Any]) -> None:
        payloads = [message.value() or b"" for message in messages]
        size = sum(map(len, payloads))
        self._bytes += size
        self._metrics.took(position[0], len(messages), size)
        frame = self._frame(messages, payloads)
        self._metrics.rows(position[0], frame.height)
        if not frame.height:
            return
        rows = [each.data for _, stage in task.stages for each in stage.process(frame).rows]
        if rows:
            self._append(position[1], pa.Table.from_batches(rows).combine_chunks())

    def _frame(self, messages: Sequence[Any], payloads: Sequence[bytes]) -> pl.DataFrame:
        """The usable messages."""

        def refuse(at: int, error: UnusableError) -> None:
            self._reject(Reject(error.reason, error.detail), messages[at])

        frame, kept = self._fields.frame(payloads, refuse)
        frame = frame.with_columns(pl.Series(OFFSET, _offsets(messages)[kept if kept is not None else slice(None)]))
        if self._accepts is None or not frame.height:
            return frame
        fine = frame.select(self._accepts.fill_null(False)).to_series()
        if fine.all():
            return frame
        for at in np.flatnonzero(~fine.to_numpy()).tolist():
            refuse(kept[at] if kept is not None else at, UnusableError("refused_row", "a value that cannot be"))
        return frame.filter(fine)

    def _append(self, partition: int, table: pa.Table) -> None:
        for data in table.to_batches(max_chunksize=MAX_ROWS):
            self._outbox.send(self._sink, partition, "", encode(data), {KIND_HEADER: self._sink})
        self._metrics.sent(self._sink, table.num_rows)


def by_partition(messages: Sequence[Any], topics: Sequence[str]) -> Iterator[tuple[Position, Sequence[Any]]]:
    """Messages of each partition, in their order; mostly all are of one."""
    partitions = [message.partition() for message in messages]
    if len(topics) == 1 and partitions.count(partitions[0]) == len(partitions):
        yield (topics[0], partitions[0]), messages
        return
    found: dict[Position, list[Any]] = {}
    for message, partition in zip(messages, partitions, strict=True):
        found.setdefault((message.topic(), partition), []).append(message)
    yield from found.items()


def _offsets(messages: Sequence[Any]) -> np.ndarray[Any, Any]:
    first, last = messages[0].offset(), messages[-1].offset()
    if last - first + 1 == len(messages):  # nothing is missing in between, as it mostly is
        return np.arange(first, last + 1)
    return np.array([message.offset() for message in messages], dtype=np.int64)


def _undecoded(_kind: str, _key: str, payload: bytes) -> Any:
    raise NotImplementedError(f"messages come in batches, not as {payload[:20]!r}")
