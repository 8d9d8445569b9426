"""Every feature of hostile random markets against the slow reference, null for null."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from event_batches import batches
from hypothesis import given, settings
from hypothesis import strategies as st
from random_market import RandomMarket, Step, market_of, random_market, random_steps, scaled_market, steps
from slow_features import KEYS, NAMES, QUALITY, slow_rows

from features.bars import FeatureStage
from features.catalog import MARKET_FEATURES, SCHEMA
from features.events import ASK, BID, NANO, SNAPSHOT, EventBatch, Kind

RELATIVE = 1e-9
ABSOLUTE = {
    # Differences of numbers of order one, which may cancel.
    "term_slope": 1e-12,
    "risk_reversal_25d": 1e-12,
    "butterfly_25d": 1e-12,
    "return_autocorrelation_5m": 1e-12,
    "variance_risk_premium": 1e-12,
    # Sums of products of both signs: rounding errors of 1e-16 of the terms.
    "kyle_lambda_5m": 1e-11,
    "two_scale_variance_5m": 1e-18,
    "book_slope": 1e-13,
    "book_curvature": 1e-15,
}

Row = dict[str, Any]


def engine_rows(events: Sequence[EventBatch], interval_ns: int) -> list[Row]:
    stage = FeatureStage(interval_ns)
    return [row for event in events for keyed in stage.process(event).rows for row in keyed.data.to_pylist()]


def differs(name: str, expected: Any, found: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return not math.isclose(expected, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE.get(name, 0.0))
    return type(expected) is not type(found) or expected != found


def assert_agreement(events: Sequence[EventBatch], interval_ns: int) -> list[Row]:
    """The rows, once both sides have given the same ones."""
    expected, found = slow_rows(events, interval_ns), engine_rows(events, interval_ns)
    assert [[row[key] for key in KEYS] for row in found] == [[row[key] for key in KEYS] for row in expected]
    differences = [
        f"{name} of {slow['instrument']} at {slow['bar_ts']}: expected {slow[name]}, found {fast[name]}"
        for slow, fast in zip(expected, found, strict=True)
        for name in (*QUALITY, *NAMES)
        if differs(name, slow[name], fast[name])
    ]
    assert not differences, f"{len(differences)} differences:\n" + "\n".join(differences[:20])
    return found


def test_the_reference_knows_every_declared_feature() -> None:
    assert list(NAMES) == [feature.name for feature in MARKET_FEATURES]
    assert {*KEYS, *QUALITY, *NAMES} <= set(SCHEMA.names)


@settings(max_examples=50, deadline=None)
@given(steps(), st.sampled_from([1, 2, 5]), st.sampled_from([NANO // 5, 2 * NANO]))
def test_any_steps(market: list[Step], interval_s: int, pace_ns: int) -> None:
    assert_agreement(market_of(market, pace_ns, listed=2), interval_s * NANO)


@pytest.mark.parametrize("hostility", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("interval_s", [1, 5])
def test_hostile_markets(interval_s: int, hostility: float) -> None:
    for seed in range(14):
        assert_agreement(random_market(seed, 50, interval_s * NANO // 3, hostility), interval_s * NANO)


@cache
def long_market_rows() -> list[Row]:
    """Markets of many five-minute windows, 30 bars each, some without a loss."""
    hostility = {0: 0.0, 1: 0.0, 2: 0.002, 3: 0.01}
    logs = [random_market(seed, 500, 2 * NANO, share) for seed, share in hostility.items()]
    return [row for log in logs for row in assert_agreement(log, 10 * NANO)]


def test_long_markets() -> None:
    assert len(long_market_rows()) > 600


LATER = {"variance_risk_premium_7d", "variance_risk_premium_30d", "surface_level", "surface_slope", "surface_curvature"}
"""Known after days, or after sixty surfaces; their own tests are in test_long_variance.py and surface/."""
ALIKE = {"surface_arbitrage"}
"""Known, and the same in this market."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LATER | ALIKE])
def test_every_feature_is_known_somewhere_and_varies(name: str) -> None:
    """Otherwise the comparison says nothing about it."""
    values = [row[name] for row in long_market_rows() if row[name] is not None]
    assert len(set(values)) > 3


