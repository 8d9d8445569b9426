"""The edge numbers, judges lateness once, and keeps out what would break the log."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from small_market import START, book_event, edged, small_market

from features.bars import FeatureStage
from features.events import ASK, BID, NANO, SNAPSHOT, EventBatch, Kind, record_batch
from pipeline.codec import MAX_ROWS
from pipeline.edge import Edge
from pipeline.log import MemoryLog


def sent(events: list[EventBatch]) -> tuple[list[EventBatch], Counter[str]]:
    out: list[EventBatch] = []
    log = MemoryLog(out.append)
    edge = Edge(log, "test")
    for event in events:
        edge.send(event)
    return out, log.rejected


def trade(ts: int, price: int = 10, size: int = 1, recv: int | None = None) -> EventBatch:
    columns: dict[str, Any] = {
        "instrument": [0], "ts_event": [ts], "ts_recv": [ts if recv is None else recv], "trade_id": [1],
        "price": [price], "size": [size], "aggressor": [1],
    }  # fmt: skip
    return EventBatch(Kind.TRADE, "BTC", record_batch(Kind.TRADE, ["x:BTC"], columns))


def test_rows_are_numbered_per_instrument_and_kind_without_gaps() -> None:
    seen: dict[tuple[Kind, str], list[int]] = {}
    for batch in edged(small_market(10)):
        for row in batch.data.select(["instrument", "seq"]).to_pylist():
            seen.setdefault((batch.kind, row["instrument"]), []).append(row["seq"])
    assert len(seen) > 20
    assert all(numbers == list(range(len(numbers))) for numbers in seen.values())


def test_stream_time_never_decreases_and_lateness_is_measured_against_it() -> None:
    latest: dict[str, int] = {}
    late = 0
    for batch in edged(small_market(20)):
        for row in batch.data.select(["ts_event", "late_ns"]).to_pylist():
            expected = max(latest.get(batch.underlying, 0), row["ts_event"])
            assert row["ts_event"] + row["late_ns"] == expected
            latest[batch.underlying] = expected
            late += row["late_ns"] > 0
    assert late > 0


def test_large_batches_are_cut_to_what_a_message_may_hold() -> None:
    rows = [(BID, i + 1, 1) for i in range(MAX_ROWS + 10)]
    out, _ = sent([book_event("BTC", "x:BTC", rows, 0, 0, START, SNAPSHOT)])
    assert [batch.data.num_rows for batch in out] == [MAX_ROWS, 10]
    assert np.concatenate([batch.data.column(3).to_numpy() for batch in out]).tolist() == list(range(MAX_ROWS + 10))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (trade(START, price=0), "bad_trade"),
        (trade(START, size=-1), "bad_trade"),
        (trade(START, recv=START + 2 * 86_400 * NANO), "clock_step"),
    ],
)
def test_an_impossible_row_is_counted_and_the_rest_flows(event: EventBatch, reason: str) -> None:
    out, rejected = sent([event, trade(START + 1)])
    assert dict(rejected) == {reason: 1}
    assert len(out) == 1


def test_a_negative_size_takes_its_whole_event_and_the_book_waits_for_a_snapshot() -> None:
    name = "test:BTC-PERPETUAL"
    head = small_market(3, seed=3, underlyings=("BTC",))
    last = [b for b in head if b.kind is Kind.BOOK and b.data.column(0)[0].as_py() == name][-1]
    update = int(last.data.column(7)[0].as_py())
    now = START + 4 * NANO
    bad = book_event("BTC", name, [(BID, 9_000, 5), (ASK, 11_000, -5)], update, update + 1, now)
    following = book_event("BTC", name, [(BID, 9_001, 5)], update + 1, update + 2, now + 1)
    healed = book_event("BTC", name, [(BID, 9_001, 5), (ASK, 9_003, 5)], 0, update + 9, now + 2 * NANO, SNAPSHOT)
    beat = book_event("BTC", "test:BTC-SPOT", [(BID, 1, 0)], 10_000, 10_001, now + 5 * NANO)
    out, rejected = sent([*head, bad, following, healed, beat])
    assert dict(rejected) == {"bad_level": 2}
    stage = FeatureStage()
    rows = [row for batch in out for keyed in stage.process(batch).rows for row in keyed.data.to_pylist()]
    valid = {row["bar_ts"]: row["book_valid"] for row in rows if row["instrument"] == name}
    assert valid[now] is True
    assert valid[now + NANO] is False
    assert valid[now + 2 * NANO] is True
