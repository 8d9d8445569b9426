"""A broker that comes back empty: workers end with the remedy, compute nothing from it, and leave the lake as it is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from broker_under_test import require_ours
from small_market import edged, small_market

from pipeline import topics
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.codec import KIND_HEADER, encode
from pipeline.edge import Edge
from pipeline.kafka import create_topics, partition_of
from pipeline.lake import Lake
from pipeline.log import KafkaLog, Outbox
from pipeline.processes import WorkerDiedError, Workers, environment_of
from pipeline.query import open_lake
from pipeline.settings import Settings
from pipeline.stages import feature_stage
from pipeline.tables import TABLES

pytestmark = pytest.mark.broker

STAGES = ("features", "universe", "lake")
REFERENCE = {"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"}
REMEDY = "The embedded broker keeps nothing when it stops"
ENDED_S = 300.0


def make_settings(bootstrap: str, folder: Path) -> Settings:
    return Settings(
        bootstrap=bootstrap,
        lake=folder / "lake",
        reference=REFERENCE,
        checkpoint_interval_ms=150,
        lake_commit_interval_ms=300,
        session_timeout_ms=6_000,
        broker_patience_ms=60_000,
        member="a",
    )


def feed(settings: Settings, seconds: int, seed: int) -> None:
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    for event in small_market(seconds, seed=seed):
        edge.send(event)
    log.flush()


def refill(settings: Settings, seconds: int, seed: int) -> None:
    """Another market's events and feature rows, as if others had worked on the new broker for a while."""
    feed(settings, seconds, seed)
    outbox, stage = Outbox(settings), feature_stage(settings)
    for event in edged(small_market(seconds, seed=seed)):
        for rows in stage.process(event).rows:
            partition = partition_of(rows.key, settings.partitions)
            outbox.send(topics.FEATURES, partition, rows.key, encode(rows.data), {KIND_HEADER: topics.FEATURES})
    outbox.flush()


def contents(settings: Settings) -> tuple[dict[str, list[str]], list[tuple[object, ...]]]:
    """The lake's files and how many rows queries find."""
    lake = Lake(settings.lake)
    files = {name: sorted(lake.files(table)) for name, table in TABLES.items()}
    with open_lake(settings.lake) as connection:
        rows = connection.sql(
            "SELECT 'book', count(*), max(topic_offset) FROM book UNION ALL "
            "SELECT 'features', count(*), max(topic_offset) FROM features"
        ).fetchall()
    return files, sorted(rows)


def ending(workers: Workers, stage: str) -> str:
    """What the worker says as it ends by itself."""
    deadline = time.monotonic() + ENDED_S
    while time.monotonic() < deadline:
        try:
            workers[stage].check()
        except WorkerDiedError as error:
            return str(error)
        time.sleep(0.1)
    raise AssertionError(f"{stage} goes on with a log that it does not know")


@pytest.mark.parametrize("refilled", [False, True], ids=["empty", "refilled beyond the old offsets"])
def test_workers_stop_when_the_log_is_another(tmp_path: Path, refilled: bool) -> None:
    require_ours()
    settings = make_settings(f"127.0.0.1:{free_port()}", tmp_path)
    port = int(settings.bootstrap.rpartition(":")[2])
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        with EmbeddedBroker(port) as broker:
            create_topics(settings)
            workers.start(*STAGES)
            feed(settings, 10, seed=1)
            workers.drain(600)
            before = contents(settings)
            for stage in STAGES:
                workers[stage].pause()
            os.kill(broker.pid, signal.SIGKILL)
            broker.wait()
        with EmbeddedBroker(port):
            create_topics(settings)
            if refilled:
                refill(settings, 25, seed=2)
            for stage in STAGES:
                workers[stage].resume()
            said = {stage: ending(workers, stage) for stage in STAGES}
    for stage, last in said.items():
        assert "status 6" in last or "status 7" in last, (stage, last)
        assert REMEDY in last, (stage, last)
    assert contents(settings) == before
    assert before[1][0][1] > 100  # type: ignore[operator]


def test_a_lake_of_another_log_is_refused_at_the_start(tmp_path: Path) -> None:
    """The workers were down when the broker was emptied; by now it holds more than the lake has seen."""
    require_ours()
    with EmbeddedBroker() as broker:
        settings = make_settings(broker.bootstrap, tmp_path)
        create_topics(settings)
        with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
            workers.start("features", "lake")
            feed(settings, 10, seed=1)
            workers.drain(600)
        before = contents(settings)
    with EmbeddedBroker() as broker:
        other = settings.model_copy(update={"bootstrap": broker.bootstrap})
        create_topics(other)
        refill(other, 25, seed=2)
        with Workers(other, environment_of(other), tmp_path / "logs") as workers:
            workers.start("lake")
            last = ending(workers, "lake")
    assert "status 6" in last or "status 7" in last, last
    assert REMEDY in last, last
    assert contents(settings) == before
