"""The topics as the broker has them, beside what is configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from pipeline.kafka import CONNECT_TIMEOUT_S, end_offsets, make_admin, partitions_of, require_broker
from pipeline.lag import begin_offsets
from pipeline.settings import Settings
from pipeline.topics import TOPICS, TopicSpec

UNKNOWN: Final = "not told"
"""What stands for a setting that the broker does not tell."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not as configured."""

    name: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic.

    Args:
        spec: what is configured.
        offsets: first and next offset of each partition; empty: the topic is missing.
        settings: in force, of those that we configure.
        differences: between them and the configured ones, partitions and copies included.
    """

    spec: TopicSpec
    offsets: Mapping[int, tuple[int, int]]
    settings: Mapping[str, str]
    differences: tuple[Difference, ...]

    @property
    def missing(self) -> bool:
        """Whether the broker does not have it."""
        return not self.offsets

    @property
    def messages(self) -> int:
        """Offsets between begin and end: messages, but for those that compaction or transactions took."""
        return sum(end - begin for begin, end in self.offsets.values())


def read_topics(settings: Settings) -> list[TopicState]:
    """Every topic of the system.

    Raises:
        BrokerError: the broker is gone.
    """
    known = require_broker(settings).topics
    present = [name for name in TOPICS if name in known]
    ends = end_offsets(settings, present)
    begins = begin_offsets(settings, ends)
    in_force = _settings(settings, present)
    states = []
    for spec in TOPICS.values():
        offsets = {p: (begins[t, p], end) for (t, p), end in sorted(ends.items()) if t == spec.name}
        found = in_force.get(spec.name, {})
        differences = _differences(spec, settings, known[spec.name], found) if offsets else ()
        states.append(TopicState(spec, offsets, found, differences))
    return states


def _differences(
    spec: TopicSpec, settings: Settings, metadata: Any, found: Mapping[str, str]
) -> tuple[Difference, ...]:
    copies = min((len(each.replicas) for each in metadata.partitions.values()), default=0)
    pairs = [
        ("partitions", str(partitions_of(spec, settings)), str(len(metadata.partitions))),
        *((name, wanted, found.get(name, UNKNOWN)) for name, wanted in spec.settings().items()),
    ]
    if copies < settings.replication_factor:
        pairs.append(("replication factor", str(settings.replication_factor), str(copies)))
    return tuple(Difference(*pair) for pair in pairs if pair[2] not in (pair[1], UNKNOWN))


def _settings(settings: Settings, names: list[str]) -> dict[str, dict[str, str]]:
    """In force, of those that we configure; none where the broker does not tell."""
    if not names:
        return {}
    admin = make_admin(settings)  # the futures die with it
    answers = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=CONNECT_TIMEOUT_S
    )
    found: dict[str, dict[str, str]] = {}
    for resource, answer in answers.items():
        try:
            entries = answer.result(timeout=CONNECT_TIMEOUT_S)
        except KafkaException:
            continue  # a broker, or a user's rights, that do not tell: nothing differs then
        wanted = TOPICS[resource.name].settings()
        found[resource.name] = {name: entry.value for name, entry in entries.items() if name in wanted and entry.value}
    return found
