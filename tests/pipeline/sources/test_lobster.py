from __future__ import annotations

import gzip
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
import pytest

from features.book import replay_l2
from features.errors import BadInputError
from features.events import LAST, SNAPSHOT, EventBatch, Kind
from pipeline.sources.base import Reject
from pipeline.sources.lobster import NO_LEVEL, LobsterFiles
from pipeline.sources.lobster_names import midnight_ns

DAY = "2012-06-21"
MIDNIGHT_NS = 1_340_251_200 * 10**9

# Two levels a side. An order at 99.00 rests outside the view until the bid at 99.50 is gone.
MESSAGES = """\
34200.000000001,1,11,100,1000000,1
34200.5,1,12,50,1005000,-1
34201.25,1,13,70,995000,1
34201.25,4,11,100,1000000,1
34202.000000000,5,0,20,1002550,-1
34203,6,0,500,1001000,-1
34204,7,0,0,-1,-1
34205.125,2,12,10,1005000,-1
"""
BOOKS = f"""\
1010000,5,1000000,100,{NO_LEVEL},0,990000,8
1005000,50,1000000,100,1010000,5,990000,8
1005000,50,1000000,100,1010000,5,995000,70
1005000,50,995000,70,1010000,5,990000,8
1005000,50,995000,70,1010000,5,990000,8
1005000,50,995000,70,1010000,5,990000,8
1005000,50,995000,70,1010000,5,990000,8
1005000,40,995000,70,1010000,5,990000,8
"""


def write(
    folder: Path, messages: str = MESSAGES, books: str = BOOKS, day: str = DAY, suffix: str = ".csv"
) -> list[Path]:
    """A day's two files, messages first."""
    paths = []
    for what, text in (("message", messages), ("orderbook", books)):
        path = folder / f"ABC_{day}_34200000_57600000_{what}_2{suffix}"
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
        paths.append(path)
    return paths


def read(paths: list[Path]) -> tuple[list[EventBatch], list[Reject], LobsterFiles]:
    rejects: list[Reject] = []
    source = LobsterFiles(paths, on_reject=rejects.append)
    batches = list(source.batches())
    assert sum(source.rejected.values()) == len(rejects)
    return batches, rejects, source


def rows(batches: list[EventBatch], kind: Kind) -> list[dict[str, int]]:
    return [row for batch in batches if batch.kind is kind for row in batch.data.to_pylist()]


def changed(text: str, line: int, new: str) -> str:
    lines = text.splitlines()
    lines[line - 1] = new
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_small_day(tmp_path: Path, suffix: str) -> None:
    batches, rejects, source = read(write(tmp_path, suffix=suffix))
    assert rejects == []
    assert source.skipped == {"halt": 1}
    (introduced,) = rows(batches, Kind.INSTRUMENT)
    assert (introduced["instrument"], introduced["price_increment_e9"]) == ("nasdaq:ABC", 100_000)
    trades = [(row["trade_id"], row["price"], row["size"], row["aggressor"]) for row in rows(batches, Kind.TRADE)]
    assert trades == [(4, 1_000_000, 100, -1), (5, 1_002_550, 20, 1), (6, 1_001_000, 500, 0)]
    times = [row["ts_event"] - MIDNIGHT_NS for row in rows(batches, Kind.TRADE)]
    assert times == [34_201_250_000_000, 34_202_000_000_000, 34_203_000_000_000]
    books = replay_l2(batches, levels=3)
    columns = [f"{side}_{what}_{i}" for i in range(3) for side in ("ask", "bid") for what in ("price", "size")]
    assert books["valid"].all()
    assert books.select(columns).rows() == [
        (1_010_000, 5, 1_000_000, 100, None, None, 990_000, 8, *[None] * 4),
        (1_005_000, 50, 1_000_000, 100, 1_010_000, 5, 990_000, 8, *[None] * 4),
        (1_005_000, 50, 1_000_000, 100, 1_010_000, 5, 995_000, 70, *[None] * 4),
        (1_005_000, 50, 995_000, 70, 1_010_000, 5, 990_000, 8, *[None] * 4),
        (1_005_000, 40, 995_000, 70, 1_010_000, 5, 990_000, 8, *[None] * 4),
    ]
    levels = [(row["side"], row["price"], row["size"], row["flags"]) for row in rows(batches, Kind.BOOK)]
    assert levels[2] == (-1, 1_010_000, 5, SNAPSHOT | LAST)
    assert levels[4:8] == [(1, 990_000, 0, 0), (1, 995_000, 70, LAST), (1, 1_000_000, 0, 0), (1, 990_000, 8, LAST)]
    kinds = [batch.kind for batch in batches if batch.kind in (Kind.BOOK, Kind.TRADE)]
    assert kinds[kinds.index(Kind.TRADE) + 1] is Kind.BOOK, "a trade precedes the change that it makes"
    beats = [row["ts_event"] - MIDNIGHT_NS for row in rows(batches, Kind.HEARTBEAT)]
    assert beats[:2] == [34_200_000_000_001, 34_201_250_000_000]


