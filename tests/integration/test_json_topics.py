"""Users' own topics of JSON through a real broker: at least once, and once in the log after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broker_under_test
import pytest
from broker_under_test import BOOTSTRAP, SESSION_MS, Broker
from confluent_kafka import TopicPartition

from features.book import replay_l2
from features.errors import ConfigError
from features.events import EventBatch, Kind
from pipeline.codec import KIND_HEADER, decode_event
from pipeline.kafka import BrokerError, create_topics, header, make_producer, make_reader, read_to_end
from pipeline.settings import Settings
from pipeline.sources.json_events import HedgeflowMessages
from pipeline.sources.json_tardis import TardisMessages
from pipeline.sources.json_topics import ORIGIN_HEADER, JsonTopics, PositionedLog
from pipeline.sources.numbering import resumed_edge
from pipeline.sources.tardis_increments import TardisIncrements
from pipeline.topics import DEAD_LETTER, EVENTS, TopicSpec

pytestmark = pytest.mark.broker

NOW_NS = time.time_ns() // 10**9 * 10**9
GIVEN = TardisIncrements([], {"desk:*": ("0.1", "0.001")})


@pytest.fixture
def settings(shared_broker: Broker, tmp_path: Path) -> Settings:
    settings = Settings(
        bootstrap=shared_broker.bootstrap,
        application=f"t-{tmp_path.name}",
        session_timeout_ms=1_000 if not BOOTSTRAP else SESSION_MS,
        batch_messages=20,
    )
    broker_under_test.create_topics(shared_broker, settings)
    return settings


def topic_of(settings: Settings, name: str) -> str:
    topic = f"{settings.application}.{name}"
    create_topics(settings, (TopicSpec(topic, key="instrument"),))
    return topic


def send(settings: Settings, topic: str, *payloads: Any) -> None:
    producer = make_producer(settings)
    for payload in payloads:
        value = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        producer.produce(topic, value, b"desk:BTC", 0)
    producer.flush()


def trade(number: int, underlying: str = "BTC", **more: Any) -> dict[str, Any]:
    return {
        "kind": "trade", "underlying": underlying, "instrument": f"desk:{underlying}", "ts_event": NOW_NS + number,
        "trade_id": number, "price": "100.5", "size": "0.25", "aggressor": 1,
    } | more  # fmt: skip


def follow(settings: Settings, topic: str, decoder: Any, until: Callable[[JsonTopics], bool]) -> JsonTopics:
    """Run a source until it has done so much."""
    log = PositionedLog(settings)
    source = JsonTopics(settings, [topic], decoder, resumed_edge(log, "test", settings), log)
    thread = threading.Thread(target=source.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not until(source) and time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.02)
    source.stop()
    thread.join(20)
    assert until(source), (source.messages, source.repeated, dict(log.rejected))
    return source


def read(settings: Settings, topic: str, of: str, partitions: int = 2) -> list[Any]:
    """Messages that come from topic ``of``."""
    reader = make_reader(settings)
    try:
        found = list(read_to_end(reader, [TopicPartition(topic, i, 0) for i in range(partitions)]))
    finally:
        reader.close()
    return [each for each in found if of in (header(each, ORIGIN_HEADER) or header(each, "topic") or "")]


def events(settings: Settings, topic: str) -> list[EventBatch]:
    return [
        decode_event(header(message, KIND_HEADER) or "", message.key().decode(), message.value())
        for message in read(settings, EVENTS, topic)
    ]


def trades(settings: Settings, topic: str) -> list[int]:
    batches = [batch for batch in events(settings, topic) if batch.kind is Kind.TRADE]
    return [row["trade_id"] for batch in batches for row in batch.data.to_pylist()]


def test_messages_become_rows_and_what_is_none_a_dead_letter(settings: Settings) -> None:
    topic = topic_of(settings, "mixed")
    bad = b"\xff not json"
    send(settings, topic, trade(1), bad, trade(2, price="100.55"), trade(3, "ETH"), trade(4, size="0"), trade(5))
    source = follow(settings, topic, HedgeflowMessages(GIVEN), lambda each: each.messages == 6)
    assert sorted(trades(settings, topic)) == [1, 3, 5]
    assert source._log.rejected == {"broken_json": 1, "off_increment": 1, "bad_trade": 1}
    beats = [batch for batch in events(settings, topic) if batch.kind is Kind.HEARTBEAT]
    assert sorted(batch.underlying for batch in beats) == ["BTC", "ETH"]
    first, second = read(settings, DEAD_LETTER, topic, partitions=1)
    assert (header(first, "reason"), header(first, "offset"), first.value()) == ("broken_json", "1", bad)
    assert (header(second, "reason"), header(second, "partition")) == ("off_increment", "0")


def test_a_source_started_again_goes_on_and_repeats_nothing(settings: Settings) -> None:
    topic = topic_of(settings, "again")
    send(settings, topic, *(trade(i) for i in range(50)))
    follow(settings, topic, HedgeflowMessages(GIVEN), lambda each: each.messages == 50)
    send(settings, topic, *(trade(i) for i in range(50, 60)))
    second = follow(settings, topic, HedgeflowMessages(GIVEN), lambda each: each.messages >= 10)
    assert (second.messages, second.repeated) == (10, 0)
    assert trades(settings, topic) == list(range(60))
    seqs = [
        row["seq"] for batch in events(settings, topic) if batch.kind is Kind.TRADE for row in batch.data.to_pylist()
    ]
    assert seqs == sorted(set(seqs))


def test_rows_appended_but_not_committed_are_recognized(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the acknowledgement and the commit: the offsets never reach the broker."""
    topic = topic_of(settings, "crash")
    send(settings, topic, *(trade(i) for i in range(30)))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.sources.json_topics.commit", lambda *_: None)
        follow(settings, topic, HedgeflowMessages(GIVEN), lambda each: each.messages == 30)
    send(settings, topic, *(trade(i) for i in range(30, 40)))
    second = follow(settings, topic, HedgeflowMessages(GIVEN), lambda each: each.messages >= 10)
    assert (second.messages, second.repeated) == (10, 30)
    assert trades(settings, topic) == list(range(40))


