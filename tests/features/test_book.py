"""Books over time: what leaves ``replay_l2`` after every complete event."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_market import book_event, instrument_event, small_market

from features.book import replay_l2
from features.book_side import MAX_LEVELS, ROOM, set_level
from features.book_state import Books, empty_books
from features.errors import BadInputError
from features.event_frames import event_batch
from features.events import ASK, BID, LAST, NANO, SNAPSHOT, EventBatch, Kind

NAME = "test:BTC-PERPETUAL"


def event(rows: list[tuple[int, int, int]], number: int, flags: int = 0, prev: int | None = None) -> EventBatch:
    return book_event("BTC", NAME, rows, number - 1 if prev is None else prev, number, number * NANO, flags)


FIRST = event([(BID, 100, 5), (BID, 99, 4), (ASK, 102, 3)], 1, SNAPSHOT)


def test_best_quotes_after_every_event() -> None:
    rows = replay_l2([FIRST, event([(BID, 101, 1)], 2), event([(BID, 101, 0), (ASK, 102, 9)], 3)], levels=2)
    assert rows["update_id"].to_list() == [1, 2, 3]
    assert rows["bid_price_0"].to_list() == [100, 101, 100]
    assert rows["bid_size_0"].to_list() == [5, 1, 5]
    assert rows["bid_price_1"].to_list() == [99, 100, 99]
    assert rows["ask_size_0"].to_list() == [3, 3, 9]
    assert rows["ask_price_1"].to_list() == [None] * 3
    assert rows["valid"].all()
    assert not rows["crossed"].any()


def test_half_an_event_is_never_visible() -> None:
    whole = event([(BID, 101, 1), (ASK, 102, 0), (ASK, 103, 2)], 2)
    pieces = [EventBatch(Kind.BOOK, "BTC", whole.data.slice(i, 1)) for i in range(3)]
    assert replay_l2([FIRST, *pieces]).equals(replay_l2([FIRST, whole]))
    assert replay_l2([FIRST, *pieces[:2]]).height == 1


@pytest.mark.parametrize(
    ("events", "valid"),
    [
        ([event([(BID, 98, 1)], 1)], [True, True]),  # stale: ignored
        ([event([(BID, 98, 1)], 3, prev=2)], [True, False]),  # the chain of ids broke
        ([event([(BID, 98, -1)], 2)], [True, False]),
        ([event([(BID, 0, 1)], 2)], [True, False]),
        ([event([(BID, 98, 1)], 3, prev=2), event([(BID, 98, 1)], 4)], [True, False, False]),
        ([event([(BID, 98, 1)], 3, prev=2), event([(BID, 98, 1), (ASK, 99, 1)], 9, SNAPSHOT)], [True, False, True]),
    ],
)
def test_what_breaks_a_book_and_what_mends_it(events: list[EventBatch], valid: list[bool]) -> None:
    rows = replay_l2([FIRST, *events])
    assert rows["valid"].to_list() == valid
    assert rows.filter(~pl.col("valid"))["bid_price_0"].null_count() == valid.count(False)


def test_a_crossed_book_is_shown_and_flagged_or_cleared_of_what_is_stale() -> None:
    events = [FIRST, event([(BID, 103, 7)], 2)]
    assert replay_l2(events)["crossed"].to_list() == [False, True]
    assert replay_l2(events)["ask_price_0"].to_list() == [102, 102]
    cleared = replay_l2(events, drop_crossing=True)
    assert not cleared["crossed"].any()
    assert cleared["bid_price_0"].to_list() == [100, 103]
    assert cleared["ask_price_0"].to_list() == [102, None]


def test_with_reference_data_prices_and_sizes_come_as_decimals() -> None:
    listed = pl.from_arrow(instrument_event("BTC", [{"instrument": NAME, "instrument_type": "spot"}]).data)
    assert isinstance(listed, pl.DataFrame)
    rows = replay_l2([FIRST], listed)
    assert rows.row(0, named=True) | {"best_bid": 10.0, "bid_size": 0.005, "best_ask": 10.2, "ask_size": 0.003} == (
        rows.row(0, named=True)
    )
    with pytest.raises(BadInputError, match="No reference data for test:BTC-PERPETUAL"):
        replay_l2([FIRST], listed.clear())


FRAME = pl.DataFrame(pl.from_arrow(FIRST.data))


def test_a_frame_is_as_good_as_batches() -> None:
    batches = [FIRST, event([(BID, 101, 1), (BID, 99, 0)], 2)]
    frame = pl.concat([pl.DataFrame(pl.from_arrow(each.data)) for each in batches])
    assert replay_l2(frame).equals(replay_l2(batches))
    assert replay_l2(frame.drop("seq", "late_ns", "ref_version")).equals(replay_l2(batches))
    shuffled = frame.select(sorted(frame.columns)).with_columns(pl.col("instrument").cast(pl.String), extra=1)
    assert replay_l2(shuffled).equals(replay_l2(batches))
    assert replay_l2(frame.clear()).height == replay_l2([]).height == 0
    assert replay_l2([]).columns == replay_l2(batches).columns


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop("price"), "lack the column 'price'"),
        (lambda frame: frame.with_columns(price=pl.lit("a")), "It must be int64"),
        (lambda frame: frame.with_columns(price=pl.lit(1.5)), "It must be int64"),
        (lambda frame: frame.with_columns(price=pl.lit(None, pl.Int64)), "has nulls"),
    ],
)
def test_a_frame_that_does_not_fit_says_why(change: Any, said: str) -> None:
    frame = pl.DataFrame(pl.from_arrow(FIRST.data))
    with pytest.raises(BadInputError) as error:
        replay_l2(change(frame))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"deltas": FRAME.lazy()}, "Deltas are a LazyFrame, not events. Give a polars DataFrame"),
        ({"deltas": None}, "Deltas are a NoneType"),
        ({"deltas": [FRAME, FRAME]}, "Deltas hold a DataFrame, not batches. Concatenate frames to one."),
        ({"levels": 0}, "0 levels are none. Ask for 1 or more."),
        ({"instruments": pl.DataFrame({"instrument": ["x"]})}, "lacks price_increment_e9, size_increment_e9. It needs"),
        ({"instruments": FRAME.lazy()}, "`instruments` is a LazyFrame"),
    ],
)
def test_arguments_that_do_not_fit_say_why(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError) as error:
        replay_l2(**{"deltas": FRAME, **arguments})
    assert said in str(error.value)


def test_a_table_of_arrow_and_datetimes_will_do() -> None:
    expected = replay_l2(FRAME.with_columns(ts_event=1_500_000, ts_recv=2_500_000))
    dated = FRAME.with_columns(
        ts_event=pl.from_epoch(pl.lit(1_500), "us"), ts_recv=pl.from_epoch(pl.lit(2_500_000), "ns")
    )
    assert replay_l2(dated).equals(expected)
    assert replay_l2(dated.to_arrow()).equals(expected)


class Dicts:
    """A book as dictionaries, each level set when its event is complete."""

    def __init__(self) -> None:
        self.sides: dict[int, dict[int, int]] = {BID: {}, ASK: {}}

    def best(self) -> tuple[int | None, int | None]:
        return max(self.sides[BID], default=None), min(self.sides[ASK], default=None)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_run_of_events_gives_the_books_of_dictionaries(data: st.DataObject) -> None:
    level = st.tuples(st.sampled_from([BID, ASK]), st.integers(1, 60), st.integers(0, 4))
    book, events, expected = Dicts(), [], []
    for number in range(1, data.draw(st.integers(2, 30))):
        snapshot = number == 1 or (data.draw(st.booleans()) and data.draw(st.booleans()))
        rows = data.draw(st.lists(level, min_size=1, max_size=8))
        events.append(event(rows, number, SNAPSHOT if snapshot else 0))
        if snapshot:
            book = Dicts()
        for side, price, size in rows:
            book.sides[side].pop(price, None)
            if size:
                book.sides[side][price] = size
        expected.append(book.best())
    rows = replay_l2(events)
    assert list(zip(rows["bid_price_0"], rows["ask_price_0"], strict=True)) == expected


@pytest.mark.parametrize("side", [0, 1])
def test_beyond_what_is_tracked_the_worst_levels_are_forgotten(side: int) -> None:
    books = empty_books(1)
    for key in np.random.default_rng(0).permutation(MAX_LEVELS + 500) + 1:
        change(books, side, int(key), 1)
    assert levels_of(books, side) == dict.fromkeys(range(501, MAX_LEVELS + 501), 1)
    change(books, side, 7, 1)
    assert min(levels_of(books, side)) == 501, "worse than all: not kept"


def change(books: Books, side: int, key: int, size: int) -> None:
    edges = int(books.begin[0, side]), int(books.end[0, side])
    books.begin[0, side], books.end[0, side] = set_level(books.key[0, side], books.size[0, side], *edges, key, size)


def levels_of(books: Books, side: int) -> dict[int, int]:
    stretch = slice(int(books.begin[0, side]), int(books.end[0, side]))
    keys = books.key[0, side, stretch].tolist()
    assert keys == sorted(keys)
    return dict(zip(keys, books.size[0, side, stretch].tolist(), strict=True))


@pytest.mark.parametrize("drift", [-1, 1])
def test_a_market_that_drifts_through_the_whole_room_stays_a_book(drift: int) -> None:
    """Levels come at one end and go at the other, so the side wanders and is put back into the middle."""
    books, expected = empty_books(1), {}
    rng = np.random.default_rng(1)
    for step in range(3 * ROOM):
        centre = drift * step
        for key in (centre + int(rng.integers(-20, 20)) for _ in range(2)):
            change(books, 0, key, step + 1)
            expected[key] = step + 1
        for key in [key for key in expected if abs(key - centre) > 60]:
            change(books, 0, key, 0)
            del expected[key]
    assert levels_of(books, 0) == dict(sorted(expected.items()))


def test_a_snapshot_larger_than_what_is_tracked_keeps_its_best() -> None:
    deep = MAX_LEVELS + 300
    bids, asks = [(BID, deep + 1 - i, 1) for i in range(deep)], [(ASK, deep + 2 + i, 1) for i in range(deep)]
    rows = replay_l2([event([*bids, *asks], 1, SNAPSHOT)], levels=1)
    assert rows["valid"].all()
    assert (rows["bid_price_0"][0], rows["ask_price_0"][0]) == (deep + 1, deep + 2)


def test_several_instruments_may_share_a_frame() -> None:
    batches = [b for b in small_market(5) if b.kind is Kind.BOOK]
    together = replay_l2(batches, levels=3)
    for name in together["instrument"].unique():
        alone = replay_l2([b for b in batches if b.data.column(0)[0].as_py() == name], levels=3)
        assert together.filter(pl.col("instrument") == name).equals(alone)
    as_frame = pl.concat(
        [pl.DataFrame(pl.from_arrow(b.data)).with_columns(pl.col("instrument").cast(pl.String)) for b in batches]
    )
    assert replay_l2(as_frame, levels=3).equals(together)


def test_an_event_batch_needs_the_columns_of_its_kind() -> None:
    frame = pl.DataFrame(pl.from_arrow(FIRST.data))
    batch = event_batch(Kind.BOOK, "BTC", frame)
    assert batch.data.equals(FIRST.data) or batch.data.to_pylist() == FIRST.data.to_pylist()
    assert int(batch.data.column("flags").to_numpy()[-1]) & LAST
