"""A user's topic of JSON flows into the log through a real broker."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from pipeline.broker import EmbeddedBroker
from pipeline.codec import KIND_HEADER, decode_event
from pipeline.edge import Edge
from pipeline.kafka import create_topics, header, make_producer, make_reader, read_to_end, require_broker
from pipeline.log import KafkaLog
from pipeline.settings import Settings
from pipeline.sources.alternative_mapping import mapping_of
from pipeline.sources.alternative_topic import AlternativeTopic, records_of
from pipeline.sources.base import UnusableError
from pipeline.topics import DEAD_LETTER, EVENTS, TopicSpec

TOPIC = "social.posts"
MAPPING = mapping_of(
    {
        "source": "posts",
        "underlyings": ["BTC", "ETH"],
        "time": {"field": "at", "format": "ms"},
        "text": {"fields": ["text"]},
        "values": {"likes": "likes"},
    }
)


def test_a_message_is_an_object_or_an_array_of_them() -> None:
    assert list(records_of(b'{"a": 1}')) == [{"a": 1}]
    assert list(records_of(b'[{"a": 1}, {"a": 2}]')) == [{"a": 1}, {"a": 2}]
    for payload in (b"", b"1", b"[1]", b"\xff"):
        with pytest.raises(UnusableError, match="bad_record"):
            list(records_of(payload))


@pytest.mark.broker
def test_posts_reach_the_log_once_over_two_runs() -> None:
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap=broker.bootstrap, session_timeout_ms=1_000)
        create_topics(settings)
        create_topics(settings, (TopicSpec(TOPIC, key="author"),))
        now_ms = int(time.time() * 1_000)
        send(settings, [{"at": now_ms, "text": "up", "likes": 3}, [{"at": now_ms - 1, "text": "down"}]], now_ms)
        send(settings, ["{", {"at": now_ms + 60_000, "text": "tomorrow"}, {"at": now_ms}], now_ms)
        follow(settings, rows=6, rejected=3)
        send(settings, [{"at": now_ms, "text": "again"}], now_ms)
        follow(settings, rows=2, rejected=0)
        rows = [
            (batch.underlying, row["name"], row["text"], row["value"], row["ts_recv"], row["ts_available"])
            for message in read(settings, EVENTS)
            for batch in [decode_event(header(message, KIND_HEADER) or "", message.key().decode(), message.value())]
            for row in batch.data.to_pylist()
        ]
        at = now_ms * 1_000_000
        expected = [
            ("headline", "up", None),
            ("likes", None, 3.0),
            ("headline", "down", None),
            ("headline", "again", None),
        ]
        assert sorted(rows, key=str) == sorted(
            ((underlying, *each, at, at) for underlying in ("BTC", "ETH") for each in expected), key=str
        )
        letters = {(header(each, "reason"), each.value()) for each in read(settings, DEAD_LETTER)}
        assert {reason for reason, _ in letters} == {"bad_record", "from_the_future", "no_content"}
        assert ("bad_record", b'"{"') in letters


def send(settings: Settings, messages: list[Any], at_ms: int) -> None:
    producer = make_producer(settings)
    for message in messages:
        producer.produce(TOPIC, json.dumps(message).encode(), timestamp=at_ms)
    assert producer.flush(10) == 0


def follow(settings: Settings, rows: int, rejected: int) -> None:
    """Run the source until it has appended ``rows``, no more, and refused ``rejected``."""
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    source = AlternativeTopic(settings, TOPIC, MAPPING, edge, log)
    thread = threading.Thread(target=source.run)
    thread.start()
    deadline = time.monotonic() + 20
    while (edge.rows, sum(log.rejected.values())) != (rows, rejected) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)  # more would come now
    source.stop()
    thread.join(20)
    assert (edge.rows, sum(log.rejected.values())) == (rows, rejected)


def read(settings: Settings, topic: str) -> list[Any]:
    reader = make_reader(settings)
    partitions = require_broker(settings).topics[topic].partitions
    messages = list(read_to_end(reader, [TopicPartition(topic, partition, 0) for partition in partitions]))
    reader.close()
    return messages
