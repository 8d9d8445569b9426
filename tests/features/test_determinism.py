"""The same log gives the same bits, however it is cut, interleaved, partitioned or interrupted; no row sees ahead."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from event_batches import interleaved
from hypothesis import given, settings
from hypothesis import strategies as st
from random_market import Step, market_of, random_market, steps

from features.bars import FeatureStage
from features.catalog import SCHEMA
from features.events import INSTRUMENT_TYPE, NANO, EventBatch, Kind

Bits = dict[str, list[tuple[object, ...]]]
"""The rows of each underlying in their order, floats as integers."""

INTERVAL_NS = 10 * NANO
LOGS = {
    "BTC": random_market(1, 400, 2 * NANO, 0.004),
    "ETH": random_market(2, 250, 2 * NANO, 0.02, underlying="ETH", listed=3),
    "SOL": random_market(3, 120, NANO, 0.5, underlying="SOL", listed=1),
}


def row_bits(rows: pa.RecordBatch) -> list[tuple[object, ...]]:
    """Rows that are equal exactly when their nulls and bits are: 0.0 is not -0.0."""
    columns: list[list[object]] = []
    for column in rows.columns:
        if pa.types.is_floating(column.type):
            assert not np.isnan(column.drop_null().to_numpy(zero_copy_only=False)).any()
            numbers = column.fill_null(0.0).to_numpy(zero_copy_only=False).view(np.int64).tolist()
            columns.append(
                [n if valid else None for n, valid in zip(numbers, column.is_valid().to_pylist(), strict=True)]
            )
        else:
            columns.append(column.to_pylist())
    return list(zip(*columns, strict=True))


def run(stage: FeatureStage, events: Sequence[EventBatch]) -> Bits:
    bits: Bits = defaultdict(list)
    for event in events:
        for keyed in stage.process(event).rows:
            assert keyed.data.schema.equals(SCHEMA)
            bits[keyed.key].extend(row_bits(keyed.data))
    return dict(bits)


def joined(head: Bits, tail: Bits) -> Bits:
    return {key: head.get(key, []) + tail.get(key, []) for key in [*head, *(key for key in tail if key not in head)]}


def cut(event: EventBatch, places: Sequence[int]) -> list[EventBatch]:
    edges = sorted({0, event.data.num_rows, *(place % event.data.num_rows for place in places)})
    return [EventBatch(event.kind, event.underlying, event.data.slice(a, b - a)) for a, b in pairwise(edges)]


def as_one_row_batches(events: Sequence[EventBatch]) -> list[EventBatch]:
    return [piece for event in events for piece in cut(event, range(event.data.num_rows))]


def as_long_batches(events: Sequence[EventBatch]) -> list[EventBatch]:
    """Neighbours of one kind as one."""
    merged: list[EventBatch] = []
    for event in events:
        last = merged[-1] if merged else None
        if last is not None and last.kind is event.kind:
            table = pa.Table.from_batches([last.data, event.data]).unify_dictionaries().combine_chunks()
            merged[-1] = EventBatch(event.kind, event.underlying, table.to_batches()[0])
        else:
            merged.append(event)
    return merged


WHOLE: Bits = {key: run(FeatureStage(INTERVAL_NS), log)[key] for key, log in LOGS.items()}


def test_there_is_something_to_compare() -> None:
    """Of BTC every window is full."""
    assert [len(rows) > least for rows, least in zip(WHOLE.values(), (150, 90, 10), strict=True)] == [True] * 3
    known = {name for row in WHOLE["BTC"] for name, value in zip(SCHEMA.names, row, strict=True) if value is not None}
    assert {"vpin", "kyle_lambda_5m", "garman_klass_variance_5m", "variance_risk_premium", "book_curvature"} <= known


@pytest.mark.parametrize("underlying", LOGS)
def test_rows_one_by_one_and_in_long_batches(underlying: str) -> None:
    for log in (as_one_row_batches(LOGS[underlying]), as_long_batches(LOGS[underlying])):
        assert run(FeatureStage(INTERVAL_NS), log)[underlying] == WHOLE[underlying]


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=4), st.sampled_from(sorted(LOGS)))
def test_any_cut_into_batches(places: list[int], underlying: str) -> None:
    log = [piece for event in as_long_batches(LOGS[underlying]) for piece in cut(event, places)]
    assert run(FeatureStage(INTERVAL_NS), log)[underlying] == WHOLE[underlying]


@settings(max_examples=25, deadline=None)
@given(steps(25), st.randoms(use_true_random=False))
def test_any_market_cut_anywhere(market: list[Step], rng: random.Random) -> None:
    events = market_of(market, NANO // 2, listed=2)
    whole = run(FeatureStage(), as_one_row_batches(events))
    pieces = [piece for event in as_long_batches(events) for piece in cut(event, [rng.randrange(9)])]
    assert run(FeatureStage(), pieces) == whole


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_interleaving_of_underlyings(rng: random.Random) -> None:
    order = interleaved(list(LOGS.values()), random.Random(rng.randrange(2**32)))
    assert run(FeatureStage(INTERVAL_NS), order) == WHOLE


@pytest.mark.parametrize("partitions", [1, 2, 3, 7])
def test_any_number_of_partitions(partitions: int) -> None:
    stages = [FeatureStage(INTERVAL_NS) for _ in range(partitions)]
    found: Bits = {}
    for event in interleaved(list(LOGS.values()), random.Random(partitions)):
        home = sum(event.underlying.encode()) % partitions
        found = joined(found, run(stages[home], [event]))
    assert found == WHOLE


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, sum(map(len, LOGS.values()))), min_size=1, max_size=3))
def test_any_restart(stops: list[int]) -> None:
    """Through bytes, into a new stage."""
    order = interleaved(list(LOGS.values()), random.Random(0))
    found: Bits = {}
    stage = FeatureStage(INTERVAL_NS)
    for start, stop in pairwise([0, *sorted(stops), len(order)]):
        restored = FeatureStage(INTERVAL_NS)
        restored.restore({key: bytes(state) for key, state in stage.snapshot().items()})
        stage = restored
        found = joined(found, run(stage, order[start:stop]))
    assert found == WHOLE


@settings(max_examples=20, deadline=None)
@given(steps(25), st.data())
def test_any_market_restarted_before_any_row(market: list[Step], data: st.DataObject) -> None:
    """Also within a book event, within a bar and before the first row."""
    events = as_one_row_batches(market_of(market, NANO // 2, listed=2))
    stop = data.draw(st.integers(0, len(events)))
    first, second = FeatureStage(), FeatureStage()
    head = run(first, events[:stop])
    second.restore(first.snapshot())
    assert joined(head, run(second, events[stop:])) == run(FeatureStage(), events)


def test_a_snapshot_changes_nothing_and_is_the_same_after_a_restore() -> None:
    stage, other = FeatureStage(INTERVAL_NS), FeatureStage(INTERVAL_NS)
    found: Bits = {}
    for i, event in enumerate(LOGS["BTC"]):
        found = joined(found, run(stage, [event]))
        if i % 50 == 0:
            other.restore(stage.snapshot())
            assert other.snapshot() == stage.snapshot()
    assert found["BTC"] == WHOLE["BTC"]


@pytest.mark.parametrize("underlying", LOGS)
def test_no_row_sees_ahead(underlying: str) -> None:
    """The rows of any beginning of the log are the first rows of the log."""
    log = as_one_row_batches(LOGS[underlying])
    for stop in range(1, len(log), len(log) // 20):
        head = run(FeatureStage(INTERVAL_NS), log[:stop]).get(underlying, [])
        assert head == WHOLE[underlying][: len(head)]


@pytest.mark.parametrize("underlying", LOGS)
def test_each_row_is_out_once_its_bar_is_over(underlying: str) -> None:
    """No row waits for more than the first row beyond its bar, and none is out before it."""
    stage, out, end = FeatureStage(INTERVAL_NS), 0, 0
    bar_ts = [row[SCHEMA.names.index("bar_ts")] for row in WHOLE[underlying]]
    for event in as_one_row_batches(LOGS[underlying]):
        out += len(run(stage, [event]).get(underlying, []))
        row = event.data.to_pylist()[0]
        end = row["ts_event"] + row["late_ns"]
        assert out == sum(ts < end for ts in bar_ts)


@pytest.mark.parametrize("underlying", LOGS)
def test_messages_that_come_twice_change_nothing(underlying: str) -> None:
    log = [event for event in LOGS[underlying] if event.kind is not Kind.TRADE_CORRECTION]
    twice = [again for event in log for again in (event, event)]
    assert run(FeatureStage(INTERVAL_NS), twice) == run(FeatureStage(INTERVAL_NS), log)


def test_a_correction_that_comes_twice_counts_once() -> None:
    log = LOGS["SOL"]
    assert any(event.kind is Kind.TRADE_CORRECTION for event in log)
    twice = [again for event in log for again in (event, event)]
    assert run(FeatureStage(INTERVAL_NS), twice)["SOL"] == WHOLE["SOL"]


def test_the_order_of_names_in_the_dictionaries_changes_nothing() -> None:
    """Nor do names that do not occur."""
    rng = random.Random(0)
    assert run(FeatureStage(INTERVAL_NS), [renamed(event, rng) for event in LOGS["BTC"]])["BTC"] == WHOLE["BTC"]


def renamed(event: EventBatch, rng: random.Random) -> EventBatch:
    values = event.data.column(0).to_pylist()
    names = [*dict.fromkeys(values), "test:nobody", "test:BTC-spot"]
    names = list(dict.fromkeys(names))
    rng.shuffle(names)
    codes = pa.DictionaryArray.from_arrays(pa.array([names.index(v) for v in values], pa.int32()), names)
    columns = [codes.cast(INSTRUMENT_TYPE), *event.data.columns[1:]]
    return EventBatch(event.kind, event.underlying, pa.RecordBatch.from_arrays(columns, schema=event.data.schema))
