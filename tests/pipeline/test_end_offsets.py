"""Where a topic ends: after its last message, whatever a broker and its transactions leave behind that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition

from pipeline import topics
from pipeline.broker import EmbeddedBroker
from pipeline.kafka import create_topics, end_offsets, make_reader, read_to_end
from pipeline.settings import Settings

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        found = Settings(bootstrap=broker.bootstrap, partitions=2)
        create_topics(found)
        yield found


def test_markers_of_transactions_are_no_messages(settings: Settings) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap, "transactional.id": "test"})
    producer.init_transactions(20)
    for _ in range(5):
        producer.begin_transaction()
        for number in range(3):
            producer.produce(topics.EVENTS, str(number).encode(), partition=0)
        producer.commit_transaction(20)
    ends = end_offsets(settings, [topics.EVENTS])
    reader = make_reader(settings)
    try:
        begin = [TopicPartition(topics.EVENTS, partition, 0) for partition in (0, 1)]
        offsets = [message.offset() for message in read_to_end(reader, begin, 20.0)]
    finally:
        reader.close()
    assert len(offsets) == 15
    assert ends == {(topics.EVENTS, 0): offsets[-1] + 1, (topics.EVENTS, 1): 0}
    assert offsets[-1] > 14, "markers took offsets between"


def test_a_batch_of_many_and_a_topic_that_is_not_there(settings: Settings) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap, "linger.ms": 50})
    for number in range(1_000):
        producer.produce(topics.FEATURES, str(number).encode(), partition=1)
    producer.flush()
    assert end_offsets(settings, [topics.FEATURES, "nowhere"]) == {(topics.FEATURES, 0): 0, (topics.FEATURES, 1): 1_000}


def test_an_open_transaction_hides_nothing_that_was_committed(settings: Settings) -> None:
    """Tansu says 0 for the end of what is committed while one is open."""
    producer = Producer({"bootstrap.servers": settings.bootstrap, "transactional.id": "open"})
    producer.init_transactions(20)
    where = (topics.SIGNALS, 0)
    for number in range(2):
        producer.begin_transaction()
        for _ in range(3):
            producer.produce(topics.SIGNALS, b"x", partition=0)
        producer.flush()
        if number == 0:
            producer.commit_transaction(20)
    assert end_offsets(settings, [topics.SIGNALS])[where] == 3
    producer.abort_transaction(20)
