"""The edge numbers, judges lateness once, and keeps out what would break the log."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_market import START, book_event, edged, small_market

from features.bars import FeatureStage
from features.counts import MAX_COUNT
from features.events import ASK, BID, LAST, NANO, SNAPSHOT, EventBatch, Kind, record_batch
from pipeline.codec import MAX_ROWS
from pipeline.edge import MAX_CLOCK_STEP_NS, SESSION_EPOCH_S, Edge, live_session, plausible
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


COUNTS = st.sampled_from([-(2**63), -1, 0, 0, 1, 1, 1, 5, MAX_COUNT, MAX_COUNT + 1, 2**63 - 1])
APART = st.sampled_from([0, 0, 0, 1, -MAX_CLOCK_STEP_NS, MAX_CLOCK_STEP_NS, MAX_CLOCK_STEP_NS + 1, -(2**63) + START])
STEPS = st.sampled_from([0, 1, 5, -3])


@given(
    st.sampled_from([Kind.BOOK, Kind.TRADE, Kind.TRADE_CORRECTION, Kind.HEARTBEAT]),
    st.lists(
        st.lists(st.tuples(COUNTS, COUNTS, APART, STEPS, st.integers(0, 1), st.booleans()), min_size=1, max_size=6),
        max_size=4,
    ),
)
@settings(max_examples=200, deadline=None)
def test_what_is_sent_is_what_is_plausible_numbered_by_hand(
    kind: Kind, batches: list[list[tuple[int, int, int, int, int, bool]]]
) -> None:
    names, now, events = ["x:BTC", "y:BTC"], START, []
    for rows in batches:
        columns: dict[str, Any] = {"instrument": [row[4] for row in rows], "ts_event": [], "ts_recv": []}
        for _, _, apart, step, _, _ in rows:
            now += step
            columns["ts_event"].append(now)
            columns["ts_recv"].append(now - apart if apart > -MAX_CLOCK_STEP_NS - 1 else 2**62)
        if kind is not Kind.HEARTBEAT:
            columns |= {"price": [row[0] for row in rows], "size": [row[1] for row in rows]}
        if kind is Kind.BOOK:
            columns |= {"prev_id": 0, "update_id": 1, "side": BID, "flags": [LAST * row[5] for row in rows]}
        elif kind is not Kind.HEARTBEAT:
            columns |= {"trade_id": 7, "aggressor": 1}
        events.append(EventBatch(kind, "BTC", record_batch(kind, names, columns)))
    out, rejected = sent(events)
    judged = [plausible(kind, event.data) for event in events]
    expected_rejects: Counter[str] = Counter()
    for _, reasons in judged:
        expected_rejects.update(reasons)
    assert rejected == expected_rejects
    kept = [row for event, (keep, _) in zip(events, judged, strict=True)
            for row, is_kept in zip(event.data.to_pylist(), keep.tolist(), strict=True) if is_kept]  # fmt: skip
    numbers, latest = dict.fromkeys(names, 0), 0
    for row in kept:
        latest = max(latest, row["ts_event"])
        row |= {"seq": numbers[row["instrument"]], "late_ns": latest - row["ts_event"], "ref_version": 0}
        numbers[row["instrument"]] += 1
    assert [row for batch in out for row in batch.data.to_pylist()] == kept
    for batch in out:
        batch.data.validate(full=True)


def test_rows_name_the_version_of_their_own_reference() -> None:
    def reference(increment: int) -> EventBatch:
        columns: dict[str, Any] = {
            "instrument": [1], "ts_event": 1, "ts_recv": 1, "instrument_type": ["spot"], "quote_currency": ["USD"],
            "settlement_currency": ["USD"], "price_increment_e9": increment, "size_increment_e9": 1,
            "contract_size_e9": 1, "is_inverse": np.array([False]),
        }  # fmt: skip
        data = record_batch(Kind.INSTRUMENT, ["x:BTC", "y:BTC"], columns)
        return EventBatch(Kind.INSTRUMENT, "BTC", data)

    columns = {"instrument": [0, 1, 0, 1], "ts_event": 5, "ts_recv": 6}
    beat = EventBatch(Kind.HEARTBEAT, "BTC", record_batch(Kind.HEARTBEAT, ["x:BTC", "y:BTC"], columns))
    large = {"instrument": np.ones(MAX_ROWS + 1, dtype=np.int32), "ts_event": 5, "ts_recv": 6}
    many = EventBatch(Kind.HEARTBEAT, "BTC", record_batch(Kind.HEARTBEAT, ["x:BTC", "y:BTC"], large))
    out, _ = sent([beat, reference(1), reference(1), beat, reference(2), beat, many])
    versions = [batch.data.column("ref_version").to_pylist() for batch in out]
    assert versions[0] == [0, 0, 0, 0]
    assert versions[1:3] == [[1], [1]]
    assert versions[3] == [0, 1, 0, 1]
    assert versions[5] == [0, 2, 0, 2]
    assert versions[6:] == [[2] * MAX_ROWS, [2]]


def test_runs_one_after_another_never_share_a_session() -> None:
    now, numbers = [SESSION_EPOCH_S + 100.25], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    for _ in range(3):
        numbers.append(live_session(lambda: now[0], sleep))
        now[0] += 0.001
    assert numbers == [101, 102, 103]
