"""Messages that come twice, in the wrong order, late or never. What is no message at all: test_kills.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from broker_under_test import Broker, create_topics
from faults import FaultyLog
from small_market import small_market

from benchmarks.soak_truth import truth_of
from pipeline.edge import Edge
from pipeline.log import KafkaLog
from pipeline.processes import Workers, environment_of
from pipeline.query import open_lake
from pipeline.settings import Settings

pytestmark = pytest.mark.broker

Record = Callable[[str, object], None]


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
