"""The feature stage: equal bits however the log is cut, no look-ahead, and every number right."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_market import START, book_event, edged, small_market

from features.bars import FeatureStage
from features.catalog import SCHEMA, STANDARD
from features.declared.windowed import is_windowed
from features.events import ASK, BID, NANO, SNAPSHOT, EventBatch, Kind
from features.stage import Reject

LOG = edged(small_market(40, seed=1))


def run(stage: FeatureStage, batches: list[EventBatch]) -> pl.DataFrame:
    rows = [keyed.data for batch in batches for keyed in stage.process(batch).rows]
    table = pa.Table.from_batches(rows, schema=SCHEMA)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.sort("instrument", "bar_ts")


def bits(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Rows that are equal exactly when their bits are."""
    return [tuple(v.hex() if isinstance(v, float) else v for v in row) for row in frame.iter_rows()]


WHOLE = run(FeatureStage(), LOG)
LATER = {"variance_risk_premium_7d", "variance_risk_premium_30d", "surface_level", "surface_slope", "surface_curvature"}
"""Known after days, or after sixty surfaces."""


def pieces(batch: EventBatch, cuts: list[int]) -> list[EventBatch]:
    edges = [0, *sorted({c % batch.data.num_rows for c in cuts} - {0}), batch.data.num_rows]
    return [EventBatch(batch.kind, batch.underlying, batch.data.slice(a, b - a)) for a, b in pairwise(edges)]


def test_there_is_something_to_compare() -> None:
    assert WHOLE.height > 150
    assert set(WHOLE["instrument"]) == {f"test:{u}-{t}" for u in ("BTC", "ETH") for t in ("PERPETUAL", "SPOT")}
    filled = {name: WHOLE[name].drop_nulls().len() for name in WHOLE.columns}
    empty = {name for name, count in filled.items() if count == 0}
    # Forty seconds are too short for windows of closed bars of a minute and more; nothing alternative is in the log.
    long = {f.name for f in STANDARD.market if is_windowed(f) and f.window_ns > 40 * NANO}
    assert empty == long | {f.name for f in STANDARD.alternative} | {"large_trade_share", "vpin"} | LATER


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=0, max_size=4))
def test_any_split_into_batches_gives_the_same_bits(cuts: list[int]) -> None:
    split = [piece for batch in LOG for piece in pieces(batch, cuts)]
    assert bits(run(FeatureStage(), split)) == bits(WHOLE)


def test_merging_neighbours_of_one_kind_gives_the_same_bits() -> None:
    merged: list[EventBatch] = []
    for batch in LOG:
        last = merged[-1] if merged else None
        if last is not None and (last.kind, last.underlying) == (batch.kind, batch.underlying):
            table = pa.Table.from_batches([last.data, batch.data]).unify_dictionaries().combine_chunks()
            merged[-1] = EventBatch(batch.kind, batch.underlying, table.to_batches()[0])
        else:
            merged.append(batch)
    assert len(merged) < len(LOG)
    assert bits(run(FeatureStage(), merged)) == bits(WHOLE)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, len(LOG) - 1))
def test_snapshot_and_restore_anywhere_gives_the_same_bits(cut: int) -> None:
    first, second = FeatureStage(), FeatureStage()
    head = run(first, LOG[:cut])
    second.restore(first.snapshot())
    tail = run(second, LOG[cut:])
    assert bits(pl.concat([head, tail]).sort("instrument", "bar_ts")) == bits(WHOLE)


def test_underlyings_may_interleave_in_any_way() -> None:
    apart = sorted(LOG, key=lambda batch: batch.underlying)
    assert bits(run(FeatureStage(), apart)) == bits(WHOLE)


