from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_tardis import BOOK, START_US, line, read, write

from features.book import replay_l2
from features.events import LAST, SNAPSHOT, Kind
from pipeline.sources import csv_fields, recording_lines, tardis_book

SNAP = (line(0, "true", "bid", "100", 5), line(0, "true", "ask", "101", 6))


def touches(path: Path) -> list[tuple[object, ...]]:
    """After each event: valid, best bid and ask."""
    books = replay_l2(read(path).batches)
    return books.select("valid", "bid_price_0", "bid_size_0", "ask_price_0", "ask_size_0").rows()


def test_rows_of_one_receive_time_are_one_event(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "b",
        BOOK,
        *SNAP,
        line(9, "false", "bid", "100", 0),
        line(9, "false", "bid", "99", 3),
        line(10, "false", "ask", "101", 1),
    )
    got = read(path)
    assert [row["flags"] for row in got.rows(Kind.BOOK)] == [SNAPSHOT, SNAPSHOT | LAST, 0, LAST, LAST]
    assert touches(path) == [(True, 100, 5, 101, 6), (True, 99, 3, 101, 6), (True, 99, 3, 101, 1)]


def test_a_new_run_of_snapshot_rows_clears_the_book_and_its_later_rows_add_to_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "b",
        BOOK,
        *SNAP,
        line(5, "false", "bid", "98", 3),
        line(5, "true", "bid", "90", 1),
        line(6, "true", "ask", "95", 2),
        line(6, "false", "ask", "94", 2),
    )
    assert touches(path) == [
        (True, 100, 5, 101, 6),
        (True, 100, 5, 101, 6),
        (True, 90, 1, None, None),
        (True, 90, 1, 95, 2),
        (True, 90, 1, 94, 2),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line(5, "false", "bid", "99", -1), "bad_level"),
        (line(5, "false", "bid", "0", 1), "bad_level"),
        (line(5, "false", "bid", "99.5", 1), "off_increment"),
        (line(5, "false", "bid", "", 1), "missing_field"),
        (line(5, "false", "bid", "99", "x"), "bad_decimal"),
        (line(5, "false", "buy", "99", 1), "unexpected_form"),
        (line(5, "maybe", "bid", "99", 1), "unexpected_form"),
        (line(5, "false", "bid", "99"), "unexpected_form"),
        (line(-1, "false", "bid", "99", 1), "out_of_order"),
    ],
)
def test_a_bad_row_takes_its_event_and_the_book_waits_for_a_snapshot(tmp_path: Path, bad: str, reason: str) -> None:
    path = write(
        tmp_path,
        "b",
        BOOK,
        *SNAP,
        line(5, "false", "ask", "101", 9),
        bad,
        line(5, "false", "ask", "100", 9),
        line(6, "false", "bid", "98", 7),
        line(7, "true", "bid", "97", 7),
    )
    got = read(path, increments={"*": ("1", "1")})
    assert got.reasons == [reason]
    books = replay_l2(got.batches).select("valid", "bid_price_0", "ask_price_0").rows()
    assert books[0] == (True, 100, 101)
    assert books[-2:] == [(False, None, None), (True, 97, None)]
    assert all(not valid or ask != 100 for valid, _, ask in books)


def test_a_torn_row_inside_a_snapshot_takes_the_whole_snapshot(tmp_path: Path) -> None:
    path = write(tmp_path, "b", BOOK, SNAP[0], "test,BTC-PERP", SNAP[1], line(5, "false", "bid", "99", 1))
    got = read(path)
    assert got.reasons == ["unexpected_form"]
    assert not replay_l2(got.batches)["valid"].any()


def test_a_file_without_a_snapshot_gives_no_book_and_breaks_the_one_before(tmp_path: Path) -> None:
    first = write(tmp_path, "a", BOOK, *SNAP, line(1, "false", "bid", "99", 1))
    later = write(tmp_path, "b", BOOK, line(10, "false", "ask", "100.5", 1), line(11, "false", "bid", "98", 1))
    assert not replay_l2(read(later).batches)["valid"].any()
    assert replay_l2(read(first, later).batches)["valid"].to_list() == [True, True, False, False]


