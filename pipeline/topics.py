"""The topics, their keys and their explicit settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EVENTS: Final = "md.events"
FEATURES: Final = "features"
UNIVERSE: Final = "universe"
SIGNALS: Final = "signals"
DECISION_INPUTS: Final = "decisions.inputs"
DECISIONS: Final = "decisions"
ORDERS: Final = "oms.orders"
FILLS: Final = "oms.fills"
OWN_ACTIVITY: Final = "own.activity"
DEAD_LETTER: Final = "dead-letter"
REPLAYS: Final = "dead-letter.replays"
CHECKPOINTS: Final = "checkpoints"

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. ``per_underlying`` topics share one partition count, so that equal keys meet.

    The checkpoints have as many: their tasks are those of the partitions.
    """

    name: str
    key: str
    per_underlying: bool = False
    retention_ms: int = 7 * _DAY_MS
    compacted: bool = False

    def settings(self) -> dict[str, str]:
        """The topic's configuration; explicit, because brokers differ in their defaults."""
        policy = "compact" if self.compacted else "delete"
        return {"retention.ms": str(self.retention_ms), "cleanup.policy": policy}


TOPICS: Final[Mapping[str, TopicSpec]] = {
    spec.name: spec
    for spec in (
        TopicSpec(EVENTS, key="underlying", per_underlying=True),
        TopicSpec(FEATURES, key="underlying", per_underlying=True),
        TopicSpec(UNIVERSE, key="underlying", per_underlying=True),
        TopicSpec(SIGNALS, key="underlying", per_underlying=True),
        TopicSpec(DECISION_INPUTS, key="portfolio"),
        TopicSpec(DECISIONS, key="portfolio"),
        TopicSpec(ORDERS, key="portfolio"),
        TopicSpec(FILLS, key="portfolio"),
        TopicSpec(OWN_ACTIVITY, key="underlying", per_underlying=True),
        TopicSpec(DEAD_LETTER, key="topic"),
        TopicSpec(REPLAYS, key="topic/partition/offset", compacted=True),
        TopicSpec(CHECKPOINTS, key="stage/partition/slot/key/part", per_underlying=True, compacted=True),
    )
}
