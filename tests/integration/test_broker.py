"""The embedded broker and what stands on it: topics, checkpoints, dead letters, and what happens without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import broker_under_test
import pytest
from broker_under_test import SESSION_MS, Broker
from confluent_kafka import Producer
from small_market import small_market

from features.errors import ConfigError
from pipeline import topics
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.checkpoint import PART_BYTES, Checkpoint, CheckpointStore
from pipeline.edge import Edge
from pipeline.kafka import BrokerError, create_topics, end_offsets, partition_of, require_broker
from pipeline.lake import LakeError
from pipeline.log import KafkaLog, Outbox
from pipeline.processes import Workers, environment_of
from pipeline.query import open_lake
from pipeline.settings import Settings
from pipeline.worker_specs import make_worker

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(shared_broker: Broker, tmp_path: Path) -> Settings:
    settings = Settings(
        bootstrap=shared_broker.bootstrap,
        lake=tmp_path / "lake",
        reference={"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"},
        application=f"test-{tmp_path.name}",
        checkpoint_interval_ms=100,
        lake_commit_interval_ms=200,
        session_timeout_ms=SESSION_MS,
    )
    broker_under_test.create_topics(shared_broker, settings)
    return settings


def test_topics_exist_with_the_configured_partitions_and_creating_again_changes_nothing(settings: Settings) -> None:
    found = require_broker(settings).topics
    for name, spec in topics.TOPICS.items():
        assert len(found[name].partitions) == (settings.partitions if spec.per_underlying else 1)
    assert create_topics(settings) == []
    with pytest.raises(BrokerError, match="has 2 partitions, 3 are configured"):
        create_topics(settings.model_copy(update={"partitions": 3}))


def test_the_end_of_a_topic_counts_every_message_of_the_last_batch(settings: Settings) -> None:
    before = end_offsets(settings, [topics.FILLS])[topics.FILLS, 0]
    outbox = Outbox(settings, linger_ms=50)
    for i in range(70):
        outbox.send(topics.FILLS, 0, "k", str(i).encode(), {})
    outbox.flush()
    assert end_offsets(settings, [topics.FILLS])[topics.FILLS, 0] == before + 70


def test_the_newest_complete_checkpoint_is_found_and_a_torn_one_is_passed_over(settings: Settings) -> None:
    outbox = Outbox(settings)
    store = CheckpointStore(settings, outbox)
    assert store.load("s/0") == Checkpoint(following=1)
    large = os.urandom(2 * PART_BYTES + 17)
    store.save("s/0", Checkpoint(1, {("t", 0): 5}, {"BTC": b"one", "ETH": b""}))
    store.save("s/0", Checkpoint(2, {("t", 0): 9, ("t", 1): 4}, {"BTC": large, "ETH": b"two"}))
    found = store.load("s/0")
    assert (found.generation, found.following) == (2, 3)
    assert found.state == {"BTC": large, "ETH": b"two"}
    assert found.offsets == {("t", 0): 9, ("t", 1): 4}
    # An owner that dies while writing generation 3: its last part never comes.
    torn = _TornOutbox(outbox, parts=2)
    CheckpointStore(settings, torn).save("s/0", Checkpoint(3, {("t", 0): 99}, {"BTC": large}))
    after = store.load("s/0")
    assert (after.generation, after.state) == (2, found.state)
    assert after.following == 5  # not 3, whose parts lie about; not 4, whose slot is that of 2
    assert store.load("another/0").generation == 0


class _TornOutbox(Outbox):
    """Sends the first messages only."""

    def __init__(self, outbox: Outbox, parts: int) -> None:
        self._outbox, self._left = outbox, parts

    def send(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        if self._left > 0:
            self._outbox.send(topic, partition, key, value, headers)
        self._left -= 1

    def flush(self, timeout_s: float = 120.0) -> None:
        self._outbox.flush(timeout_s)


def test_poison_goes_to_the_dead_letters_and_the_rest_flows(settings: Settings, tmp_path: Path) -> None:
    """Broken bytes, an unknown kind, rows of an unknown instrument and a negative size: each counted, none fatal."""
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    poison = Producer({"bootstrap.servers": settings.bootstrap})
    partition = partition_of("BTC", settings.partitions)
    for i, event in enumerate(small_market(20, seed=9)):
        edge.send(event)
        if i == 300:
            log.flush()
            poison.produce(topics.EVENTS, b"\xff\x00garbage", b"BTC", partition, headers={"kind": b"book"})
            poison.produce(topics.EVENTS, b"{}", b"BTC", partition, headers={"kind": b"gossip"})
            poison.produce(topics.EVENTS, None, b"BTC", partition)
            poison.flush()
    log.flush()
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features", "lake")
        workers.drain(60)
    letters = f"FROM dead_letters WHERE source_topic = '{topics.EVENTS}'"
    with open_lake(settings.lake) as lake:
        reasons = dict(lake.sql(f"SELECT reason, count(*) {letters} GROUP BY 1").fetchall())
        kept = lake.sql(f"SELECT payload, source_topic, source_offset {letters} AND reason = 'undecodable'")
        first = kept.fetchall()[0]
        bars = lake.sql("SELECT count(DISTINCT bar_ts) FROM features").fetchall()[0][0]
    assert reasons == {"undecodable": 1, "unknown_kind": 2}
    assert first[:2] == (b"\xff\x00garbage", topics.EVENTS)
    assert first[2] > 0
    assert bars >= 19


def test_a_lake_that_is_ahead_of_the_log_stops_the_writer(settings: Settings) -> None:
    """The broker came back empty: its new rows must not be dropped as old ones."""
    from pipeline.lake import Lake, positioned
    from pipeline.tables import TABLES

    table = TABLES["fills"]
    columns = {field.name: [1 if "ts" in field.name else None] for field in table.columns}
    import pyarrow as pa

    arrays = {field.name: pa.array(columns[field.name], field.type) for field in table.columns}
    Lake(settings.lake).append(table, positioned(table, arrays, 0, 0, [0]), {(topics.FILLS, 0): 1_000_000})
    with pytest.raises(LakeError, match="only up to"):
        make_worker(["lake"], settings).run()


def test_a_port_in_use_is_named(own_broker: EmbeddedBroker) -> None:
    with pytest.raises(ConfigError, match=rf"Port {own_broker.port} on 127.0.0.1 is in use.*--port"):
        EmbeddedBroker(own_broker.port).start()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="is in use"):
            EmbeddedBroker(int(other.getsockname()[1])).start()


def test_a_broker_that_is_not_there_is_one_line_with_the_remedy() -> None:
    command = [sys.executable, "-m", "pipeline.cli", "stream", "run", "features"]
    port = free_port()
    done = subprocess.run(
        [*command, "--bootstrap", f"127.0.0.1:{port}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 6
    assert done.stderr.strip().splitlines()[-1] == (
        f"hedgeflow: No Kafka broker answers at 127.0.0.1:{port}. "
        "Start one with `hedgeflow broker`, or point --bootstrap at yours."
    )
    assert "Traceback" not in done.stderr
