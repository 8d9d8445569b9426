"""How far each consumer group of this application has come, and how much lies before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from pipeline.kafka import CONNECT_TIMEOUT_S, BrokerError, end_offsets, make_admin, make_reader, require_broker
from pipeline.settings import Settings
from pipeline.topics import DECISION_INPUTS, EVENTS, FEATURES, SIGNALS, UNIVERSE

READ_FIRST: Final[Mapping[str, str]] = {
    "features": EVENTS,
    "universe": FEATURES,
    "signals": UNIVERSE,
    "decisions": SIGNALS,
    "own": DECISION_INPUTS,
}
"""What a group reads, by the first stage in its name: shown also before it has committed anything."""

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition as a group sees it; ``committed`` is None before the first commit."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One consumer group.

    Args:
        stage: its name without the application's.
        state: what the broker says, ``stable`` as a rule; ``empty`` when nobody is in it.
        members: how many workers it has; None when the broker does not tell (Tansu).
        partitions: by topic and number.
    """

    stage: str
    state: str
    members: int | None
    partitions: tuple[PartitionLag, ...]

    @property
    def lag(self) -> int:
        """Messages before it."""
        return sum(each.lag for each in self.partitions)


def read_lag(settings: Settings) -> list[GroupLag]:
    """Every group of this application, by name.

    Ends are read, not asked for: see :func:`pipeline.kafka.end_offsets`.

    Raises:
        BrokerError: the broker is gone or refuses.
    """
    known = require_broker(settings).topics
    admin = make_admin(settings)
    stages = group_names(settings)
    committed = {stage: _committed(admin, settings, stage) for stage in stages}
    places = {
        stage: set(committed[stage]) | {(topic, p) for topic in _reads(stage, known) for p in known[topic].partitions}
        for stage in stages
    }
    topics = sorted({topic for each in places.values() for topic, _ in each if topic in known})
    ends = end_offsets(settings, topics)
    begins = begin_offsets(settings, ends)
    return [
        GroupLag(stage, *_members(admin, settings, stage), _partitions(places[stage], committed[stage], begins, ends))
        for stage in stages
    ]


def group_names(settings: Settings) -> list[str]:
    """Names of the application's groups, without the application's.

    Raises:
        BrokerError: the broker refuses.
    """
    prefix = f"{settings.application}."
    admin = make_admin(settings)  # the answer dies with it
    answer = admin.list_consumer_groups(request_timeout=CONNECT_TIMEOUT_S)
    try:
        found = answer.result(timeout=CONNECT_TIMEOUT_S).valid
    except KafkaException as error:
        raise _refused("list consumer groups", error) from error
    return sorted(each.group_id.removeprefix(prefix) for each in found if each.group_id.startswith(prefix))


def begin_offsets(settings: Settings, places: Iterable[Place]) -> dict[Place, int]:
    """The first offset that the broker still has."""
    reader = make_reader(settings)
    try:
        found = {}
        for topic, partition in places:
            where = TopicPartition(topic, partition)
            answer = reader.get_watermark_offsets(where, timeout=CONNECT_TIMEOUT_S, cached=False)
            found[topic, partition] = answer[0] if answer else 0
        return found
    finally:
        reader.close()


def _reads(stage: str, known: Mapping[str, Any]) -> list[str]:
    topic = READ_FIRST.get(stage.split("-", 1)[0], "")
    return [topic] if topic in known else []


def _committed(admin: Any, settings: Settings, stage: str) -> dict[Place, int]:
    group = f"{settings.application}.{stage}"
    request = [ConsumerGroupTopicPartitions(group)]
    try:
        answer = admin.list_consumer_group_offsets(request, request_timeout=CONNECT_TIMEOUT_S)
        found = answer[group].result(timeout=CONNECT_TIMEOUT_S).topic_partitions
    except KafkaException as error:
        raise _refused(f"tell how far {group} is", error) from error
    return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}


def _members(admin: Any, settings: Settings, stage: str) -> tuple[str, int | None]:
    group = f"{settings.application}.{stage}"
    try:
        answer = admin.describe_consumer_groups([group], request_timeout=CONNECT_TIMEOUT_S)
        found = answer[group].result(timeout=CONNECT_TIMEOUT_S)
    except KafkaException as error:
        raise _refused(f"describe {group}", error) from error
    state = found.state.name.lower()
    return state, None if state == "stable" and not found.members else len(found.members)


def _partitions(
    places: Iterable[Place], committed: Mapping[Place, int], begins: Mapping[Place, int], ends: Mapping[Place, int]
) -> tuple[PartitionLag, ...]:
    found = []
    for place in sorted(places):
        if place in ends:
            at = committed.get(place)
            lag = ends[place] - max(begins[place], at or 0)
            found.append(PartitionLag(*place, at, ends[place], max(0, lag)))
    return tuple(found)


def _refused(what: str, error: KafkaException) -> BrokerError:
    return BrokerError(f"The broker does not {what}: {error.args[0].str()}.", "Does your user have the right to?")
