from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from small_tardis import BOOK, CHAIN, LATENCY_US, QUOTE, START_US, TICKER, TRADE, line, read, write

from features.book import replay_l2
from features.errors import BadInputError, ConfigError
from features.events import Kind
from pipeline.sources import csv_fields
from pipeline.sources.runs import MERGE_ORDER
from pipeline.sources.tardis import TardisFiles


def test_files_merge_by_receive_time_whatever_their_order_and_names(tmp_path: Path) -> None:
    book = write(
        tmp_path,
        "a",
        BOOK,
        line(0, "true", "ask", "100.5", 7),
        line(1_500_000, "false", "ask", "100.5", 0),
        zipped=True,
    )
    trades = write(tmp_path, "b", TRADE, *(line(at, at + 1, "buy", "100.5", 1) for at in (0, 700_000, 2_000_000)))
    ticker = write(tmp_path, "c", TICKER, line(0, START_US, "0.0001", "", "5", "100", "100", "100.25"))
    eth = write(tmp_path, "d", TRADE, line(700_000, "x", "sell", "10", "0.5", symbol="ETH-PERPETUAL"))
    forth, back = read(book, trades, ticker, eth), read(eth, ticker, trades, book)
    assert forth.rejects == back.rejects == []
    order = [(row["ts_recv"], MERGE_ORDER[batch.kind]) for batch in forth.batches for row in batch.data.to_pylist()]
    assert order == sorted(order)
    for kind in (Kind.BOOK, Kind.TRADE, Kind.FUNDING, Kind.HEARTBEAT, Kind.INSTRUMENT):
        assert sorted(map(repr, forth.rows(kind))) == sorted(map(repr, back.rows(kind)))
    assert forth.batches[0].kind is Kind.INSTRUMENT
    assert [row["instrument"] for row in forth.rows(Kind.INSTRUMENT)] == ["test:BTC-PERPETUAL", "test:ETH-PERPETUAL"]
    beats = [(row["instrument"], row["ts_event"]) for row in forth.rows(Kind.HEARTBEAT)]
    assert beats == [
        ("test:BTC-PERPETUAL", START_US * 1_000),
        ("test:ETH-PERPETUAL", (START_US + 700_000) * 1_000),
        ("test:BTC-PERPETUAL", (START_US + 1_500_000) * 1_000),
        ("test:BTC-PERPETUAL", (START_US + 2_000_000) * 1_000),
    ]
    first = forth.rows(Kind.TRADE)[0]
    assert (first["ts_event"], first["ts_recv"]) == (START_US * 1_000, (START_US + LATENCY_US) * 1_000)


def test_increments_are_those_of_all_files_of_the_instrument(tmp_path: Path) -> None:
    trades = write(tmp_path, "t", TRADE, line(0, 1, "buy", "100", "0.125"), line(1, 2, "buy", "3e-5", "2"))
    quotes = write(tmp_path, "q", QUOTE, line(0, 3, "100.50", "100.25", 4))
    got = read(trades, quotes)
    (introduced,) = got.rows(Kind.INSTRUMENT)
    assert (introduced["price_increment_e9"], introduced["size_increment_e9"]) == (10_000, 1_000_000)
    assert [(row["price"], row["size"]) for row in got.rows(Kind.TRADE)] == [(10_000_000, 125), (3, 2_000)]
    assert [(row["price"], row["size"]) for row in got.rows(Kind.BOOK)] == [(10_025_000, 4_000), (10_050_000, 3_000)]


def test_given_increments_win_and_refuse_what_is_no_multiple_of_them(tmp_path: Path) -> None:
    trades = write(tmp_path, "t", TRADE, line(0, 1, "buy", "100.5", 20), line(1, 2, "buy", "100.1", 20))
    got = read(trades, increments={"test:BTC-*": ("0.5", "10")})
    assert [(row["price"], row["size"]) for row in got.rows(Kind.TRADE)] == [(201, 2)]
    assert got.reasons == ["off_increment"]
    assert got.rejects[0].payload.decode() == line(1, 2, "buy", "100.1", 20)
    assert got.rejects[0].origin == f"{trades}:3"
    for wrong in (("0", "1"), ("x", "1"), ("1",)):
        with pytest.raises(ConfigError, match=r"no pair of decimals|not positive"):
            TardisFiles([trades], increments={"test:BTC-PERPETUAL": wrong})  # type: ignore[dict-item]


def test_rows_that_no_decoder_could_use_are_refused_alike(tmp_path: Path) -> None:
    good = line(10, 1, "buy", "100", 1)
    path = write(
        tmp_path,
        "t",
        TRADE,
        good,
        "",
        line(20, 2, "buy", "100"),
        line(30, 3, "buy", "100", 1, 1),
        good.replace(str(START_US + 10), "soon"),
        f"test,BTC-PERPETUAL,{START_US - 90_000_000_000},{START_US + 40 + LATENCY_US},4,buy,100,1",
        line(5, 5, "buy", "100", 1),
        line(50, 6, "buy", "100", 1) + "\r",
    )
    got = read(path)
    assert got.reasons == ["unexpected_form", "unexpected_form", "bad_time", "clock_step", "out_of_order"]
    assert [row["trade_id"] for row in got.rows(Kind.TRADE)] == [1, 6]


