"""Checkpoints: the state of a stage and the offsets that it covers, in the compacted topic ``checkpoints``.

A generation is written as numbered messages, one a key of the state (a state beyond ``PART_BYTES`` is cut), and is
complete only with its last one. Generations alternate between two slots of message keys, so that compaction never
removes the last complete generation while the next is being written. Each worker process signs its parts: one that was
frozen, lost its partitions and wakes up may write a number that the new owner has used, and the two never mix.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from pipeline.kafka import header, make_reader, partition_of, read_to_end
from pipeline.log import Outbox
from pipeline.settings import Settings
from pipeline.topics import CHECKPOINTS

PART_BYTES: Final = 512 * 1024
SLOTS: Final = 2

Offsets = Mapping[tuple[str, int], int]


class _Part(msgspec.Struct, frozen=True):
    """One message of a generation."""

    owner: str
    generation: int
    index: int
    total: int
    key: str
    offsets: list[tuple[str, int, int]]
    data: bytes
    version: str = ""
    log_id: str = ""
    writer: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete generation: ``offsets`` are the next ones to read per (topic, partition).

    ``following`` is the number that the next generation takes: never one of which parts may lie about from an owner
    that died while writing, and never in the slot of this one. ``version`` says of what code and configuration the
    state is, ``log_id`` which log the offsets are of (:mod:`pipeline.log_identity`).
    """

    generation: int = 0
    offsets: Offsets = field(default_factory=dict)
    state: Mapping[str, bytes] = field(default_factory=dict)
    following: int = 1
    version: str = ""
    log_id: str = ""

    @property
    def size(self) -> int:
        """Bytes of state."""
        return sum(len(data) for data in self.state.values())


class CheckpointStore:
    """Writes and finds the checkpoints of one application."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._settings = settings
        self._outbox = outbox
        self._writer = uuid.uuid4().hex

    def save(self, task: str, checkpoint: Checkpoint) -> None:
        """Append a generation and wait until it is acknowledged."""
        self.send(task, checkpoint)
        self._outbox.flush()

    def send(self, task: str, checkpoint: Checkpoint) -> None:
        """Append a generation to the outbox; it counts when the outbox is flushed, or its transaction committed."""
        owner = f"{self._settings.application}/{task}"
        pieces = list(_pieces(checkpoint.state)) or [("", b"")]
        offsets = [(topic, partition, offset) for (topic, partition), offset in sorted(checkpoint.offsets.items())]
        for index, (key, data) in enumerate(pieces):
            part = _Part(
                *(owner, checkpoint.generation, index, len(pieces), key, offsets, data),
                *(checkpoint.version, checkpoint.log_id, self._writer),
            )
            name = f"{owner}/{checkpoint.generation % SLOTS}/{index}"
            self._outbox.send(CHECKPOINTS, self._partition(owner), name, msgspec.msgpack.encode(part), {"owner": owner})

    def load(self, task: str) -> Checkpoint:
        """The newest complete generation of ``task``; an empty one if there is none."""
        owner = f"{self._settings.application}/{task}"
        written: dict[tuple[int, str], dict[int, _Part]] = {}
        last: dict[tuple[int, str], int] = {}
        for number, part in enumerate(self._parts(owner)):
            name = part.generation, part.writer
            written.setdefault(name, {})[part.index] = part
            last[name] = number
        newest = max((generation for generation, _ in written), default=0)
        # Of two writers of one number the later one: both states are true, each of its own offsets.
        for name in sorted(written, key=lambda name: (name[0], last[name]), reverse=True):
            parts, generation = written[name], name[0]
            if len(parts) == parts[min(parts)].total:
                following = generation + 1 if generation == newest else _beyond(newest, generation)
                return _assembled(generation, [parts[i] for i in range(len(parts))], following)
        return Checkpoint(following=newest + 1)

    def _partition(self, owner: str) -> int:
        """A task has one partition: whoever restores it does not read the states of all others."""
        return partition_of(owner, self._settings.partitions)

    def _parts(self, owner: str) -> Iterator[_Part]:
        reader = make_reader(self._settings)
        try:
            positions = [TopicPartition(CHECKPOINTS, self._partition(owner), OFFSET_BEGINNING)]
            for message in read_to_end(reader, positions, self._settings.broker_patience_ms / 1_000):
                if header(message, "owner") == owner and (part := _decoded(message.value() or b"")) is not None:
                    yield part
        finally:
            reader.close()


def _pieces(state: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for key, data in state.items():
        for start in range(0, max(1, len(data)), PART_BYTES):
            yield key, data[start : start + PART_BYTES]


def _decoded(value: bytes) -> _Part | None:
    """A part; None for what is none: a complete generation may lie beside it."""
    try:
        return msgspec.msgpack.decode(value, type=_Part)
    except msgspec.MsgspecError as error:
        structlog.get_logger().warning("passed over", topic=CHECKPOINTS, bytes=len(value), error=str(error))
        return None


def _beyond(newest: int, complete: int) -> int:
    """The first number after ``newest`` whose slot is not the one of ``complete``."""
    return next(number for number in range(newest + 1, newest + 1 + SLOTS) if (number - complete) % SLOTS)


def _assembled(generation: int, parts: list[_Part], following: int) -> Checkpoint:
    state: dict[str, bytes] = {}
    for part in parts:
        if part.key or part.data:
            state[part.key] = state.get(part.key, b"") + part.data
    offsets = {(topic, partition): offset for topic, partition, offset in parts[0].offsets}
    return Checkpoint(generation, offsets, state, following, parts[0].version, parts[0].log_id)
