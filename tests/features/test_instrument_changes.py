"""Instruments appear, change and vanish; books lose rows, cross, and begin new sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from small_market import START, book_event, instrument_event

from features.bars import FeatureStage
from features.catalog import STANDARD
from features.events import ASK, BID, NANO, SESSION_ROWS, SNAPSHOT, EventBatch, Kind, record_batch
from features.stage import Reject

NAME = "test:BTC-PERPETUAL"
LEVELS = [(BID, 100, 5), (BID, 99, 5), (ASK, 102, 5), (ASK, 103, 5)]


def listed(**facts: Any) -> EventBatch:
    return instrument_event("BTC", [{"instrument": NAME, "instrument_type": "perpetual", **facts}])


def book(rows: list[tuple[int, int, int]], number: int, second: float, flags: int = 0) -> EventBatch:
    return book_event("BTC", NAME, rows, number - 1, number, START + int(second * NANO), flags)


def trade(price: int, size: int, second: float, aggressor: int = 1) -> EventBatch:
    now = START + int(second * NANO)
    columns = {"instrument": [0], "ts_event": [now], "ts_recv": [now], "trade_id": [1]}
    columns |= {"price": [price], "size": [size], "aggressor": [aggressor]}
    return EventBatch(Kind.TRADE, "BTC", record_batch(Kind.TRADE, [NAME], columns))


def correction(second: float) -> EventBatch:
    now = START + int(second * NANO)
    columns = {"instrument": [0], "ts_event": [now], "ts_recv": [now], "trade_id": [1]}
    columns |= {"price": [0], "size": [0], "aggressor": [0]}
    return EventBatch(Kind.TRADE_CORRECTION, "BTC", record_batch(Kind.TRADE_CORRECTION, [NAME], columns))


def beat(second: float) -> EventBatch:
    now = START + int(second * NANO)
    columns = {"instrument": [0], "ts_event": [now], "ts_recv": [now]}
    return EventBatch(Kind.HEARTBEAT, "BTC", record_batch(Kind.HEARTBEAT, [NAME], columns))


def numbered(events: list[EventBatch], first: int = 0) -> list[EventBatch]:
    """With ``seq`` a kind."""
    counts: dict[Kind, int] = {}
    out: list[EventBatch] = []
    for event in events:
        start = counts.get(event.kind, first)
        counts[event.kind] = start + event.data.num_rows
        seq = pa.array(np.arange(start, start + event.data.num_rows))
        data = event.data.set_column(3, event.data.schema.field(3), seq)
        out.append(EventBatch(event.kind, event.underlying, data))
    return out


def run(events: list[EventBatch], **options: Any) -> tuple[dict[int, dict[str, Any]], list[Reject]]:
    """Rows by second, and rejects."""
    stage = FeatureStage(**options)
    rows: list[pa.RecordBatch] = []
    rejects: list[Reject] = []
    for event in events:
        output = stage.process(event)
        rows += [each.data for each in output.rows]
        rejects += output.rejects
    frame = pl.from_arrow(pa.Table.from_batches(rows, schema=STANDARD.schema))
    assert isinstance(frame, pl.DataFrame)
    return {(row["bar_ts"] - START) // NANO: row for row in frame.to_dicts()}, rejects


def test_another_tick_makes_the_book_wait_and_spans_no_return() -> None:
    finer = {"price_increment_e9": NANO // 100}
    rows, _ = run(
        numbered(
            [
                listed(), book(LEVELS, 1, 0.1, SNAPSHOT), trade(101, 5, 0.2), beat(1.1),
                listed(**finer), book([(BID, 101, 1)], 2, 1.2), beat(2.1),
                book([(side, 10 * price, size) for side, price, size in LEVELS], 3, 2.2, SNAPSHOT), trade(1010, 5, 2.3),
                beat(3.1), beat(4.1),
            ]
        )
    )  # fmt: skip
    assert rows[1]["mid"] == pytest.approx(10.1)
    assert not rows[2]["book_valid"]
    assert rows[2]["volume"] is None, "sizes may count otherwise now"
    assert rows[3]["mid"] == pytest.approx(10.1), "the same price in other increments"
    assert rows[3]["log_return"] is None
    assert rows[4]["log_return"] == 0.0
    assert rows[3]["vwap"] == pytest.approx(10.1)


def test_the_same_reference_data_again_changes_nothing() -> None:
    events = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT), trade(101, 5, 0.2), beat(1.1), beat(2.1)]
    again = [*events[:2], listed(), *events[2:4], listed(), *events[4:]]
    assert run(numbered(events)) == run(numbered(again))


def test_a_change_of_increments_in_the_middle_of_an_event_drops_the_rest_of_it() -> None:
    whole = book([(BID, 101, 5), (ASK, 104, 5)], 2, 1.2)
    first, second = (EventBatch(Kind.BOOK, "BTC", whole.data.slice(i, 1)) for i in (0, 1))
    events = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT), first, listed(price_increment_e9=NANO // 100), second]
    rows, _ = run(numbered([*events, beat(2.1), book(LEVELS, 3, 2.2, SNAPSHOT), beat(3.1)]))
    assert not rows[2]["book_valid"]
    assert rows[3]["best_bid"] == pytest.approx(1.00)
    assert rows[3]["lost_rows"] == 0


def test_after_its_expiry_an_instrument_gives_no_rows_and_its_room_is_used_again() -> None:
    expiry = START + int(2.5 * NANO)
    other = "test:BTC-NEXT"
    following = instrument_event("BTC", [{"instrument": other, "instrument_type": "future"}])
    events = [listed(instrument_type="future", expiry_ns=expiry), book(LEVELS, 1, 0.1, SNAPSHOT), beat(3.1), beat(4.1)]
    late = book([(BID, 101, 5)], 2, 4.2)
    levels = book_event("BTC", other, LEVELS, 0, 1, START + int(4.3 * NANO), SNAPSHOT)
    seq = levels.data.set_column(3, levels.data.schema.field(3), pa.array(np.arange(len(LEVELS))))
    stage = FeatureStage()
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for event in [*numbered([*events, following, late]), EventBatch(Kind.BOOK, "BTC", seq), *numbered([beat(5.1)], 9)]:
        output = stage.process(event)
        rows += [row for each in output.rows for row in each.data.to_pylist()]
        rejects += output.rejects
    assert [((row["bar_ts"] - START) // NANO, row["instrument"]) for row in rows] == [
        (0, NAME), (1, NAME), (2, NAME), (3, NAME), (5, other),
    ]  # fmt: skip
    assert [(each.reason, each.rows) for each in rejects] == [("unknown_instrument", 1)]
    assert rows[-1]["mid"] == pytest.approx(10.1)


def test_an_instrument_that_lists_late_starts_with_its_own_bars() -> None:
    other = "test:BTC-LATE"
    events = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT), beat(3.1)]
    events.append(instrument_event("BTC", [{"instrument": other, "instrument_type": "spot"}]))
    stage = FeatureStage()
    rows = [row for e in numbered([*events, beat(5.1)]) for o in stage.process(e).rows for row in o.data.to_pylist()]
    assert [((r["bar_ts"] - START) // NANO, r["instrument"]) for r in rows if r["instrument"] == other] == [
        (4, other), (5, other),
    ]  # fmt: skip


@pytest.mark.parametrize("column", ["price_increment_e9", "size_increment_e9", "contract_size_e9"])
def test_reference_data_that_cannot_be_is_rejected(column: str) -> None:
    rows, rejects = run(numbered([listed(**{column: 0}), book(LEVELS, 1, 0.1, SNAPSHOT), beat(1.1)]))
    assert rows == {}
    assert [each.reason for each in rejects] == ["bad_instrument", "unknown_instrument"]


def test_books_of_options_are_stored_but_give_no_rows_and_no_rejects() -> None:
    option = {"instrument": NAME, "instrument_type": "option", "expiry_ns": START + 10**18, "strike_e9": NANO}
    chain = instrument_event("BTC", [{**option, "is_call": True}])
    assert run(numbered([chain, book(LEVELS, 1, 0.1, SNAPSHOT), trade(101, 5, 0.2), beat(1.1)])) == ({}, [])


def test_corrections_are_counted_and_rewrite_nothing() -> None:
    events = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT), trade(101, 5, 0.2)]
    plain, _ = run(numbered([*events, beat(1.1), beat(2.1)]))
    corrected, _ = run(numbered([*events, beat(1.1), correction(1.5), beat(2.1)]))
    assert corrected[2].pop("corrected_rows") == 1
    assert plain[2].pop("corrected_rows") == 0
    assert corrected == plain


def test_a_new_session_is_no_repeat_and_counts_one_lost_row_a_kind() -> None:
    first = numbered([listed(), book(LEVELS, 1, 0.1, SNAPSHOT), trade(101, 5, 0.2), beat(1.1)])
    second = numbered([book([(BID, 101, 1)], 2, 1.2), trade(102, 5, 1.3)], 7 * SESSION_ROWS)
    third = numbered([book(LEVELS, 9, 2.2, SNAPSHOT), trade(102, 5, 2.3), beat(3.1), beat(4.1)], 8 * SESSION_ROWS)
    rows, _ = run([*first, *second, *numbered([beat(2.1)], 5), *third])
    assert rows[1]["lost_rows"] == 0
    assert (rows[2]["lost_rows"], rows[2]["book_valid"], rows[2]["volume"]) == (2, False, None)
    assert (rows[3]["lost_rows"], rows[3]["book_valid"]) == (2, True)
    assert rows[4]["lost_rows"] == 0


def test_a_locked_or_crossed_book_is_flagged_until_it_resolves_and_the_option_drops_what_is_stale() -> None:
    events = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT), beat(1.1), book([(BID, 102, 7)], 2, 1.2), beat(2.1)]
    events += [book([(ASK, 102, 0)], 3, 2.2), beat(3.1), beat(4.1)]
    kept, _ = run(numbered(events))
    assert [kept[i]["book_crossed"] for i in (1, 2, 3)] == [False, True, False]
    assert [kept[i]["book_valid"] for i in (1, 2, 3)] == [True, False, True]
    assert kept[2]["mid"] is None
    assert kept[2]["best_bid"] is None
    dropped, _ = run(numbered(events), drop_crossing=True)
    assert not any(row["book_crossed"] for row in dropped.values())
    assert (dropped[2]["best_bid"], dropped[2]["best_ask"]) == (pytest.approx(10.2), pytest.approx(10.3))
    assert dropped[4]["mid"] == kept[4]["mid"]


def test_a_crossing_option_survives_a_restart_and_a_later_listing() -> None:
    cross = [book([(BID, 102, 7)], 2, 1.2), beat(2.1)]
    head = numbered([listed(), book(LEVELS, 1, 0.1, SNAPSHOT), beat(1.1)])
    other = instrument_event("BTC", [{"instrument": "test:BTC-LATE", "instrument_type": "spot"}])
    first, second = FeatureStage(drop_crossing=True), FeatureStage(drop_crossing=True)
    for event in [*head, other]:
        first.process(event)
    second.restore(first.snapshot())
    tail = numbered(cross, len(LEVELS))
    rows = [row for event in tail for each in second.process(event).rows for row in each.data.to_pylist()]
    assert next(row for row in rows if row["instrument"] == NAME)["best_ask"] == pytest.approx(10.3)


def test_absurd_numbers_make_null_not_nonsense() -> None:
    huge = 2**45
    levels = [(BID, huge, 5), (ASK, huge + 2, 5)]
    rows, _ = run(numbered([listed(), book(levels, 1, 0.1, SNAPSHOT), trade(huge, 2**40, 0.2), beat(1.1), beat(2.1)]))
    assert rows[1]["volume"] == pytest.approx(2**40 / 1_000)
    assert [rows[1][name] for name in ("vwap", "notional", "effective_spread_bps")] == [None] * 3
    assert rows[1]["mid"] == pytest.approx((huge + 1) / 10)
    assert rows[2]["volume"] == 0.0


def test_a_price_far_from_all_others_is_a_level_like_any() -> None:
    rows, _ = run(numbered([listed(), book([*LEVELS, (ASK, 10**9, 1)], 1, 0.1, SNAPSHOT), beat(1.1), beat(2.1)]))
    assert rows[1]["ask_depth_50bps"] == 0.0
    assert rows[1]["imbalance_5"] == pytest.approx((10 - 11) / 21)


@pytest.mark.parametrize(("price", "size"), [(2**47, 1), (100, 2**47), (0, 5), (-3, 5), (100, -1)])
def test_an_impossible_level_breaks_the_book_until_the_next_snapshot(price: int, size: int) -> None:
    events = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT), beat(1.1), book([(BID, 101, 1), (BID, price, size)], 2, 1.2)]
    rows, _ = run(numbered([*events, beat(2.1), book(LEVELS, 9, 2.2, SNAPSHOT), beat(3.1)]))
    assert [rows[i]["book_valid"] for i in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize(("price", "size"), [(2**47, 1), (100, 2**47), (0, 5), (100, 0), (100, -1)])
def test_an_impossible_trade_makes_the_bars_trades_unknown(price: int, size: int) -> None:
    rows, _ = run(numbered([listed(), book(LEVELS, 1, 0.1, SNAPSHOT), trade(price, size, 0.2), beat(1.1), beat(2.1)]))
    assert (rows[1]["volume"], rows[1]["trade_count"], rows[2]["volume"]) == (None, None, 0.0)


HOUR = 3_600


def test_a_silence_of_over_an_hour_ends_the_bar_and_gives_no_others() -> None:
    """A weekend of an exchange, a source that was down: no flood of empty rows, and nothing is compared across it."""
    events = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT), trade(101, 5, 0.2), beat(1.1), beat(2.1)]
    after = [trade(102, 5, 65 * HOUR + 0.5), beat(65 * HOUR + 1.1), beat(65 * HOUR + 2.1)]
    rows, rejects = run(numbered([*events, *after]))
    assert sorted(rows) == [0, 1, 2, 3, 65 * HOUR + 1, 65 * HOUR + 2]
    assert rejects == []
    back = rows[65 * HOUR + 1]
    assert (back["mid"], back["log_return"], back["volume"]) == (pytest.approx(10.1), None, pytest.approx(0.005))
    assert rows[65 * HOUR + 2]["log_return"] == 0.0
    assert back["book_age_s"] > 64 * HOUR


def test_a_silence_of_an_hour_and_less_is_bars_without_events() -> None:
    rows, _ = run(numbered([listed(), book(LEVELS, 1, 0.1, SNAPSHOT), beat(1.1), beat(HOUR), beat(HOUR + 2)]))
    assert sorted(rows) == list(range(HOUR + 2))
    assert rows[HOUR - 1]["realized_variance_5m"] == 0.0


@pytest.mark.parametrize("seconds", [[0.5, 3_000, 6_000, 9_500], [0.5, 4_000, 4_001, 9_000, 90_000]])
def test_where_a_batch_with_silences_is_cut_does_not_matter(seconds: list[float]) -> None:
    beats = [beat(each) for each in seconds]
    whole = pa.Table.from_batches([each.data for each in beats]).combine_chunks().to_batches()[0]
    head = [listed(), book(LEVELS, 1, 0.1, SNAPSHOT)]
    apart, _ = run(numbered([*head, *beats]))
    together, _ = run(numbered([*head, EventBatch(Kind.HEARTBEAT, "BTC", whole)]))
    assert apart == together
    assert len(apart) < 10_000


@pytest.mark.parametrize("first", [0, -5])
def test_rows_before_1970_are_rejected_and_the_rest_still_flows(first: int) -> None:
    listing = listed()
    for column in (1, 2):
        times = pa.array([first] * listing.data.num_rows)
        data = listing.data.set_column(column, listing.data.schema.field(column), times)
        listing = EventBatch(Kind.INSTRUMENT, "BTC", data)
    rows, rejects = run(numbered([listing, listed(), book(LEVELS, 1, 0.1, SNAPSHOT), beat(1.1)]))
    assert [each.reason for each in rejects] == ["clock_step"]
    assert rows[1]["mid"] == pytest.approx(10.1)