def test_a_message_of_which_a_part_is_missing_comes_again_whole(settings: Settings) -> None:
    topic = topic_of(settings, "torn")
    send(settings, topic, trade(1))
    log = PositionedLog(settings)
    log._outbox.send(EVENTS, 0, "BTC", b"", {KIND_HEADER: "trade", ORIGIN_HEADER: f"{topic}/0/0/1/2"})
    log.flush()
    source = follow(settings, topic, HedgeflowMessages(GIVEN), lambda each: each.messages == 1)
    assert source.repeated == 0


def test_a_book_goes_on_over_a_restart(settings: Settings) -> None:
    topic = topic_of(settings, "book")
    increments = TardisIncrements([], {"binance-futures:*": ("0.01", "0.001")})

    def change(second: int, **more: Any) -> dict[str, Any]:
        stamp = f"2026-01-01T00:00:{second:02d}Z"
        names = {"type": "book_change", "exchange": "binance-futures", "symbol": f"{settings.application}USDT"}
        return names | {"timestamp": stamp, "localTimestamp": stamp, "bids": [], "asks": []} | more

    level = {"price": 100.5, "amount": 1}
    send(settings, topic, change(0, isSnapshot=True, bids=[level]), change(1, asks=[{"price": 101, "amount": 2}]))
    follow(settings, topic, TardisMessages(increments), lambda each: each.messages == 2)
    send(settings, topic, change(2, bids=[level | {"amount": 0}]))
    follow(settings, topic, TardisMessages(increments), lambda each: each.messages == 1)
    books = replay_l2(events(settings, topic)).select("valid", "bid_price_0", "ask_price_0").rows()
    assert books == [(True, 10_050, None), (True, 10_050, 10_100), (True, None, 10_100)]


def test_topics_must_exist_and_be_the_users_own(settings: Settings) -> None:
    log = PositionedLog(settings)
    edge = resumed_edge(log, "test", settings)
    decoder = HedgeflowMessages(GIVEN)
    with pytest.raises(BrokerError, match="no topic nowhere"):
        JsonTopics(settings, ["nowhere"], decoder, edge, log).run()
    with pytest.raises(ConfigError, match="hedgeflow's own topic"):
        JsonTopics(settings, [EVENTS], decoder, edge, log)
    with pytest.raises(ConfigError, match="No topic was named"):
        JsonTopics(settings, [], decoder, edge, log)


def test_the_command_killed_and_started_again_loses_nothing(settings: Settings) -> None:
    topic = topic_of(settings, "command")
    command = [sys.executable, "-m", "pipeline.cli", "source", "kafka", "--topics", topic, "--format", "hedgeflow"]
    command += ["--increment", "desk:*=0.1,0.001", "--bootstrap", settings.bootstrap]
    environment = os.environ | {
        "HEDGEFLOW_APPLICATION": settings.application, "HEDGEFLOW_SESSION_TIMEOUT_MS": "1000",
        "HEDGEFLOW_BATCH_MESSAGES": "5",
    }  # fmt: skip
    for number, end in enumerate((signal.SIGKILL, signal.SIGTERM)):
        send(settings, topic, *(trade(i) for i in range(100 * number, 100 * number + 100)))
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        needed = 20 if end == signal.SIGKILL else 200
        while len(set(trades(settings, topic))) < needed and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(end)
        out, err = process.communicate(timeout=30)
        if end == signal.SIGTERM:
            assert process.returncode == 0, err
            assert "rows to md.events" in out
    assert trades(settings, topic) == list(range(200))
