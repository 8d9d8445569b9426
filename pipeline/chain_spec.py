"""How stages are run and chained: what a worker makes a :class:`pipeline.stage_chain.StageChain` of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from features.stage import Stage
from pipeline.processor import Offsets

Decode = Callable[[str, str, bytes], Any]
"""(kind header, key, payload) -> what the stage takes."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """How a stage is run.

    Args:
        name: also its consumer group and the prefix of its checkpoints.
        source: the topic that it reads.
        sink: the topic that its rows go to; also their ``kind`` header.
        decode: payload to input.
        make: a fresh stage.
        whole: one state over all partitions (``universe``) instead of one a partition.
    """

    name: str
    source: str
    sink: str
    decode: Decode
    make: Callable[[], Stage[Any]]
    whole: bool = False


class Ending(Protocol):
    """What takes the last stage's rows where they are not only sent: the decider, whose inputs are a log of its own."""

    def restore(self, state: Mapping[str, bytes], offsets: Offsets) -> None:
        """Continue where :meth:`snapshot` and :meth:`offsets` were taken; from nothing, at its log's beginning."""
        ...

    def take(self, rows: pa.RecordBatch) -> None:
        """Take rows in order; those that it had before are repeats."""
        ...

    def tick(self) -> bool:
        """Do what time alone brings about; whether the state changed."""
        ...

    def mark(self) -> int:
        """A name for all that it sent up to here."""
        ...

    def acknowledged(self, mark: int) -> bool:
        """Whether all that it sent up to a :meth:`mark` is acknowledged."""
        ...

    def flush(self, patience_s: float) -> None:
        """Wait so long until what it sent is acknowledged."""
        ...

    def snapshot(self) -> Mapping[str, bytes]:
        """The state by key."""
        ...

    def offsets(self) -> Offsets:
        """How far it has read its own topics."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """Stages one after another in one process.

    Args:
        name: consumer group and prefix of checkpoints.
        source: the topic that the first stage reads.
        decode: its payloads.
        stages: in order; may be empty where there is an ending.
        ending: makes what takes the last rows.
        whole: one state over all partitions.
        version: of code and configuration that the state depends on; another one's state is refused.
    """

    name: str
    source: str
    decode: Decode
    stages: tuple[StageSpec, ...]
    ending: Callable[[], Ending] | None = None
    whole: bool = False
    version: str = ""
