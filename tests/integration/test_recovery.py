"""Streamed and backfilled features are equal to the bit, however many partitions the log has."""

from __future__ import annotations

from pathlib import Path

import pytest
from broker_under_test import SESSION_MS, Broker, create_topics
from small_market import edged, small_market

from features.events import EventBatch
from pipeline.backfill import backfill
from pipeline.compare import Comparison, compare
from pipeline.edge import Edge
from pipeline.lake import Lake
from pipeline.log import KafkaLog
from pipeline.processes import Workers, environment_of
from pipeline.raw_reader import read_log
from pipeline.settings import Settings

pytestmark = pytest.mark.broker

REFERENCE = {"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"}
EVENTS = small_market(30, seed=5)


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


@pytest.mark.parametrize("partitions", [1, pytest.param(4, marks=pytest.mark.soak)])  # 2 and 4: in other tests
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
        assert result.left == result.right > 50
        assert result.differing == 0
    assert all(result.differing == 0 for result in compared_again(settings, tmp_path))


def compared_again(settings: Settings, folder: Path) -> list[Comparison]:
    """The same, backfilled from the lake's raw tables."""
    again = Lake(folder / "from-raw")
    backfill(read_log(settings.lake), again, settings, with_signals=False)
    return [compare(Lake(settings.lake), again, name) for name in ("features", "universe")]