@pytest.mark.parametrize(
    ("messages", "reason", "trades"),
    [
        (changed(MESSAGES, 4, "34201.25,4,11,0,1000000,1"), "bad_trade", 2),
        (changed(MESSAGES, 4, "34201.25,4,11,-5,1000000,1"), "bad_trade", 2),
        (changed(MESSAGES, 4, "34201.25,4,11,5,1000000,0"), "bad_trade", 2),
        (changed(MESSAGES, 4, "34201.25,4,11,5,1000000.5,1"), "off_increment", 2),
        (changed(MESSAGES, 4, "34201.25,9,11,5,1000000,1"), "unknown_message", 2),
        (changed(MESSAGES, 4, "34201.20,4,11,5,1000000,1"), "out_of_order", 2),
        (changed(MESSAGES, 4, "99999.25,4,11,5,1000000,1"), "bad_time", 2),
        (changed(MESSAGES, 4, "34201.25,4,11,5"), "unexpected_form", 2),
        (changed(MESSAGES, 4, ""), "unexpected_form", 2),
        (changed(MESSAGES, 4, "34201.25,four,11,5,1000000,1"), "bad_decimal", 2),
    ],
)
def test_a_bad_message_costs_itself_and_the_book_recovers(
    tmp_path: Path, messages: str, reason: str, trades: int
) -> None:
    batches, rejects, _ = read(write(tmp_path, messages))
    assert [reject.reason for reject in rejects] == [reason]
    assert rejects[0].origin.endswith("message_2.csv:4")
    assert len(rows(batches, Kind.TRADE)) == trades
    books = replay_l2(batches, levels=2)
    assert books["valid"].all()
    assert books.select("ask_size_0", "bid_price_0", "bid_price_1").row(-1) == (40, 995_000, 990_000)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1005000,50,995000,-70,1010000,5,990000,8", "bad_level"),
        ("1005000,0,995000,70,1010000,5,990000,8", "bad_level"),
        ("1005000,50,-995000,70,1010000,5,990000,8", "bad_level"),
        ("1005000,50,990000,70,1010000,5,995000,8", "bad_level"),
        (f"{NO_LEVEL},0,995000,70,1010000,5,990000,8", "bad_level"),
        ("1005000,50,995000.5,70,1010000,5,990000,8", "off_increment"),
        ("1005000,50,995000,70,1010000,5", "unexpected_form"),
    ],
)
def test_a_bad_book_row_costs_one_event(tmp_path: Path, row: str, reason: str) -> None:
    batches, rejects, _ = read(write(tmp_path, books=changed(BOOKS, 4, row)))
    assert [reject.reason for reject in rejects] == [reason]
    assert len(rows(batches, Kind.TRADE)) == 3
    bids = replay_l2(batches)["bid_price_0"].to_list()
    assert bids == [1_000_000, 1_000_000, 1_000_000, 995_000, 995_000]