@pytest.mark.parametrize("cut", [len(LOG) // 3, len(LOG) // 2])
def test_later_events_never_change_an_emitted_row(cut: int) -> None:
    head = run(FeatureStage(), LOG[:cut])
    assert head.height > 20
    assert set(bits(head)) <= set(bits(WHOLE))


def test_repeated_messages_change_nothing() -> None:
    doubled = [again for batch in LOG for again in (batch, batch)]
    assert bits(run(FeatureStage(), doubled)) == bits(WHOLE)


def test_a_lost_book_message_makes_the_book_null_until_the_next_snapshot() -> None:
    """And nothing else: trades, funding and options of the same bars are as before."""
    books = [i for i, b in enumerate(LOG) if b.kind is Kind.BOOK and name_of(b) == "test:BTC-PERPETUAL"]
    lost = books[len(books) // 2]
    frame = run(FeatureStage(), LOG[:lost] + LOG[lost + 1 :])
    gone = -(-int(LOG[books[books.index(lost) + 1]].data.column(1)[0].as_py()) // NANO) * NANO
    before = frame.filter((pl.col("instrument") == "test:BTC-PERPETUAL") & (pl.col("bar_ts") < gone))
    after = frame.filter((pl.col("instrument") == "test:BTC-PERPETUAL") & (pl.col("bar_ts") >= gone))
    assert before["book_valid"][1:].all()  # the first bar ends before the first snapshot
    assert not after["book_valid"].any()
    assert after["lost_rows"].sum() > 0
    for name in ("mid", "spread_bps", "imbalance_5", "order_flow_imbalance", "log_return"):
        assert after[name].null_count() == after.height
    whole = WHOLE.filter((pl.col("instrument") == "test:BTC-PERPETUAL") & (pl.col("bar_ts") >= gone))
    for name in ("volume", "vwap", "trade_count", "atm_iv_30d", "funding_rate"):
        assert after[name].to_list() == whole[name].to_list()


def test_a_lost_trade_makes_the_bars_trades_unknown_not_zero() -> None:
    trades = [i for i, b in enumerate(LOG) if b.kind is Kind.TRADE and name_of(b) == "test:ETH-PERPETUAL"]
    frame = run(FeatureStage(), LOG[: trades[3]] + LOG[trades[3] + 1 :])
    mine = frame.filter(pl.col("instrument") == "test:ETH-PERPETUAL")
    assert mine.filter(pl.col("volume").is_null()).height == 1
    assert mine.filter(pl.col("trade_count").is_null()).height == 1
    assert mine["lost_rows"].sum() == 1


def name_of(batch: EventBatch) -> str:
    return str(batch.data.column(0)[0].as_py())


def test_a_slow_and_obvious_implementation_agrees() -> None:
    """Book and trade features from dictionaries and lists, straight from their definitions."""
    name = "test:BTC-PERPETUAL"
    rows = {row["bar_ts"]: row for row in WHOLE.filter(pl.col("instrument") == name).to_dicts()}
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    end = None
    trades: list[tuple[int, int, int]] = []
    ofi = 0
    touch: tuple[int, int, int, int] | None = None
    checked = 0
    late = 0
    for batch in LOG:
        if batch.underlying != "BTC":
            continue
        for row in batch.data.to_pylist():
            stream = row["ts_event"] + row["late_ns"]
            end = end or -(-stream // NANO) * NANO
            while stream > end:
                check(rows[end], bids, asks, trades, ofi, late)
                checked += 1
                trades, ofi, late = [], 0, 0
                end += NANO
            if row["instrument"] != name:
                continue
            if batch.kind is Kind.TRADE:
                if row["ts_event"] <= end - NANO:
                    late += 1
                else:
                    trades.append((row["price"], row["size"], row["aggressor"]))
            elif batch.kind is Kind.BOOK:
                side = bids if row["side"] == BID else asks
                side.pop(row["price"], None)
                if row["size"]:
                    side[row["price"]] = row["size"]
                if row["flags"] & 2:
                    new = (max(bids), bids[max(bids)], min(asks), asks[min(asks)])
                    if touch:
                        ofi += (new[0] >= touch[0]) * new[1] - (new[0] <= touch[0]) * touch[1]
                        ofi += (new[2] >= touch[2]) * touch[3] - (new[2] <= touch[2]) * new[3]
                    touch = new
    assert checked == len(rows) > 30
    assert sum(row["late_rows"] for row in rows.values()) > 0


def check(
    row: dict[str, Any],
    bids: dict[int, int],
    asks: dict[int, int],
    trades: list[tuple[int, int, int]],
    ofi: int,
    late: int,
) -> None:
    tick, lot = 0.1, 0.001
    if bids and asks:
        bid, ask = max(bids), min(asks)
        mid = (bid + ask) / 2
        assert row["mid"] == pytest.approx(mid * tick, rel=1e-14)
        assert row["best_bid"] == pytest.approx(bid * tick, rel=1e-14)
        assert row["spread_bps"] == pytest.approx((ask - bid) / mid * 1e4, rel=1e-14)
        micro = (bid * asks[ask] + ask * bids[bid]) / (bids[bid] + asks[ask]) * tick
        assert row["microprice"] == pytest.approx(micro, rel=1e-14)
        for levels in (1, 5, 10):
            b = sum(bids[p] for p in sorted(bids, reverse=True)[:levels])
            a = sum(asks[p] for p in sorted(asks)[:levels])
            assert row[f"imbalance_{levels}"] == pytest.approx((b - a) / (b + a), rel=1e-14)
        near = sum(q for p, q in bids.items() if mid - p <= mid / 1000)
        assert row["bid_depth_10bps"] == pytest.approx(near * lot, rel=1e-14)
        near = sum(q for p, q in asks.items() if p - mid <= mid / 1000)
        assert row["ask_depth_10bps"] == pytest.approx(near * lot, rel=1e-14)
        if row["order_flow_imbalance"] is not None:
            assert row["order_flow_imbalance"] == pytest.approx(ofi * lot, abs=1e-12)
    assert row["late_rows"] == late
    assert row["trade_count"] == len(trades)
    volume = sum(size for _, size, _ in trades)
    assert row["volume"] == pytest.approx(volume * lot, rel=1e-14)
    assert row["signed_volume"] == pytest.approx(sum(s * a for _, s, a in trades) * lot, rel=1e-12, abs=1e-12)
    if trades:
        assert row["vwap"] == pytest.approx(sum(p * s for p, s, _ in trades) / volume * tick, rel=1e-13)
    else:
        assert row["vwap"] is None


def test_returns_and_realized_variance_follow_from_the_mids() -> None:
    mine = WHOLE.filter(pl.col("instrument") == "test:BTC-PERPETUAL")
    mids = mine["mid"].to_list()
    for i in range(2, mine.height):  # the first bar ends before the first snapshot
        assert mine["log_return"][i] == pytest.approx(math.log(mids[i] / mids[i - 1]), abs=1e-15)
    returns = mine["log_return"].to_list()
    assert mine["realized_variance_10s"][10] is None  # its first return is not known
    for i in range(11, mine.height):
        expected = sum(r * r for r in returns[i - 9 : i + 1])
        assert mine["realized_variance_10s"][i] == pytest.approx(expected, rel=1e-12)


def test_a_crossed_book_is_flagged_and_null_until_it_resolves() -> None:
    stage = FeatureStage()
    head = small_market(2, seed=3, underlyings=("BTC",))
    last = [b for b in head if b.kind is Kind.BOOK and name_of(b) == "test:BTC-PERPETUAL"][-1]
    update = int(last.data.column(7)[0].as_py())
    now = START + 3 * NANO
    crossed = book_event("BTC", "test:BTC-PERPETUAL", [(BID, 90_000, 1)], update, update + 1, now)
    resolved = book_event("BTC", "test:BTC-PERPETUAL", [(BID, 90_000, 0)], update + 1, update + 2, now + NANO)
    beat = book_event("BTC", "test:BTC-SPOT", [(BID, 1, 0)], 10_000, 10_001, now + 3 * NANO)
    frame = run(stage, edged([*head, crossed, resolved, beat]))
    mine = frame.filter(pl.col("instrument") == "test:BTC-PERPETUAL").sort("bar_ts")
    by_bar = {row["bar_ts"]: row for row in mine.to_dicts()}
    assert by_bar[now]["book_valid"] is False
    assert by_bar[now]["mid"] is None
    assert by_bar[now + NANO]["book_valid"] is True
    assert by_bar[now + NANO]["order_flow_imbalance"] is None  # it was crossed within the bar
    assert by_bar[now + 2 * NANO]["order_flow_imbalance"] == 0.0


def test_an_unknown_instrument_is_rejected_and_the_rest_still_flows() -> None:
    stranger = book_event("BTC", "test:NOBODY", [(BID, 5, 5)], 0, 1, START + NANO // 2, SNAPSHOT)
    known = book_event("BTC", "test:BTC-SPOT", [(BID, 5, 5), (ASK, 7, 5)], 0, 1, START + NANO // 2, SNAPSHOT)
    stage = FeatureStage()
    rejects: list[Reject] = []
    for batch in edged([*small_market(1, underlyings=("BTC",)), stranger, known]):
        rejects += stage.process(batch).rejects
    assert [(reject.reason, reject.rows) for reject in rejects] == [("unknown_instrument", 1)]
    assert "test:NOBODY" in rejects[0].detail


def test_surface_features_carry_their_age() -> None:
    mine = WHOLE.filter((pl.col("instrument") == "test:BTC-PERPETUAL") & pl.col("surface_age_s").is_not_null())
    assert mine["surface_age_s"].min() >= 0.0  # type: ignore[operator]
    assert mine["atm_iv_30d"].is_between(0.45, 0.65).all()
    assert mine["funding_age_s"].drop_nulls().max() > 0.0  # type: ignore[operator]


def test_a_row_from_another_century_is_rejected_wherever_the_batch_is_cut() -> None:
    """And the rows after it still close their bars."""
    late = START + 300_000 * NANO * 10
    now = START + 5 * NANO
    rows = [
        book_event("BTC", "test:BTC-SPOT", [(BID, 1, 0)], 10_000 + i, 10_001 + i, ts)
        for i, ts in enumerate((late, now))
    ]
    log = edged(small_market(3, underlyings=("BTC",)))
    seq = 10_000
    poison = []
    for row in rows:
        columns = list(row.data.columns)
        columns[3] = pa.array([seq])
        poison.append(EventBatch(Kind.BOOK, "BTC", pa.RecordBatch.from_arrays(columns, schema=row.data.schema)))
        seq += 1
    whole = pa.Table.from_batches([p.data for p in poison]).combine_chunks().to_batches()[0]
    results = []
    for tail in (poison, [EventBatch(Kind.BOOK, "BTC", whole)]):
        stage = FeatureStage()
        outputs = [stage.process(batch) for batch in [*log, *tail]]
        rejects = [reject for output in outputs for reject in output.rejects]
        assert [(reject.reason, reject.rows) for reject in rejects] == [("clock_step", 1)]
        results.append([row for output in outputs for keyed in output.rows for row in keyed.data.to_pylist()])
    assert results[0] == results[1]
    assert max(row["bar_ts"] for row in results[0]) == now - NANO
