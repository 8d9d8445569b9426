"""Rows of a user's own JSON through a real broker: dead letters by message, and the same rows after kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition

from features.errors import ConfigError
from features.events import NANO
from pipeline.broker import EmbeddedBroker
from pipeline.kafka import (
    BrokerError,
    committed_offsets,
    create_topics,
    header,
    make_producer,
    make_reader,
    read_to_end,
)
from pipeline.messages.worker import make_message_worker
from pipeline.settings import Settings
from pipeline.topics import DEAD_LETTER, FEATURES, TopicSpec

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
BARS, QUOTES = ROOT / "examples" / "trade_bars.py", ROOT / "examples" / "quote_features.py"
START = 1_700_000_000 * NANO


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    settings = Settings(bootstrap=broker.bootstrap, application=f"t-{tmp_path.name}", monitor_port=-1)
    create_topics(settings)
    create_topics(settings, (TopicSpec("trades", key="symbol", per_underlying=True),))
    return settings


def trade(number: int) -> bytes:
    row = {"symbol": f"S{number % 3}", "ts": START + number * NANO // 50 + 1, "price": 100 + number % 7, "size": 0.5}
    return json.dumps(row).encode()


def send(settings: Settings, *payloads: bytes) -> None:
    """The symbols in turn, each into a partition of its own."""
    producer = make_producer(settings)
    for number, payload in enumerate(payloads):
        producer.produce("trades", payload, b"", number % 3 % 2)
    producer.flush()


def start(settings: Settings, file: Path, sink: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "stream",
        "messages",
        str(file),
        "--topics",
        "trades",
        "--to",
        sink,
    ]
    environment = {
        "HEDGEFLOW_APPLICATION": settings.application, "HEDGEFLOW_BOOTSTRAP": settings.bootstrap,
        "HEDGEFLOW_CHECKPOINT_INTERVAL_MS": "100", "HEDGEFLOW_MONITOR_PORT": "-1", "HEDGEFLOW_MEMBER": "a",
        "HEDGEFLOW_BATCH_MESSAGES": "2",
    }  # fmt: skip
    return subprocess.Popen(command, env=os.environ | environment, cwd=ROOT, stderr=subprocess.DEVNULL)


def taken(settings: Settings, sink: str) -> int:
    return sum(committed_offsets(settings, f"messages.{sink}", ["trades"]).values())


def wait_for(settings: Settings, sink: str, messages: int) -> None:
    deadline = time.monotonic() + 180
    while taken(settings, sink) < messages:
        assert time.monotonic() < deadline, f"{taken(settings, sink)} of {messages}"
        time.sleep(0.05)


def read(settings: Settings, topic: str, partitions: int = 2) -> list[object]:
    reader = make_reader(settings)
    try:
        return list(read_to_end(reader, [TopicPartition(topic, number, 0) for number in range(partitions)]))
    finally:
        reader.close()


def rows(settings: Settings, topic: str) -> list[tuple[object, ...]]:
    """Each once: what came again after a crash is the same."""
    batches = [pa.ipc.open_stream(message.value()).read_next_batch() for message in read(settings, topic)]  # type: ignore[attr-defined]
    found = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    identities = {row[:2] for row in found}
    assert len(identities) == len(set(found)), "a repeat differs"
    return sorted(set(found))  # type: ignore[type-var]


def test_bars_are_the_same_after_kill_9_and_bad_messages_are_dead_letters(settings: Settings) -> None:
    bad = b'{"symbol": "S0", "ts": 1, "price": "dear", "size": 1}'
    refused = b'{"symbol": "S0", "ts": 1, "price": 1, "size": -1}'
    payloads = [trade(number) for number in range(900)]
    payloads[301:301] = [bad, b"\xff", refused]  # three: the turn of the symbols goes on
    send(settings, *payloads[:450])
    process = start(settings, BARS, "killed")
    try:
        wait_for(settings, "killed", 1)
        send(settings, *payloads[450:])
        process.kill()
        process.wait()
        process = start(settings, BARS, "killed")
        wait_for(settings, "killed", len(payloads))
    finally:
        process.terminate()
        assert process.wait(60) == 0
    undisturbed = start(settings, BARS, "undisturbed")
    try:
        wait_for(settings, "undisturbed", len(payloads))
    finally:
        undisturbed.terminate()
        undisturbed.wait(60)
    found = rows(settings, "undisturbed")
    assert len(found) == 3 * 17, "eighteen seconds, of which the last is open"
    assert rows(settings, "killed") == found
    reasons = [header(each, "reason") for each in read(settings, DEAD_LETTER, 1)]
    assert set(reasons) == {"unexpected_form", "broken_json", "refused_row"}


def test_names_of_topics_are_checked(settings: Settings) -> None:
    with pytest.raises(BrokerError, match="no topic nowhere"):
        make_message_worker(settings, QUOTES, ["nowhere"], "out")
    for topics, sink in (([], "out"), (["trades"], "trades"), (["trades"], FEATURES)):
        with pytest.raises(ConfigError, match="cannot go to"):
            make_message_worker(settings, QUOTES, topics, sink)
    create_topics(settings, (TopicSpec("single", key="none"),))
    with pytest.raises(ConfigError, match="partitions"):
        make_message_worker(settings, QUOTES, ["trades", "single"], "out")