def test_a_file_that_ends_early_ends_the_day(tmp_path: Path) -> None:
    short = "".join(BOOKS.splitlines(keepends=True)[:5])
    batches, rejects, _ = read(write(tmp_path, books=short))
    assert [(reject.reason, reject.origin.rpartition("_")[2]) for reject in rejects] == [("missing_row", "2.csv:6")]
    assert len(rows(batches, Kind.TRADE)) == 2


def test_a_truncated_gzip_is_one_more_reject(tmp_path: Path) -> None:
    paths = write(tmp_path, suffix=".csv.gz")
    lines = "".join(f"{34_300 + i / 1000:.3f},1,{i * 7919 % 10_007},1,{i},1\n" for i in range(5_000))
    body = gzip.compress((MESSAGES + lines).encode())
    paths[0].write_bytes(body[: len(body) // 2])
    paths[1].write_bytes(gzip.compress((BOOKS + (BOOKS.splitlines()[-1] + "\n") * 5_000).encode()))
    batches, rejects, _ = read(paths)
    assert {reject.reason for reject in rejects} == {"truncated_gzip", "missing_row"}
    assert len(rows(batches, Kind.TRADE)) == 3


def test_days_follow_each_other_and_partners_are_found(tmp_path: Path) -> None:
    first, second = write(tmp_path), write(tmp_path, day="2012-06-22")
    batches, rejects, _ = read([second[1], first[0]])
    assert rejects == []
    books = replay_l2(batches)
    assert books.height == 10
    assert books["valid"].all()
    assert books["ts_event"].is_sorted()
    assert len(rows(batches, Kind.INSTRUMENT)) == 1


def test_names_and_empty_files(tmp_path: Path) -> None:
    paths = write(tmp_path)
    with pytest.raises(BadInputError, match="does not tell symbol, day and levels"):
        LobsterFiles([tmp_path / "book.csv"])
    with pytest.raises(BadInputError, match="names no day"):
        LobsterFiles(write(tmp_path, day="2012-13-21"))
    with pytest.raises(BadInputError, match="No LOBSTER file"):
        LobsterFiles([])
    paths[1].write_bytes(b"")
    with pytest.raises(BadInputError, match="is empty"):
        LobsterFiles(paths)
    paths[1].unlink()
    with pytest.raises(BadInputError, match=r"without ABC_.*_orderbook_2\.csv"):
        LobsterFiles(paths[:1])


def test_midnight_is_new_yorks() -> None:
    try:
        zone = ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        pytest.skip("this machine has no time zones")
    for day in (date(2007, 6, 27) + timedelta(days=i) for i in range(7_300)):
        if day.weekday() < 5:
            assert midnight_ns(day) == int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 10**9


@pytest.mark.data
def test_after_every_message_our_book_is_the_files_row(recorded_data: Path) -> None:
    folder = recorded_data / "fixtures" / "lobster"
    paths = sorted(folder.glob("AAPL_*"))
    batches, rejects, _ = read(paths)
    assert rejects == []
    messages = pl.read_csv(paths[0], has_header=False, infer_schema=False)["column_1"].to_list()
    lines = paths[1].read_text().split()
    books = replay_l2(batches, levels=11)
    assert books["valid"].all()
    columns = [f"{side}_{what}_{i}" for i in range(10) for side in ("ask", "bid") for what in ("price", "size")]
    ours = dict(zip(books["update_id"].to_list(), books.select(columns).rows(), strict=True))
    base = date(2012, 6, 21).toordinal() << 40
    book: tuple[int, ...] = ()
    for number, line in enumerate(lines, 1):
        book = ours.get(base + number, book)  # without an event nothing visible has changed
        assert book == tuple(int(each) for each in line.split(",")), number
    assert len(lines) == len(messages)
    assert books["bid_price_10"].null_count() == books["ask_price_10"].null_count() == books.height
    assert len(rows(batches, Kind.TRADE)) == 98 + 61
