"""Checkpoints: the state of a stage and the offsets that it covers, in the compacted topic ``checkpoints``.

A generation is written as numbered messages, one a key of the state (a state beyond ``PART_BYTES`` is cut), and is
complete only with its last one. Generations alternate between two slots of message keys, so that compaction never
removes the last complete generation while the next is being written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from features.errors import BadInputError
from pipeline.kafka import header, make_reader, read_to_end
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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete generation: ``offsets`` are the next ones to read per (topic, partition).

    ``following`` is the number that the next generation takes: never one of which parts may lie about from an owner
    that died while writing, and never in the slot of this one.
    """

    generation: int = 0
    offsets: Offsets = field(default_factory=dict)
    state: Mapping[str, bytes] = field(default_factory=dict)
    following: int = 1


class CheckpointStore:
    """Writes and finds the checkpoints of one application."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._settings = settings
        self._outbox = outbox

    def save(self, task: str, checkpoint: Checkpoint) -> None:
        """Append a generation and wait until it is acknowledged."""
        owner = f"{self._settings.application}/{task}"
        pieces = list(_pieces(checkpoint.state)) or [("", b"")]
        offsets = [(topic, partition, offset) for (topic, partition), offset in sorted(checkpoint.offsets.items())]
        for index, (key, data) in enumerate(pieces):
            part = _Part(owner, checkpoint.generation, index, len(pieces), key, offsets, data)
            name = f"{owner}/{checkpoint.generation % SLOTS}/{index}"
            self._outbox.send(CHECKPOINTS, 0, name, msgspec.msgpack.encode(part), {"owner": owner})
        self._outbox.flush()

    def load(self, task: str) -> Checkpoint:
        """The newest complete generation of ``task``; an empty one if there is none."""
        owner = f"{self._settings.application}/{task}"
        generations: dict[int, dict[int, _Part]] = {}
        for part in self._parts(owner):
            generations.setdefault(part.generation, {})[part.index] = part
        newest = max(generations, default=0)
        for number in sorted(generations, reverse=True):
            parts = generations[number]
            if len(parts) == parts[min(parts)].total:
                following = number + 1 if number == newest else _beyond(newest, number)
                return _assembled(number, [parts[i] for i in range(len(parts))], following)
        return Checkpoint(following=newest + 1)

    def _parts(self, owner: str) -> Iterator[_Part]:
        reader = make_reader(self._settings)
        try:
            for message in read_to_end(reader, [TopicPartition(CHECKPOINTS, 0, OFFSET_BEGINNING)]):
                if header(message, "owner") == owner and (value := message.value()) is not None:
                    yield _decoded(value)
        finally:
            reader.close()


def _pieces(state: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for key, data in state.items():
        for start in range(0, max(1, len(data)), PART_BYTES):
            yield key, data[start : start + PART_BYTES]


def _decoded(value: bytes) -> _Part:
    try:
        return msgspec.msgpack.decode(value, type=_Part)
    except msgspec.MsgspecError as error:
        raise BadInputError(
            f"The topic {CHECKPOINTS} holds something that is no checkpoint: {error}.",
            "Use another `application` name, or empty the topic: the workers then recompute from the log's start.",
        ) from error


def _beyond(newest: int, complete: int) -> int:
    """The first number after ``newest`` whose slot is not the one of ``complete``."""
    return next(number for number in range(newest + 1, newest + 1 + SLOTS) if (number - complete) % SLOTS)


def _assembled(generation: int, parts: list[_Part], following: int) -> Checkpoint:
    state: dict[str, bytes] = {}
    for part in parts:
        if part.key or part.data:
            state[part.key] = state.get(part.key, b"") + part.data
    offsets = {(topic, partition): offset for topic, partition, offset in parts[0].offsets}
    return Checkpoint(generation, offsets, state, following)
