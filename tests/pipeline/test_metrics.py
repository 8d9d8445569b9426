"""A worker's metrics: what a scrape reads after the calls, how many series there can be, and what a call costs."""

from __future__ import annotations

import threading
import time
import timeit
from collections.abc import Callable
from itertools import pairwise

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.metrics import DECISION_BUCKETS, WorkerMetrics
from pipeline.process_metrics import MAX_REASONS

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: WorkerMetrics) -> Scrape:
    """Every sample of the text that Prometheus gets, without the label ``stage``."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items()) - {("stage", metrics.stage)}): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: WorkerMetrics, name: str, **labels: str) -> float:
    return scrape(metrics)[f"hedgeflow_{name}", frozenset(labels.items())]


def names(metrics: WorkerMetrics) -> set[str]:
    return {name for name, _ in scrape(metrics)}


def test_what_was_called_is_what_is_read() -> None:
    metrics = WorkerMetrics("features-universe")
    metrics.took("md.events", 3, 1_000)
    metrics.took("md.events", 2, 500)
    metrics.rows("md.events", 70)
    metrics.sent("features", 4)
    metrics.lag("md.events", 1, 9)
    metrics.queue(7)
    metrics.rebalance("assigned")
    metrics.commit_refused()
    metrics.checkpoint("features/1", 4_096, 0.02)
    metrics.lake_commit("trade", 100, 0.3)
    metrics.lake_failure("trade")
    metrics.lake_waiting(55)
    assert value(metrics, "messages_total", topic="md.events") == 5
    assert value(metrics, "bytes_total", topic="md.events") == 1_500
    assert value(metrics, "rows_total", topic="md.events") == 70
    assert value(metrics, "sent_rows_total", topic="features") == 4
    assert value(metrics, "lag_messages", topic="md.events", partition="1") == 9
    assert value(metrics, "queue_messages") == 7
    assert value(metrics, "rebalances_total", what="assigned") == 1
    assert value(metrics, "rebalances_total", what="lost") == 0
    assert value(metrics, "commits_refused_total") == 1
    assert value(metrics, "state_bytes", task="features/1") == 4_096
    assert value(metrics, "checkpoint_seconds_count") == 1
    assert value(metrics, "lake_rows_total", table="trade") == 100
    assert value(metrics, "lake_commit_seconds_sum", table="trade") == pytest.approx(0.3)
    assert value(metrics, "lake_failures_total", table="trade") == 1
    assert value(metrics, "lake_waiting_rows") == 55


def test_every_series_names_its_stage_and_starts_with_the_house() -> None:
    metrics = WorkerMetrics("lake")
    text = generate_latest(metrics.registry).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.name.startswith(("hedgeflow_", "process_"))
            assert sample.name.startswith("process_") or sample.labels["stage"] == "lake"


def test_a_partition_and_a_task_that_went_are_no_longer_shown() -> None:
    metrics = WorkerMetrics("features")
    metrics.lag("md.events", 0, 5)
    metrics.checkpoint("features/0", 10, 0.1)
    metrics.released("md.events", 0)
    metrics.forgot("features/0")
    metrics.released("md.events", 3)  # never was
    assert not {"hedgeflow_lag_messages", "hedgeflow_state_bytes"} & names(metrics)


def test_the_latency_is_told_apart_from_one_millisecond_to_a_hundred() -> None:
    metrics = WorkerMetrics("decisions")
    for seconds in (0.0005, 0.001, 0.0011, 0.024, 90.0, 3e7):  # the last is of a replay
        metrics.event_to_decision(seconds)
    assert value(metrics, "event_to_decision_seconds_bucket", le="0.001") == 2
    assert value(metrics, "event_to_decision_seconds_bucket", le="0.002") == 3
    assert value(metrics, "event_to_decision_seconds_bucket", le="0.025") == 4
    assert value(metrics, "event_to_decision_seconds_bucket", le="60.0") == 4
    assert value(metrics, "event_to_decision_seconds_bucket", le="+Inf") == 5
    assert value(metrics, "event_to_decision_seconds_count") == 5
    fine = [bound for bound in DECISION_BUCKETS if 0.001 <= bound <= 0.1]
    assert len(fine) >= 15
    assert max(above / below for below, above in pairwise(fine[1:])) <= 1.5
    assert sorted(DECISION_BUCKETS) == list(DECISION_BUCKETS)


def test_times_are_computed_at_the_scrape() -> None:
    metrics = WorkerMetrics("features")
    assert "hedgeflow_watermark_delay_seconds" not in names(metrics)  # nothing seen: nothing to say
    now = time.time_ns()
    metrics.watermark(now - 2_000_000_000)
    metrics.watermark(now - 9_000_000_000)  # an older row does not turn time back
    assert value(metrics, "watermark_delay_seconds") == pytest.approx(2.0, abs=1.0)
    time.sleep(0.05)
    before = value(metrics, "checkpoint_age_seconds")
    assert before >= 0.05
    metrics.checkpoint("features/0", 1, 0.01)
    assert value(metrics, "checkpoint_age_seconds") < before


def test_a_pause_counts_from_its_beginning() -> None:
    metrics = WorkerMetrics("features")
    assert metrics.paused_s() == 0
    metrics.paused(True)
    time.sleep(0.02)
    metrics.paused(True)
    assert metrics.paused_s() >= 0.02
    assert value(metrics, "paused") == 1
    metrics.paused(False)
    assert (metrics.paused_s(), value(metrics, "paused")) == (0, 0)


def test_reasons_of_dead_letters_are_few_short_words() -> None:
    metrics = WorkerMetrics("features")
    assert value(metrics, "dead_letters_total", reason="other") == 0  # there from the start: its first step is seen
    metrics.dead_letter("undecodable")
    metrics.dead_letter("undecodable", 4)
    metrics.dead_letter("KeyError: 'password=hunter2'")
    assert value(metrics, "dead_letters_total", reason="undecodable") == 5
    assert value(metrics, "dead_letters_total", reason="other") == 1
    for number in range(200):
        metrics.dead_letter(f"reason_{number}")
    series = [labels for name, labels in scrape(metrics) if name == "hedgeflow_dead_letters_total"]
    assert len(series) == MAX_REASONS + 1
    assert value(metrics, "dead_letters_total", reason="other") == 1 + 200 - (MAX_REASONS - 1)


def test_what_runs_is_named() -> None:
    metrics = WorkerMetrics("features")
    metrics.describe("abc123")
    labels = next(dict(labels) for name, labels in scrape(metrics) if name == "hedgeflow_info")
    assert labels["catalogue"] == "abc123"
    assert labels["version"].count(".") == 2


def test_two_workers_in_a_process_do_not_mix() -> None:
    one, other = WorkerMetrics("features"), WorkerMetrics("features")
    one.took("md.events", 1, 1)
    assert ("hedgeflow_messages_total", frozenset({("topic", "md.events")})) not in scrape(other)


def test_threads_lose_no_count_and_a_scrape_may_come_at_any_time() -> None:
    metrics = WorkerMetrics("lake")

    def write(table: str) -> None:
        for number in range(2_000):
            metrics.lake_commit("trade", 1, 0.01)
            metrics.lag(f"{table}{number % 50}", number % 7, 1)

    threads = [threading.Thread(target=write, args=(table,)) for table in "abcd"]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        scrape(metrics)
    assert value(metrics, "lake_rows_total", table="trade") == 8_000
    assert value(metrics, "lake_commit_seconds_count", table="trade") == 8_000


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.took("md.events", 5, 1_000),
        lambda m: m.batch(5),
        lambda m: m.rows("md.events", 70),
        lambda m: m.lag("md.events", 1, 5),
        lambda m: m.watermark(1),
        lambda m: m.event_to_decision(0.01),
        lambda m: m.paused(False),
        lambda m: m.queue(3),
    ],
)
def test_a_call_costs_a_batch_nothing(call: Callable[[WorkerMetrics], None]) -> None:
    """Measured at 0.1 to 0.8 us; a bound that a busy machine keeps, far below what a micro-batch costs."""
    metrics = WorkerMetrics("features")
    assert min(timeit.repeat(lambda: call(metrics), number=500, repeat=20)) / 500 < 10e-6
