"""Streamed and backfilled features are equal to the bit, whatever happens to the workers on the way."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from broker_under_test import SESSION_MS, Broker, create_topics
from faults import FaultyLog
from small_market import edged, small_market

from features.events import EventBatch
from pipeline.backfill import backfill
from pipeline.compare import Comparison, compare
from pipeline.edge import Edge
from pipeline.kafka import committed_offsets
from pipeline.lake import Lake
from pipeline.log import KafkaLog
from pipeline.processes import Workers, environment_of
from pipeline.raw_reader import read_log
from pipeline.settings import Settings
from pipeline.worker_specs import sources_of

pytestmark = pytest.mark.broker

REFERENCE = {"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"}
EVENTS = small_market(60, seed=5)


def make_settings(broker: Broker, folder: Path, partitions: int = 2) -> Settings:
    return Settings(
        bootstrap=broker.bootstrap,
        application=folder.name,
        partitions=partitions,
        lake=folder / "lake",
        reference=REFERENCE,
        checkpoint_interval_ms=150,
        lake_commit_interval_ms=300,
        session_timeout_ms=SESSION_MS,
        batch_messages=50,
    )


def compared(settings: Settings, folder: Path, events: list[EventBatch] | None = None) -> list[Comparison]:
    """The streamed tables beside a backfill of the raw tables (or of ``events``) into a lake of its own."""
    again = Lake(folder / "again")
    backfill(events or read_log(settings.lake), again, settings, with_signals=False)
    return [compare(Lake(settings.lake), again, name) for name in ("features", "universe")]


@pytest.mark.parametrize("partitions", [1, 4])  # two: with the kills below
def test_the_number_of_partitions_does_not_change_a_bit(broker: Broker, tmp_path: Path, partitions: int) -> None:
    settings = make_settings(broker, tmp_path, partitions)
    create_topics(broker, settings)
    log = KafkaLog(settings)
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features", "universe", "lake")
        edge = Edge(log, "test")
        for event in EVENTS:
            edge.send(event)
        log.flush()
        workers.drain(60)
    # The reference is the events themselves, without Kafka: the same for every number of partitions.
    for result in compared(settings, tmp_path, edged(EVENTS)):
        assert result.left == result.right > 100
        assert result.differing == 0
    assert all(result.differing == 0 for result in compared_again(settings, tmp_path))


def compared_again(settings: Settings, folder: Path) -> list[Comparison]:
    """The same, backfilled from the lake's raw tables."""
    again = Lake(folder / "from-raw")
    backfill(read_log(settings.lake), again, settings, with_signals=False)
    return [compare(Lake(settings.lake), again, name) for name in ("features", "universe")]


def test_workers_killed_paused_and_fed_with_lost_and_repeated_messages(broker: Broker, tmp_path: Path) -> None:
    """kill -9 of every worker while messages flow, twice; some messages come twice, some never."""
    settings = make_settings(broker, tmp_path)
    create_topics(broker, settings)
    log = KafkaLog(settings)
    edge = Edge(FaultyLog(log, lose={400, 401, 900}, repeat={300, 700, 1_100}), "test")
    victims = ["features", "universe", "lake"] * 2
    phases = [EVENTS[len(EVENTS) * i // 7 : len(EVENTS) * (i + 1) // 7] for i in range(7)]
    with Workers(settings, environment_of(settings.model_copy(update={"member": "a"})), tmp_path / "logs") as workers:
        workers.start("features", "universe", "lake")
        for phase, victim in zip(phases, [*victims, None], strict=True):
            before = committed(settings, victim) if victim else 0
            for event in phase:
                edge.send(event)
            log.flush()
            if victim is None:
                continue
            while before == committed(settings, victim):
                time.sleep(0.05)
            workers[victim].kill()
            workers[victim].start()
            workers["features"].pause()
            time.sleep(0.1)
            workers["features"].resume()
        workers.drain(90)
    restored = [json.loads(line) for stage in ("features", "universe") for line in log_lines(tmp_path, stage)]
    recoveries = [line for line in restored if line["event"] == "restored" and line["generation"] > 0]
    assert len(recoveries) >= 4
    for result in compared(settings, tmp_path):
        assert result.left == result.right > 100
        assert result.differing == 0


def committed(settings: Settings, stage: str) -> int:
    return sum(committed_offsets(settings, stage, sources_of(stage)).values())


def log_lines(folder: Path, stage: str) -> list[str]:
    return (folder / "logs" / f"{stage}.log").read_text().splitlines()
