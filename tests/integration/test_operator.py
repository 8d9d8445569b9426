"""What an operator types while the system runs: topics, lag, dead letters."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from small_market import edged, small_market
from typer.testing import CliRunner

from features.events import EventBatch, Kind
from pipeline import topics
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.cli import app
from pipeline.codec import encode
from pipeline.dead_letters import Choice, lake_letters
from pipeline.kafka import BrokerError, create_topics, partition_of
from pipeline.lake import LakeError
from pipeline.log import KafkaLog
from pipeline.processes import Workers, environment_of
from pipeline.settings import Settings

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    return Settings(
        bootstrap=broker.bootstrap,
        lake=tmp_path / "lake",
        reference={"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"},
        application=f"operator-{tmp_path.name}",
        checkpoint_interval_ms=100,
        lake_commit_interval_ms=200,
        session_timeout_ms=3_000,
    )


def run(settings: Settings, *arguments: str) -> Result:
    environment = environment_of(settings) | {"COLUMNS": "220"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def answer(settings: Settings, *arguments: str) -> object:
    done = run(settings, *arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_topics_are_created_and_described(tmp_path: Path) -> None:
    with EmbeddedBroker() as empty:
        settings = Settings(bootstrap=empty.bootstrap)
        missing = run(settings, "topics", "describe")
        assert f"`hedgeflow topics create --bootstrap {empty.bootstrap}`" in missing.output
        assert all(each["missing"] for each in answer(settings, "topics", "describe"))
        assert "created: md.events" in run(settings, "topics", "create").output
        assert "all topics exist" in run(settings, "topics", "create", "--replication-factor", "1").output
        Producer({"bootstrap.servers": empty.bootstrap}).produce(topics.FILLS, b"{}")
        there = {each["topic"]: each for each in answer(settings, "topics", "describe")}
        assert len(there[topics.EVENTS]["partitions"]) == 2
        assert there[topics.CHECKPOINTS]["in_force"]["cleanup.policy"] == "compact"
        assert not any(each["differences"] for each in there.values())
        more = {each["topic"]: each for each in answer(settings, "topics", "describe", "--partitions", "3")}
        assert more[topics.EVENTS]["differences"] == [{"name": "partitions", "wanted": "3", "found": "2"}]
        marked = run(settings, "topics", "describe", "--partitions", "3").output
        assert "partitions 2, wanted 3" in marked


def test_a_topic_with_other_settings_is_marked(tmp_path: Path) -> None:
    from confluent_kafka.cimpl import NewTopic

    with EmbeddedBroker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        config = {"retention.ms": "1000", "cleanup.policy": "delete"}
        admin.create_topics([NewTopic(topics.CHECKPOINTS, 2, 1, config=config)])[topics.CHECKPOINTS].result(10)
        settings = Settings(bootstrap=broker.bootstrap)
        create_topics(settings)
        there = {each["topic"]: each for each in answer(settings, "topics", "describe")}
        assert {each["name"] for each in there[topics.CHECKPOINTS]["differences"]} == {"retention.ms", "cleanup.policy"}
        doctor = run(settings, "doctor", "--no-gpu").output
        assert "checkpoints: retention.ms is 1000, wanted 604800000" in " ".join(doctor.split())


def send(settings: Settings, batches: list[EventBatch]) -> None:
    log = KafkaLog(settings)
    for batch in batches:
        log.append(batch)
    log.flush()


def test_letters_are_listed_shown_and_put_back_after_the_fix(settings: Settings, tmp_path: Path) -> None:
    """The reference data came as a dead letter: put back, the instrument's rows are used from then on."""
    create_topics(settings)
    batches = [batch for batch in edged(small_market(12, seed=3)) if batch.underlying == "BTC"]
    partition = partition_of("BTC", settings.partitions)
    first = next(batch for batch in batches if batch.kind is Kind.INSTRUMENT)
    early = [batch for batch in batches if batch.kind is Kind.HEARTBEAT][:1]
    poison = Producer({"bootstrap.servers": settings.bootstrap})
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features", "lake")
        # An older worker's header: the kind is not known, though the bytes are good.
        poison.produce(topics.EVENTS, encode(first.data), b"BTC", partition, headers={"kind": b"reference"})
        poison.produce(topics.EVENTS, b"\xff\x00\x1b[31mgarbage", b"BTC", partition, headers={"kind": b"book"})
        poison.produce(topics.EVENTS, b'{"price": "1"}', b"\xff", partition, headers={"kind": b"trade"})
        poison.flush()
        send(settings, early)
        workers.drain(240)
        listed = answer(settings, "dead-letters", "list", "--stage", "features")
        assert {name: each["letters"] for name, each in listed["reasons"].items()} == {
            "unknown_kind": 1,
            "undecodable": 2,
        }
        names = {each["reason"]: each["id"] for each in listed["newest"]}
        assert answer(settings, "dead-letters", "list", "--since", "1h", "--reason", "nothing")["letters"] == 0
        assert "unknown_kind" in run(settings, "dead-letters", "list").output

        shown = run(settings, "dead-letters", "show", names["unknown_kind"]).output
        assert f"from  {topics.EVENTS}/{partition}/" in shown
        assert "now  unknown_kind: kind 'reference'" in shown
        assert "00000000  ff ff ff ff" in shown

        dry = run(settings, "dead-letters", "replay", "--stage", "features").output
        assert "would be put back; --go does it" in dry
        assert "does not tell the message's key and kind" in dry, "a key that is no text"
        assert answer(settings, "dead-letters", "list", "--stage", "features") == listed, "a dry run changes nothing"

        before = len(listed["newest"])
        done = run(settings, "dead-letters", "replay", names["undecodable"].rpartition("/")[2], "--go")
        again = run(settings, "dead-letters", "replay", *names.values(), "--go")
        forced = run(settings, "dead-letters", "replay", names["unknown_kind"], "--go", "--force")
        assert done.exit_code == again.exit_code == forced.exit_code == 0, (done.output, again.output, forced.output)
        workers.drain(240)
        after = answer(settings, "dead-letters", "list", "--stage", "features", "--rows", "50")["newest"]
        assert len(after) > before, "what is put back unmended is a letter again, at its new place"
        from_lake = answer(settings, "dead-letters", "list", "--lake", str(settings.lake))
        assert from_lake["letters"] >= len(after)
        name = from_lake["newest"][0]["id"]
        assert name in run(settings, "dead-letters", "show", name, "--lake", str(settings.lake)).output
    unknown = run(settings, "dead-letters", "show", "999999")
    assert "There is no dead letter 999999" in str(unknown.exception)
    assert "names no dead letter" in str(run(settings, "dead-letters", "show", "x/y").exception)


