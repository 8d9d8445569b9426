"""What a worker runs: something that takes messages and makes what they lead to durable.

There are two: a chain of stages that answers with messages (:mod:`pipeline.stage_chain`), and the lake's writer
(:mod:`pipeline.lake_writer`). :class:`pipeline.worker.Worker` consumes, pauses, commits and watches the group for both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

Position = tuple[str, int]
"""(topic, partition)"""

Offsets = Mapping[Position, int]
"""The next offset to read, by position."""

GroupMetadata = Callable[[], Any]
"""Who we are in our consumer group just now: what a Kafka transaction wants to know when it commits offsets."""


class Processor(Protocol):
    """All calls come from the worker's one thread.

    Attributes:
        name: of the consumer group, the log lines and the metrics.
        sources: topics that are read.
        alone: one member of the group has to own all partitions, because one state spans them.
    """

    name: str
    sources: Sequence[str]
    alone: bool

    def assigned(self, partitions: Collection[Position]) -> Offsets:
        """Own these partitions beside those owned already: restore their state; where each goes on.

        Raises:
            HedgeflowError: the state that lies there is not ours, or the log is not the one that it was made from.
        """
        ...

    def released(self, partitions: Collection[Position]) -> None:
        """Forget these partitions. What is not durable by now is the next owner's to compute again."""
        ...

    def take(self, messages: Sequence[Any]) -> None:
        """Take messages, in the order of each partition. Those below a position that we covered are repeats."""
        ...

    def tick(self) -> None:
        """Do what time alone brings about; called between batches, at least every 100 ms, also while paused."""
        ...

    def full(self) -> bool:
        """Whether a sink is behind: the worker takes nothing until it has caught up, and stays in its group."""
        ...

    def due(self) -> bool:
        """Whether so much was taken since the last checkpoint that the next should not wait for its time."""
        ...

    def checkpoint(self, group: GroupMetadata, *, patience_s: float | None) -> None:
        """Make what was taken durable.

        Args:
            group: who we are.
            patience_s: wait so long until it is; ``None`` begins only, and messages flow on while sinks answer.

        Raises:
            BrokerError: it is not, in that time. Nothing is lost: the next owner computes it again.
        """
        ...

    def durable(self) -> Offsets:
        """The offsets that became durable since the last call: the worker commits them to the group."""
        ...

    def close(self) -> None:
        """Let go of connections; nothing is flushed here."""
        ...