@cache
def hostile_rows() -> list[Row]:
    logs = [random_market(seed, 60, NANO // 3, 0.6, listed=3) for seed in range(6)]
    return [row for log in logs for row in assert_agreement(log, NANO)]


@pytest.mark.parametrize("name", NAMES)
def test_every_feature_is_unknown_somewhere(name: str) -> None:
    assert any(row[name] is None for row in hostile_rows())


def test_every_quality_column_counts_something() -> None:
    for name in QUALITY:
        assert any(row[name] for row in hostile_rows())


@pytest.mark.parametrize("loss", ["new_increments", "new_price_increment", "lose_trade", "bad_trade"])
def test_windows_and_buckets_fill_again_after_a_loss(loss: str) -> None:
    rng = random.Random(0)
    before, between, after = (random_steps(rng, count, 0.0) for count in (330, 10, 420))
    market = [*before, (loss, 0), *between, (loss, 1), *after]
    rows = assert_agreement(market_of(market, 2 * NANO), 10 * NANO)
    known = [row["vpin"] is not None for row in rows]
    assert "".join("x" if now else "." for now in known).strip(".").count("x.") == 1


@pytest.mark.parametrize(("price", "size"), [(10**5, 1), (1, 10**9), (10**5, 10**5), (10**3, 10**9), (10**6, 10**10)])
def test_large_counts(price: int, size: int) -> None:
    """Sums of products pass 2^53, where floats begin to round, and 2^62, from where on they are null."""
    for seed in range(2):
        assert_agreement(scaled_market(seed, 50, NANO // 3, 0.1, price, size), NANO)
    rows = assert_agreement(scaled_market(0, 400, 2 * NANO, 0.0, price, size), 10 * NANO)
    assert any(row["vwap"] is None for row in rows if row["trade_count"]) == (price * size >= 10**12)


def test_a_window_of_three_hundred_bars() -> None:
    """Five minutes at one second a bar: null up to the 300th return, known from then on."""
    events = random_market(4, 700, NANO // 2, 0.0, listed=1)
    rows = [row for row in assert_agreement(events, NANO) if row["instrument"] == "test:BTC-perpetual"]
    assert len(rows) > 310
    known = [i for i, row in enumerate(rows) if row["realized_variance_5m"] is not None]
    assert known == list(range(known[0], len(rows)))
    first_return = next(i for i, row in enumerate(rows) if row["log_return"] is not None)
    assert known[0] == first_return + 299


def test_a_book_as_wide_as_its_price_has_a_weighted_imbalance() -> None:
    """exp(-x / 10) underflows beyond 7450 basis points; the ratio of the sums does not."""
    market = RandomMarket("BTC", NANO)
    market.list_next()
    (name,) = market.books
    market.event(name, [(BID, 1, 5), (ASK, 9_000, 7)], SNAPSHOT)
    market.now_ns += 2 * NANO
    market.heartbeat()
    rows = assert_agreement(batches("BTC", market.rows, market.rng), NANO)
    assert rows[0]["imbalance_weighted"] == -1 / 6


def test_sessions_of_a_source() -> None:
    """The book is unknown from the first row of a session on, though that row begins an event."""
    for seed in range(12):
        rng = random.Random(seed)
        market = [*random_steps(rng, 12, 0.0), ("new_session", seed), *random_steps(rng, 12, 0.1)]
        assert_agreement(market_of(market, NANO // 3), NANO)


def test_reference_data_rows_in_one_batch_count_from_their_own_times() -> None:
    """Increments change in one bar, and a row of the same batch closes it: the change is that bar's."""
    market = RandomMarket("BTC", NANO)
    market.list_next()
    (name,) = market.books
    market.restore_book(name)
    market.now_ns += 3 * NANO
    market.relist_as(name, price_increment_e9=NANO // 4)
    market.now_ns += NANO
    market.relist_as(name)
    market.now_ns += NANO
    market.heartbeat()
    merged = merged_neighbours(batches("BTC", market.rows, market.rng))
    assert [b.data.num_rows for b in merged if b.kind is Kind.INSTRUMENT] == [1, 2]
    assert_agreement(merged, NANO)


def merged_neighbours(events: Sequence[EventBatch]) -> list[EventBatch]:
    """Consecutive batches of one kind as one."""
    merged: list[EventBatch] = []
    for event in events:
        if merged and merged[-1].kind is event.kind:
            table = pa.Table.from_batches([merged[-1].data, event.data]).unify_dictionaries().combine_chunks()
            merged[-1] = EventBatch(event.kind, event.underlying, table.to_batches()[0])
        else:
            merged.append(event)
    return merged
