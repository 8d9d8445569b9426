"""The streaming benchmarks in their shortest form: what they run is right, and their figures are reckoned right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import chain_streaming, latency, peers, scaling, streaming
from benchmarks.arrow_streaming import run_features, settings_for
from benchmarks.joined_log import balanced, busier, fill_events, joined_base, log_of
from benchmarks.paced_market import Due, Market, Pace, percentiles
from benchmarks.recorded_like import Base, base_log
from benchmarks.stream_runs import Step, Steps, fill
from features.bars import FeatureStage
from features.events import NANO, EventBatch, Kind
from pipeline.broker import EmbeddedBroker
from pipeline.kafka import create_topics, partition_of
from pipeline.settings import Settings
from pipeline.sources.simulated import SimulationConfig

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("benchmarks")]  # they measure: not beside each other


@pytest.fixture(scope="module")
def base() -> Base:
    return busier(base_log(None, 8, one_underlying="U"), 4)


def test_both_sides_send_the_same_numbers_and_are_measured(tmp_path: Path) -> None:
    work = streaming.works(quick=True)[1]
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap=broker.bootstrap)
        create_topics(settings)
        side = streaming.Side(settings, broker, tmp_path)
        equal = streaming.check(side, settings, work, 5_000)
        assert (equal > 100) == (peers.peer_python() is not None)
        fill(settings, work.topic, work.make(5_000))
        found, _ = side.ours(work, work.topic, 5_000)
    assert found["per_s"] > 0
    assert found["start_up_s"] > 0


def test_the_steady_state_is_while_all_partitions_are_worked_on() -> None:
    seen = [Step(10.0, (5, 0), 1.0, 1.0), Step(11.0, (10, 2), 2.0, 1.5), Step(13.0, (30, 22), 3.0, 2.5)]
    found = Steps(0.0, (40, 40), [*seen, Step(15.0, (40, 39), 9.0, 3.0), Step(16.0, (40, 40), 9.0, 3.0)]).steady()
    assert (found["per_s"], found["per_cpu_s"], found["broker_cores"]) == (20.0, 40.0, 0.5)
    assert (found["start_up_s"], found["commits"]) == (10.0, 1)
    short = Steps(0.0, (40, 40), [Step(4.0, (40, 40), 2.0, 3.0)]).steady()
    assert short["per_s"] == 20.0


def feature_rows(events: list[EventBatch]) -> list[dict[str, object]]:
    stage = FeatureStage(NANO)
    return [row for batch in events for rows in stage.process(batch).rows for row in rows.data.to_pylist()]


def test_joined_messages_are_large_and_give_as_many_bars(base: Base) -> None:
    plain = list(base.repetition(0, 0, rename=True))
    large = joined_base(base)
    events = list(log_of(large, [0], 1))
    assert sum(batch.data.num_rows for batch in events) == sum(batch.data.num_rows for batch in plain)
    assert len(events) < len(plain) / 5
    bars = [(row["instrument"], row["bar_ts"], row["late_rows"]) for row in feature_rows(events)]
    assert bars == [(row["instrument"], row["bar_ts"], row["late_rows"]) for row in feature_rows(plain)]
    assert len(bars) >= 2
    assert all(batch.data.num_rows <= 1_600 for batch in events)
    twice = feature_rows(list(log_of(large, [0], 2)))
    assert len(twice) > 2 * len(bars) - 3, "repetitions go on without a gap"
    assert not any(row["late_rows"] for row in twice)


def test_copies_fill_all_partitions() -> None:
    for partitions in (1, 2, 4):
        found = [partition_of(f"U.{number}", partitions) for number in balanced("U", 8, partitions)]
        assert [found.count(number) for number in range(partitions)] == [8 // partitions] * partitions
    assert len(balanced("U", 1, 4)) == 1


def test_workers_over_an_arrow_log_are_measured(base: Base) -> None:
    with EmbeddedBroker() as broker:
        settings = settings_for(broker, 2)
        filled = fill_events(settings, log_of(joined_base(base), balanced("U", 2, 2), 2))
        found = run_features(settings, broker, filled, 2, "test")
    assert found["per_s"] > 0
    assert set(filled.ends.values()) == {sum(filled.ends.values()) // 2}


def test_state_grows_with_instruments() -> None:
    base = scaling.one_instrument(3)
    assert {batch.underlying for batch in base.batches} == {"BTC"}
    assert 0 < scaling.state_bytes(base, 1) * 8 == pytest.approx(scaling.state_bytes(base, 8), rel=0.5)


def test_a_bar_is_complete_when_its_last_underlying_has_passed_it() -> None:
    pace = Pace(Settings(bootstrap="127.0.0.1:1"), [], NANO, 0)
    for underlying, stream_ns, now in [("A", 10, 1.0), ("B", 20, 2.0), ("A", NANO, 3.0), ("A", NANO + 1, 4.0)]:
        pace._note(Due(0, underlying, Kind.BOOK, b"", stream_ns), now)
    assert pace.completed == {NANO: 4.0}
    pace._note(Due(0, "B", Kind.BOOK, b"", 3 * NANO + 5), 5.0)
    assert pace.completed == {NANO: 5.0, 2 * NANO: 5.0, 3 * NANO: 5.0}


def test_latency_is_from_completion_and_from_the_bars_end() -> None:
    market = Market(SimulationConfig(), [])
    pace = Pace(Settings(bootstrap="127.0.0.1:1"), [], NANO, 0)
    first = market.paced_from
    pace.began, pace.completed = 100.0, {first + NANO: 100.6, first + 2 * NANO: 101.1}
    seen = {"decisions": {first + NANO: 100.61, first + 2 * NANO: 101.13}, "signals": {first + NANO: 100.605}}
    found = latency.figures(market, pace, seen, speed=2.0)
    assert (found["decision_ms"]["samples"], found["decision_ms"]["max"]) == (2, pytest.approx(30))
    assert found["bar_end_to_decision_ms"]["max"] == pytest.approx(130)
    assert found["steps_ms"]["signals"]["p50"] == pytest.approx(5)
    assert found["steps_ms"]["universe"] == {"samples": 0}
    assert percentiles(np.arange(101).tolist())["p99"] == 99


def test_chains_pass_from_kafka_to_features(tmp_path: Path) -> None:
    """It compares every row with those of the stage before it reports."""
    found = chain_streaming.measure(0.5, "mock", tmp_path)
    assert (found["quotes"], found["updates"]) == (800, 20)
    assert found["quotes_used"] > 300
    assert 0 < found["latency_ms"]["p50"] < 1_000
