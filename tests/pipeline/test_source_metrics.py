"""A source's metrics: its totals, told at the turns of its loop."""

from __future__ import annotations

import asyncio
from collections import Counter

from prometheus_client.exposition import generate_latest

from pipeline.health import Health
from pipeline.metrics import WorkerMetrics
from pipeline.source_metrics import SourceMetrics, SourceState, Teller


def shown(metrics: SourceMetrics | WorkerMetrics) -> str:
    return generate_latest(metrics.registry).decode()


def test_totals_are_shown_as_they_stand() -> None:
    metrics = SourceMetrics("source.binance")
    assert "clock_offset_seconds{" not in shown(metrics)  # not known is not zero
    metrics.tell(SourceState(70, Counter(bad_level=2), 1, {"opened": 3, "gap": 1}, -2_000_000))
    metrics.tell(SourceState(75, Counter(bad_level=2), 2, {"opened": 4, "gap": 1}, -2_000_000))
    text = shown(metrics)
    for sample in (
        'hedgeflow_sent_rows_total{stage="source.binance",topic="md.events"} 75.0',
        'hedgeflow_dead_letters_total{reason="bad_level",stage="source.binance"} 2.0',
        'hedgeflow_source_events_total{stage="source.binance",what="opened"} 4.0',
        'hedgeflow_clock_offset_seconds{stage="source.binance"} -0.002',
        'hedgeflow_watermark_delay_seconds{stage="source.binance"} ',
    ):
        assert sample in text


def test_a_source_shows_nothing_that_only_workers_have() -> None:
    text = shown(SourceMetrics("source.kafka"))
    assert "checkpoint" not in text
    assert "lake" not in text


def test_a_turn_is_a_beat_and_the_totals_are_asked_for_once_a_second() -> None:
    asked: list[int] = []

    def state() -> SourceState:
        asked.append(1)
        return SourceState(len(asked), {})

    health = Health()
    teller = Teller(SourceMetrics("source.kafka"), health, state)
    assert not health.takes_work().good
    for _ in range(100):
        teller()
    assert len(asked) == 1
    assert health.takes_work().good


def test_an_event_loop_is_followed_until_it_ends() -> None:
    metrics = SourceMetrics("source.binance")
    teller = Teller(metrics, Health(), lambda: SourceState(5, {}))

    async def session() -> None:
        turning = asyncio.ensure_future(teller.forever())
        await asyncio.sleep(0.01)
        turning.cancel()

    asyncio.run(session())
    assert 'topic="md.events"} 5.0' in shown(metrics)
