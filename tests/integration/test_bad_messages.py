"""Messages that come twice, in the wrong order, late, or are no messages at all, in every topic."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broker_under_test import Broker, create_topics
from confluent_kafka import TopicPartition
from faults import FaultyLog, poison
from small_market import small_market

from benchmarks.soak_market import Prepared, edged_events
from benchmarks.soak_system import ALONE, under_load
from benchmarks.soak_truth import truth_of
from features.events import Kind
from pipeline import topics
from pipeline.edge import Edge
from pipeline.kafka import make_producer, make_reader, partition_of, partitions_of, read_to_end
from pipeline.log import KafkaLog
from pipeline.processes import Workers, environment_of
from pipeline.query import open_lake
from pipeline.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("faults")]

Record = Callable[[str, object], None]
REPEATED = (topics.FEATURES, topics.UNIVERSE, topics.SIGNALS, topics.DECISION_INPUTS, topics.DECISIONS, topics.FILLS)
KINDS = {
    topics.EVENTS: tuple(kind.value for kind in Kind),
    topics.DECISION_INPUTS: ("input",),
    topics.DECISIONS: ("decision",),
    topics.FILLS: ("fill",),
}


def test_events_twice_swapped_and_late(broker: Broker, tmp_path: Path, record_property: Record) -> None:
    """The edge has numbered them before: a book that misses a number is invalid until its next snapshot."""
    settings = Settings(
        bootstrap=broker.bootstrap,
        application=tmp_path.name,
        lake=tmp_path / "lake",
        reference={"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"},
        checkpoint_interval_ms=200,
        lake_commit_interval_ms=300,
    )
    create_topics(broker, settings)
    events = small_market(30, seed=12)
    log = KafkaLog(settings)
    half = len(events) // 2
    faulty = FaultyLog(
        log, repeat=range(20, half, 7), swap={*range(half, len(events) - 1, 40), 50}, lose={half - 3, half - 2}
    )
    edge = Edge(faulty, "test")
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features", "universe", "lake")
        for event in events:
            edge.send(event)
        log.flush()
        workers.drain(600)
    truth = truth_of(settings, tmp_path, None, signals=False, decisions=False)
    with open_lake(settings.lake) as lake:
        late, valid, invalid = lake.sql(
            "SELECT sum(late_rows), count(*) FILTER (book_valid), count(*) FILTER (NOT book_valid) FROM features"
        ).fetchall()[0]
    record_property("counted", f"{late} late rows, {invalid} bars without a book; {truth.summary()}")
    assert truth.holds, truth.report()
    assert late > 0
    assert valid > 0
    assert invalid > 0


def repeat_all(settings: Settings, topic: str) -> int:
    """Append everything that a topic holds once more; how many messages."""
    reader, producer = make_reader(settings), make_producer(settings)
    count = partitions_of(topics.TOPICS[topic], settings)
    try:
        messages = list(read_to_end(reader, [TopicPartition(topic, number, 0) for number in range(count)]))
    finally:
        reader.close()
    for message in messages:
        producer.produce(topic, message.value(), message.key(), message.partition(), headers=message.headers())
    assert producer.flush(30) == 0
    return len(messages)


def test_poison_and_repeats_in_every_topic(
    broker: Broker, prepared: Prepared, tmp_path: Path, record_property: Record
) -> None:
    settings = prepared.settings(bootstrap=broker.bootstrap, application=tmp_path.name, lake=tmp_path / "lake")
    create_topics(broker, settings)
    poisoned: dict[str, int] = {}
    repeated = 0
    with under_load(prepared, settings, tmp_path, ALONE, speed=15.0) as system:
        while system.feed.progress < 0.8:
            assert not system.feed.done
            system.workers.check()
            time.sleep(0.05)
        for seed, (name, spec) in enumerate(topics.TOPICS.items()):
            kinds = KINDS.get(name, (name,))
            poisoned[name] = poison(settings, name, partitions_of(spec, settings), kinds, seed, count=2)
        poison_checkpoints(settings)
        repeated = sum(repeat_all(settings, name) for name in REPEATED)
        for stage in ALONE:  # started again, they read checkpoints and decisions with poison in between
            system.workers[stage].kill()
            system.workers[stage].start()
    truth = truth_of(settings, tmp_path, edged_events(prepared.config))
    record_property("counted", f"{sum(poisoned.values())} poisoned, {repeated} repeated; {truth.summary()}")
    assert truth.holds, truth.report()
    with open_lake(settings.lake) as lake:
        letters = dict(
            lake.sql(
                "SELECT source_topic, count(DISTINCT (source_partition, source_offset)) FROM dead_letters GROUP BY 1"
            ).fetchall()
        )
    read = (topics.EVENTS, topics.FEATURES, topics.UNIVERSE, topics.SIGNALS, topics.DECISION_INPUTS)
    # What is repeated is repeated with its poison.
    expected = {name: poisoned[name] * (2 if name in REPEATED else 1) for name in read}
    assert {name: letters.get(name) for name in read} == expected


def poison_checkpoints(settings: Settings) -> None:
    """Garbage under the very names of our own checkpoints."""
    producer = make_producer(settings)
    for stage in ALONE:
        for task in range(settings.partitions):
            owner = f"{settings.application}/{stage}/{task}"
            at = partition_of(owner, settings.partitions)
            name = {"owner": owner.encode()}
            producer.produce(topics.CHECKPOINTS, b"\xc1garbage", f"{owner}/9/0".encode(), at, headers=name)
    assert producer.flush(10) == 0
