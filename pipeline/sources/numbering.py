"""A source that loses nothing when it is started again goes on numbering where the log stands.

For sources that go on exactly where they stopped, a topic of another cluster, say. One that misses what happens
meanwhile, a websocket, starts a new session instead (:func:`pipeline.edge.live_session`): readers must know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from confluent_kafka import TopicPartition

from features.events import EventBatch, Kind
from pipeline.codec import KIND_HEADER, MAX_ROWS, UndecodableError, decode_event
from pipeline.edge import Edge, Log
from pipeline.kafka import end_offsets, header, make_reader, partition_of, read_to_end
from pipeline.settings import Settings
from pipeline.topics import EVENTS

TAIL_MESSAGES: Final = 20_000

Numbers = Mapping[tuple[Kind, str], int]


class ResumedEdge(Edge):
    """An edge that goes on from numbers that were given before.

    Args:
        log: where it appends.
        origin: its name in dead letters.
        following: the next number of an (instrument, kind).
        unseen: by partition, the first number of those that are not among them.
        partitions: of the log.
    """

    def __init__(self, log: Log, origin: str, following: Numbers, unseen: Mapping[int, int], partitions: int) -> None:
        super().__init__(log, origin)
        self._next_seq.update(following)
        self._unseen = unseen
        self._partitions = partitions

    def send(self, batch: EventBatch) -> None:
        """As :meth:`.Edge.send`."""
        first = self._unseen.get(partition_of(batch.underlying, self._partitions), 0)
        for name in batch.data.column(0).dictionary.to_pylist():
            self._next_seq.setdefault((batch.kind, name), first)
        super().send(batch)


def resumed_edge(log: Log, origin: str, settings: Settings, tail_messages: int = TAIL_MESSAGES) -> ResumedEdge:
    """An edge that goes on where ``md.events`` stands.

    The last ``tail_messages`` of each partition tell the numbers. Of an (instrument, kind) that is not among them,
    nobody knows whether it was ever numbered; where the log is longer than that, it begins at the partition's end
    offset times the most rows of a message, which no number can have reached: a reader takes the jump for lost rows,
    and its book waits for the next snapshot.

    Raises:
        BrokerError: the broker is not there.
    """
    ends = end_offsets(settings, [EVENTS])
    following: dict[tuple[Kind, str], int] = {}
    positions = [
        TopicPartition(topic, partition, max(0, end - tail_messages)) for (topic, partition), end in ends.items() if end
    ]
    if positions:
        reader = make_reader(settings)
        try:
            for message in read_to_end(reader, positions):
                _note(following, message)
        finally:
            reader.close()
    unseen = {partition: end * MAX_ROWS for (_topic, partition), end in ends.items() if end > tail_messages}
    return ResumedEdge(log, origin, following, unseen, settings.partitions)


def _note(following: dict[tuple[Kind, str], int], message: Any) -> None:
    try:
        batch = decode_event(header(message, KIND_HEADER) or "", "", message.value() or b"")
    except UndecodableError:  # the workers make it a dead letter
        return
    column = batch.data.column(0)
    names = column.dictionary.to_pylist()
    last = np.full(len(names), -1, dtype=np.int64)
    np.maximum.at(last, column.indices.to_numpy(), batch.data.column(3).to_numpy())
    for name, seq in zip(names, last.tolist(), strict=True):
        following[batch.kind, name] = max(following.get((batch.kind, name), 0), seq + 1)