def test_files_of_consecutive_days_are_one_book(tmp_path: Path) -> None:
    first = write(tmp_path, "a", BOOK, *SNAP, line(1, "false", "bid", "99", 1))
    snap = [line(10, "true", "bid", "97", 5), line(10, "true", "ask", "98", 6)]
    later = write(tmp_path, "b", BOOK, *snap, line(11, "false", "ask", "98", 0))
    for order in ((first, later), (later, first)):
        books = replay_l2(read(*order).batches)
        assert books.select("valid", "bid_price_0").rows() == [(True, 100), (True, 100), (True, 97), (True, 97)]


def test_repeats_and_late_rows_pass(tmp_path: Path) -> None:
    late = f"test,BTC-PERPETUAL,{START_US - 50_000},{START_US + 100_020},false,ask,101,2"
    path = write(tmp_path, "b", BOOK, *SNAP, *[line(5, "false", "bid", "99", 0)] * 2, *[late] * 2)
    got = read(path)
    assert got.rejects == []
    assert touches(path)[-1] == (True, 100, 5, 101, 2)
    assert got.rows(Kind.BOOK)[-1]["ts_event"] == (START_US - 50_000) * 1_000


def test_instruments_of_one_file_have_books_of_their_own(tmp_path: Path) -> None:
    other = [line(0, "true", side, price, 1, symbol="ETHUSD") for side, price in (("bid", "9.5"), ("ask", "10"))]
    path = write(tmp_path, "b", BOOK, SNAP[0], other[0], SNAP[1], other[1], line(1, "false", "bid", "9", 3))
    books = replay_l2(read(path).batches).filter(instrument="test:BTC-PERPETUAL")
    # Rows of one time that do not stand together are events that continue each other.
    assert books.select("bid_price_0", "ask_price_0").rows() == [(100, None), (100, 101), (100, 101)]


def test_a_snapshot_deeper_than_a_book_keeps_its_best_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tardis_book, "MAX_EVENT_ROWS", 50)
    monkeypatch.setattr(tardis_book, "MAX_LEVELS", 20)
    asks = [line(0, "true", "ask", 1_000 - i, i + 1) for i in range(30)]
    bids = [line(0, "true", "bid", 1 + i, i + 1) for i in range(30)]
    long = [line(1, "false", "bid", 200 + i, 1) for i in range(120)]
    got = read(write(tmp_path, "b", BOOK, *asks, *bids, line(0, "true", "ask", 971, 7), *long))
    books = replay_l2(got.batches, levels=21)
    columns = ("valid", "bid_price_0", "ask_price_0", "ask_size_0")
    assert books.select(columns).rows() == [(True, bid, 971, 7) for bid in (30, 249, 299, 319)]
    assert books.select("bid_price_19", "bid_price_20", "ask_price_19", "ask_price_20").row(0) == (11, None, 990, None)
    assert len(got.rows(Kind.BOOK)) == 40 + 120


LEVEL = st.tuples(st.sampled_from(["bid", "ask"]), st.integers(1, 20), st.integers(0, 3))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), LEVEL), min_size=1, max_size=40), st.integers(60, 400))
def test_books_are_those_of_the_vendors_rule_at_any_block_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[tuple[int, bool, tuple[str, int, int]]], block: int
) -> None:
    """The reference: apply row by row, and void the book where is_snapshot turns true."""
    at, lines, books = 0, [*SNAP], {"bid": {100: 5}, "ask": {101: 6}}
    snapshot, expected = True, [(100, 101)]
    for step, is_snapshot, (side, price, size) in changes:
        at += step
        same = step == 0 and is_snapshot == snapshot
        if is_snapshot and not snapshot:
            books = {"bid": {}, "ask": {}}
        snapshot = is_snapshot
        books[side][price] = size
        if not size:
            del books[side][price]
        lines.append(line(at, str(is_snapshot).lower(), side, price, size))
        touch = (max(books["bid"], default=None), min(books["ask"], default=None))
        if same:
            expected[-1] = touch  # type: ignore[assignment]
        else:
            expected.append(touch)  # type: ignore[arg-type]
    path = write(tmp_path, "b", BOOK, *lines)
    monkeypatch.setattr(csv_fields.read_blocks, "__defaults__", (1,))
    monkeypatch.setattr(recording_lines, "_CHUNK", block)
    got = replay_l2(read(path, increments={"*": ("1", "1")}).batches).select("bid_price_0", "ask_price_0").rows()
    assert got == expected