def test_lag_is_what_lies_before_each_group(settings: Settings, tmp_path: Path) -> None:
    create_topics(settings)
    assert run(settings, "lag").output.startswith("no consumer group of this application")
    send(settings, edged(small_market(4, seed=5)))
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features")
        workers.drain(240)
    (group,) = answer(settings, "lag", "--max", "0")["groups"]
    assert (group["group"], group["lag"]) == ("features", 0)
    batches = edged(small_market(4, seed=5))
    send(settings, batches)
    behind = answer(settings, "lag")
    assert behind["total"] == len(batches)
    assert f"{len(batches)}" in run(settings, "lag").output
    over = run(settings, "lag", "--max", str(len(batches) - 1))
    assert over.exit_code == 8
    assert "messages behind: features" in over.output


def test_the_commands_of_the_documents_run(tmp_path: Path) -> None:
    """Every line of docs/operations.md in order, on a broker and a lake of our own; those with & in the background."""
    port = free_port()
    lines = re.findall(r"^hedgeflow .*$", console((ROOT / "docs" / "operations.md").read_text()), re.MULTILINE)
    assert len(lines) > 8
    background: list[subprocess.Popen[bytes]] = []
    try:
        for line in lines:
            own = line.split("#")[0].strip().replace("localhost:9092", f"127.0.0.1:{port}").replace("9092", str(port))
            words = shlex.split(own.rstrip(" &"))
            command = [sys.executable, "-m", "pipeline.cli", *words[1:]]
            if own.endswith("&"):
                background.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL))
                if words[1] == "broker":
                    wait_for(port)
                continue
            if "show" in words:
                wait_for_lake(tmp_path / "lake", port)
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, (line, done.stdout[-600:], done.stderr[-600:])
    finally:
        codes = []
        for process in reversed(background):  # the broker last
            process.terminate()
            codes.append(process.wait(60))
    assert codes == [0] * len(background)


def console(text: str) -> str:
    return "".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL))


def wait_for(port: int) -> None:
    """Until the broker answers; then a message that nobody can use lies there."""
    settings = Settings(bootstrap=f"127.0.0.1:{port}")
    deadline = time.monotonic() + 60
    while True:
        try:
            create_topics(settings)
            break
        except BrokerError:
            assert time.monotonic() < deadline
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    producer.produce(
        topics.EVENTS, b"{}", b"BTC", partition_of("BTC", settings.partitions), headers={"kind": b"gossip"}
    )
    producer.flush()


def wait_for_lake(lake: Path, port: int) -> None:
    """Until the dead letter is in the lake."""
    settings = Settings(bootstrap=f"127.0.0.1:{port}", lake=lake)
    deadline = time.monotonic() + 120
    while True:
        try:
            if any(True for _ in lake_letters(settings, Choice())):
                return
        except LakeError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.3)
