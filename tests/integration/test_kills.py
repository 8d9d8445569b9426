"""kill -9 of every worker at random moments, then poison and repeats in every topic: nothing lost, nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broker_under_test import Broker, create_topics
from confluent_kafka import TopicPartition
from faults import poison

from benchmarks.soak import Disturber, Plan, restored
from benchmarks.soak_market import Prepared, edged_events
from benchmarks.soak_system import ALONE, UnderLoad, under_load
from benchmarks.soak_truth import truth_of
from features.events import Kind
from pipeline import topics
from pipeline.kafka import make_producer, make_reader, partitions_of, read_to_end
from pipeline.query import open_lake
from pipeline.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("a prepared market")]

PLAN = Plan(kills=5, every_s=1.6, seed=1)
READ = (topics.EVENTS, topics.FEATURES, topics.UNIVERSE, topics.SIGNALS, topics.DECISION_INPUTS)
"""By stages, which make a dead letter of what they cannot use."""
REPEATED = (topics.FEATURES, topics.UNIVERSE, topics.SIGNALS, topics.DECISION_INPUTS, topics.DECISIONS, topics.FILLS)
KINDS = {
    topics.EVENTS: tuple(kind.value for kind in Kind),
    topics.DECISION_INPUTS: ("input",),
    topics.DECISIONS: ("decision",),
    topics.FILLS: ("fill",),
}


def test_killed_and_poisoned_workers_lose_nothing_and_tell_nothing_twice(
    broker: Broker, prepared: Prepared, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = prepared.settings(bootstrap=broker.bootstrap, application=tmp_path.name, lake=tmp_path / "lake")
    create_topics(broker, settings)
    with under_load(prepared, settings, tmp_path, ALONE, speed=12.0) as system:
        wait_until(system, 0.3)
        disturber = Disturber(PLAN, system.workers, settings, None, None)
        disturber.run()
        wait_until(system, 0.8)  # decisions are made from 0.57 on
        poisoned, repeated = poison_all(settings), repeat_all(settings)
        for stage in ALONE:  # started again, they read checkpoints and decisions with poison in between
            system.workers[stage].kill()
            system.workers[stage].start()
    truth = truth_of(settings, tmp_path, edged_events(prepared.config))
    done = f"{PLAN.kills + len(ALONE)} kills, {sum(poisoned.values())} poisoned, {repeated} repeated"
    record_property("counted", f"{done}; {truth.summary()}")
    assert truth.holds, truth.report()
    assert truth.tables["decisions"]["replay"].rows > 80
    assert disturber.faults == {"kill": PLAN.kills}
    assert restored(tmp_path / "logs") > 1  # the others were killed before they had begun anew
    # What is repeated is repeated with its poison.
    expected = {name: poisoned[name] * (2 if name in REPEATED else 1) for name in READ}
    assert letters_of(settings) == expected


def wait_until(system: UnderLoad, progress: float) -> None:
    while system.feed.progress < progress and not system.feed.done:
        system.workers.check()
        time.sleep(0.05)


def poison_all(settings: Settings) -> dict[str, int]:
    """Poison every topic; and garbage under the very names of our own checkpoints."""
    counts = {
        name: poison(settings, name, partitions_of(spec, settings), KINDS.get(name, (name,)), seed, count=2)
        for seed, (name, spec) in enumerate(topics.TOPICS.items())
    }
    producer = make_producer(settings)
    for partition in range(partitions_of(topics.TOPICS[topics.CHECKPOINTS], settings)):
        for stage in ALONE:
            for task in range(settings.partitions):
                owner = f"{settings.application}/{stage}/{task}"
                headers = {"owner": owner.encode()}
                producer.produce(
                    topics.CHECKPOINTS, b"\xc1garbage", f"{owner}/1/0".encode(), partition, headers=headers
                )
    assert producer.flush(10) == 0
    return counts


def repeat_all(settings: Settings) -> int:
    """Append everything that these topics hold once more; how many messages."""
    reader, producer = make_reader(settings), make_producer(settings)
    positions = [
        TopicPartition(name, number, 0)
        for name in REPEATED
        for number in range(partitions_of(topics.TOPICS[name], settings))
    ]
    try:
        messages = list(read_to_end(reader, positions))
    finally:
        reader.close()
    for message in messages:
        producer.produce(
            message.topic(), message.value(), message.key(), message.partition(), headers=message.headers()
        )
    assert producer.flush(30) == 0
    return len(messages)


def letters_of(settings: Settings) -> dict[str, int]:
    """Messages in the dead letters, by topic; one that two stages read counts once."""
    with open_lake(settings.lake) as lake:
        found = lake.sql(
            "SELECT source_topic, count(DISTINCT (source_partition, source_offset)) FROM dead_letters GROUP BY 1"
        ).fetchall()
    return {name: count for name, count in found if name in READ}
