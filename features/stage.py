"""What a stage is: a deterministic function of an ordered stream, with explicit state (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import pyarrow as pa

Input = TypeVar("Input", contravariant=True)


@dataclass(frozen=True, slots=True)
class Keyed:
    """Output rows of one key, in order."""

    key: str
    data: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Reject:
    """Rows that a stage could not use: they become a dead letter, and the rest still flows."""

    reason: str
    detail: str
    rows: int = 1


@dataclass(slots=True)
class StageOutput:
    """What one input gave."""

    rows: list[Keyed] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class Stage(Protocol[Input]):
    """``process`` may be cut into other batches without changing the rows that come out."""

    def process(self, batch: Input) -> StageOutput:
        """Take the next input in order."""
        ...

    def snapshot(self) -> Mapping[str, bytes]:
        """The state by key."""
        ...

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Continue where ``snapshot`` was taken."""
        ...