def test_a_truncated_file_costs_its_end_only(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "t",
        TRADE,
        *(line(at, at * 7919 % 10_007, "buy", 100 + at % 97, 1) for at in range(9_000)),
        zipped=True,
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    got = read(path)
    assert got.reasons == ["truncated_gzip"]
    assert 1_000 < len(got.rows(Kind.TRADE)) < 9_000


def test_what_is_no_tardis_file_says_what_is(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    with pytest.raises(BadInputError, match="is empty"):
        TardisFiles([empty])
    with pytest.raises(BadInputError, match="does not exist"):
        TardisFiles([tmp_path / "none.csv"])
    with pytest.raises(BadInputError, match="No Tardis file"):
        TardisFiles([])
    with pytest.raises(BadInputError, match=r"no header.*incremental_book_L2, book_snapshot, quotes, trades"):
        TardisFiles([write(tmp_path, "liquidations", "exchange,symbol,timestamp,local_timestamp,liquidations")])
    assert read(write(tmp_path, "quiet", TRADE)).batches == []


def test_columns_may_stand_anywhere_and_new_ones_are_passed_over(tmp_path: Path) -> None:
    header = "amount,new,price,side,id,local_timestamp,timestamp,symbol,exchange"
    row = f"2,?,100.5,sell,9,{START_US + 1},{START_US},BTCUSDT,venue"
    got = read(write(tmp_path, "t", header, row))
    (trade,) = got.rows(Kind.TRADE)
    assert (trade["instrument"], trade["price"], trade["size"], trade["aggressor"]) == ("venue:BTCUSDT", 1005, 2, -1)


def test_a_second_book_of_an_instrument_is_refused(tmp_path: Path) -> None:
    book = write(tmp_path, "b", BOOK, line(0, "true", "ask", "100", 7))
    quotes = write(tmp_path, "q", QUOTE, line(1, 3, "101", "100", 4), line(2, 3, "11", "10", 4, symbol="ETHUSD"))
    got = read(book, quotes)
    assert got.reasons == ["second_book"]
    assert {row["instrument"] for row in got.rows(Kind.BOOK)} == {"test:BTC-PERPETUAL", "test:ETHUSD"}


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    chain = line(
        0, "call", 100, START_US + 10**10, *[""] * 5, *[""] * 4, "", "", 100, *[""] * 5, symbol="BTC-1JAN21-100-C"
    )
    source = TardisFiles([write(tmp_path, "c", CHAIN, chain), write(tmp_path, "t", TRADE, line(0, 1, "buy", 1, 1))])
    once, again = list(source.batches()), list(source.batches())
    assert [batch.data for batch in once] == [batch.data for batch in again] != []


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_fields.read_blocks, "__defaults__", (1 << 14,))

    def peak(rows: int) -> int:
        lines = (line(at * 1_000, "false", "bid", 100 + at % 50, at % 7) for at in range(1, rows))
        path = write(tmp_path, f"b{rows}", BOOK, line(0, "true", "bid", "100.5", 1), *lines, zipped=True)
        tracemalloc.start()
        count = sum(batch.data.num_rows for batch in TardisFiles([path]).batches() if batch.kind is Kind.BOOK)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == rows
        return highest

    peak(1_000)
    assert peak(40_000) < 1.2 * peak(10_000)


@pytest.mark.data
def test_books_of_the_vendors_snapshot_files_are_its_rows(recorded_data: Path) -> None:
    folder = recorded_data / "fixtures" / "tardis"
    for name, levels in (("book_snapshot_25", 25), ("book_snapshot_5", 5)):
        path = folder / f"binance-futures_{name}_BTCUSDT.csv"
        header, *lines = path.read_text().split()
        names = header.split(",")
        got = read(path)
        books = replay_l2(got.batches, levels=levels)
        assert got.rejects == []
        assert books["valid"].all()
        assert len(lines) == len(books) == 10
        for text, book in zip(lines, books.iter_rows(named=True), strict=True):
            row = dict(zip(names, text.split(","), strict=True))
            for level in range(levels):
                for side in ("bid", "ask"):
                    assert book[f"{side}_price_{level}"] == round(float(row[f"{side}s[{level}].price"]) * 100)
                    assert book[f"{side}_size_{level}"] == round(float(row[f"{side}s[{level}].amount"]) * 1_000)


@pytest.mark.data
def test_the_vendors_incremental_snapshot_gives_its_asks(recorded_data: Path) -> None:
    path = recorded_data / "fixtures" / "tardis" / "deribit_incremental_book_L2_BTC-PERPETUAL.csv"
    got = read(path)
    (book,) = replay_l2(got.batches, levels=16).iter_rows(named=True)
    asks = [text.split(",")[6:] for text in path.read_text().split()[1:]]
    ours = [(book[f"ask_price_{i}"] / 2, book[f"ask_size_{i}"] * 10) for i in range(15)]
    assert ours == [(float(price), int(amount)) for price, amount in asks]
    assert book["ask_price_15"] is None
    assert book["bid_price_0"] is None


@pytest.mark.data
def test_all_the_vendors_samples_read_as_one_log_without_a_reject(recorded_data: Path) -> None:
    files = sorted((recorded_data / "fixtures" / "tardis").glob("*.csv"))
    got = read(*(path for path in files if "snapshot_5" not in path.name))
    assert got.rejects == []
    counts = {kind: len(got.rows(kind)) for kind in Kind}
    assert (counts[Kind.TRADE], counts[Kind.OPTION_QUOTE], counts[Kind.FUNDING]) == (10, 7, 2)
    assert {batch.underlying for batch in got.batches} == {"BTC", "ETH"}
