from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_recording import LATENCY_MS, START_MS, Lines, read, recv_ns, simulated

from features.errors import BadInputError
from features.events import LAST, SNAPSHOT, Kind
from pipeline.sources.binance import BinanceRecording, recordings_of
from pipeline.sources.binance_decoder import BookTicker
from pipeline.sources.binance_instruments import BinanceInstrument

BID, ASK = ("100.1", "2.000"), ("100.2", "3.000")


@pytest.fixture
def usdm() -> Lines:
    """Two diffs before the snapshot, two after it."""
    lines = Lines()
    lines.diff(0, 90, 95, [BID])
    lines.diff(100, 95, 105, [("100.0", "1.500")], [("100.2", "0.000"), ("100.3", "1.000")])
    lines.snapshot(150, 100, [BID], [ASK])
    lines.diff(200, 105, 110, [("100.1", "0.000")])
    lines.trade(210, 7, "100.3", "0.250", m=False)
    lines.trade(220, 8, "100.0", "1.250", m=True)
    lines.diff(300, 110, 120, [], [("100.3", "4.000")])
    return lines


def test_rows_of_a_small_session(usdm: Lines, tmp_path: Path) -> None:
    got = read(usdm.write(tmp_path))
    assert got.rejects == []
    assert got.events() == [(100, 100, SNAPSHOT | LAST), (95, 105, LAST), (105, 110, LAST), (110, 120, LAST)]
    levels = [(row["side"], row["price"], row["size"]) for row in got.rows(Kind.BOOK)]
    assert levels[:2] == [(1, 1_001, 2_000), (-1, 1_002, 3_000)]
    assert levels[2:5] == [(1, 1_000, 1_500), (-1, 1_002, 0), (-1, 1_003, 1_000)]
    assert got.batches[0].kind is Kind.INSTRUMENT
    (introduced,) = got.rows(Kind.INSTRUMENT)
    assert introduced["instrument"] == "binance-usdm:BTCUSDT"
    assert (introduced["price_increment_e9"], introduced["size_increment_e9"]) == (100_000_000, 1_000_000)
    assert (introduced["instrument_type"], introduced["is_inverse"]) == ("perpetual", False)
    assert {batch.underlying for batch in got.batches} == {"BTC"}
    assert {row[name] for kind in Kind for row in got.rows(kind) for name in ("seq", "late_ns", "ref_version")} == {0}


def test_times_are_the_venues_and_ours_unchanged(usdm: Lines, tmp_path: Path) -> None:
    got = read(usdm.write(tmp_path))
    rows = [row for row in got.rows(Kind.BOOK) if row["flags"] & LAST]
    at = [150, 100, 200, 300]  # the held diff keeps its own event time
    assert [row["ts_event"] for row in rows] == [(START_MS + ms) * 1_000_000 for ms in at]
    available = [150, 150, 200, 300]  # but was not available before the snapshot
    assert [row["ts_recv"] for row in rows] == [recv_ns(START_MS + ms) for ms in available]
    assert got.recording.clock_offset_ns == (-1_270 + LATENCY_MS) * 1_000_000


def test_aggressor_is_who_took(usdm: Lines, tmp_path: Path) -> None:
    usdm.trade(230, 9, "100.0", "9.000", m=True, X="INSURANCE_FUND")
    got = read(usdm.write(tmp_path))
    trades = [(row["trade_id"], row["price"], row["size"], row["aggressor"]) for row in got.rows(Kind.TRADE)]
    assert trades == [(7, 1_003, 250, 1), (8, 1_000, 1_250, -1)]
    assert got.recording.skipped == {"non_market_trade": 1}


def test_spot_chains_by_first_id_and_has_times_only_where_the_venue_gives_them(tmp_path: Path) -> None:
    spot = Lines("spot")
    spot.ticker(0, 98, ("100.00", "1.00000000"), ("100.01", "2.00000000"))
    spot.diff(10, 90, 102, [("100.00", "1.00000000")])
    spot.snapshot(20, 95, [("100.00", "0.50000000")], [("100.01", "0.00000100")])
    spot.diff(110, 102, 103, [], [("100.01", "0.00001000")])
    got = read(spot.write(tmp_path))
    assert got.rejects == []
    assert got.events() == [(95, 95, SNAPSHOT | LAST), (90, 102, LAST), (102, 103, LAST)]
    assert [row["size"] for row in got.rows(Kind.BOOK)] == [500_000, 1, 1_000_000, 10]
    event = [row["ts_event"] for row in got.rows(Kind.BOOK)]
    assert event[0] == event[2] == (START_MS + 11) * 1_000_000  # a snapshot without a time has the stream's


def test_heartbeats_carry_each_new_second_of_the_venues_time(usdm: Lines, tmp_path: Path) -> None:
    for at in (900, 1_500, 1_600, 4_200):
        usdm.ticker(at, 1, BID, ASK)
    beats = read(usdm.write(tmp_path)).rows(Kind.HEARTBEAT)
    assert [row["ts_event"] // 1_000_000 - START_MS for row in beats] == [0, 1_500, 4_200]


def test_book_is_sent_again_and_equals_what_the_diffs_made(usdm: Lines, tmp_path: Path) -> None:
    got = read(usdm.write(tmp_path), resnapshot_s=0.1)
    again = [row for row in got.rows(Kind.BOOK) if row["flags"] & SNAPSHOT and row["update_id"] == 120]
    assert [(row["side"], row["price"], row["size"]) for row in again] == [(1, 1_000, 1_500), (-1, 1_003, 4_000)]
    assert {row["prev_id"] for row in again} == {120}


def test_best_quotes_go_to_the_caller_and_not_into_the_log(usdm: Lines, tmp_path: Path) -> None:
    usdm.ticker(400, 120, ("100.0", "1.500"), ("100.3", "4.000"))
    tickers: list[BookTicker] = []
    got = read(usdm.write(tmp_path), on_book_ticker=tickers.append)
    assert tickers == [BookTicker("binance-usdm:BTCUSDT", 120, 1_000, 1_500, 1_003, 4_000)]
    assert got.events()[-1][1] == 120


def mark_price(at_ms: int, **more: object) -> dict[str, object]:
    """``T`` is when funding is next paid, hours ahead: no time of this message."""
    when = {"E": START_MS + at_ms, "T": START_MS + 8 * 3_600_000}
    data = {"e": "markPriceUpdate", "s": "BTCUSDT", "p": "100.15000000", "i": "100.20000000", "r": "0.00010000"}
    return {"stream": "btcusdt@markPrice@1s", "data": data | when | more}


def test_a_mark_price_is_a_funding_row_at_its_own_time(usdm: Lines, tmp_path: Path) -> None:
    usdm.raw(350, mark_price(350))
    usdm.raw(1_350, mark_price(1_350, r="-0.00003125", i=""))
    usdm.raw(1_360, mark_price(1_360, r=""))  # a dated future has no rate
    got = read(usdm.write(tmp_path))
    first, second = got.rows(Kind.FUNDING)
    assert (first["ts_event"], first["rate_e9"]) == ((START_MS + 350) * 1_000_000, 100_000)
    assert (first["mark_e9"], first["index_e9"]) == (100_150_000_000, 100_200_000_000)
    assert first["open_interest_e9"] is None
    assert (second["rate_e9"], second["index_e9"]) == (-31_250, None)
    assert got.reasons == ["missing_field"]
    assert [row["ts_event"] // 1_000_000 - START_MS for row in got.rows(Kind.HEARTBEAT)] == [0, 1_350]


def test_a_mark_price_before_anything_tells_the_increments_is_left_out(tmp_path: Path) -> None:
    lines = Lines("usdm", "SOLUSDT")
    lines.raw(0, mark_price(0, s="SOLUSDT"))
    lines.trade(10, 1, "23.45", "1.00", m=True)
    lines.raw(20, mark_price(20, s="SOLUSDT"))
    got = read(lines.write(tmp_path))
    assert got.batches[0].kind is Kind.INSTRUMENT
    assert len(got.rows(Kind.FUNDING)) == 1
    assert got.recording.skipped == {"early_funding": 1}


def test_files_of_one_instrument_go_on_from_each_other(usdm: Lines, tmp_path: Path) -> None:
    whole = read(usdm.write(tmp_path / "..", "20231113"))
    first, second = Lines(lines=usdm.lines[:4]), Lines(lines=usdm.lines[4:])
    parts = read(first.write(tmp_path, "20231114"), second.write(tmp_path, "20231115", zipped=False))
    assert [batch.data.to_pylist() for batch in parts.batches] == [batch.data.to_pylist() for batch in whole.batches]


# -- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"stream":"btcusdt@depth","data":{"e":"depthUpdate","b":[["1', "broken_json"),
        ('{"stream":1}', "unexpected_form"),
        ('{"result":null,"id":1}', "unknown_message"),
        ('{"stream":"btcusdt@kline","data":{"e":"kline","s":"BTCUSDT"}}', "unknown_message"),
        ({"e": "trade", "s": "DOGEUSDT", "T": START_MS, "t": 1, "p": "1.0", "q": "1.000", "m": True}, "unknown_symbol"),
        ({"e": "trade", "s": "BTCUSDT", "T": 1, "t": 1, "p": "1.0", "q": "1.000", "m": True}, "clock_step"),
        ({"e": "trade", "s": "BTCUSDT", "T": START_MS, "t": 1, "p": "1.0", "q": "-1.000", "m": True}, "bad_trade"),
        ({"e": "trade", "s": "BTCUSDT", "T": START_MS, "t": 1, "p": "1.0", "q": "1.000"}, "missing_field"),
        ({"e": "trade", "s": "BTCUSDT", "T": START_MS, "t": 1, "p": 1.0, "q": "1.000", "m": True}, "unexpected_form"),
        ({"e": "trade", "s": "BTCUSDT", "T": START_MS, "t": 2**63, "p": "1", "q": "1", "m": True}, "unexpected_form"),
    ],
)  # fmt: skip
def test_a_bad_line_is_a_dead_letter_and_the_rest_still_flows(
    usdm: Lines, tmp_path: Path, line: object, reason: str
) -> None:
    clean = read(usdm.write(tmp_path, "20231113"))
    message = line if isinstance(line, str) else json.dumps({"stream": "btcusdt@x", "data": line})
    usdm.raw(160, message)
    usdm.lines.insert(3, usdm.lines.pop())
    path = usdm.write(tmp_path)
    got = read(path)
    assert got.reasons == [reason]
    assert got.rejects[0].payload == usdm.lines[3]
    assert got.rejects[0].origin == f"{path}:4"
    assert got.recording.rejected == {reason: 1}
    assert [batch.data.to_pylist() for batch in got.batches] == [batch.data.to_pylist() for batch in clean.batches]


@pytest.mark.parametrize("line", [b"", b"\xff\xfe\x00", b"{}", b"99999999999999999999999 {}", b"-5 {}", b"12"])
def test_any_bytes_are_at_most_a_dead_letter(usdm: Lines, tmp_path: Path, line: bytes) -> None:
    events = read(usdm.write(tmp_path, "20231113")).events()
    usdm.lines.insert(2, line)
    got = read(usdm.write(tmp_path))
    assert len(got.rejects) == (1 if line else 0)
    assert got.events() == events


flips_of_bytes = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=3)


@given(st.integers(0, 39), st.sampled_from(["BTCUSDT", "SOLUSDT"]), flips_of_bytes)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_never_stop_the_source(
    tmp_path: Path, at: int, symbol: str, flips: list[tuple[float, int]]
) -> None:
    lines = simulated(5, 20, symbol=symbol)
    line = bytearray(lines.lines[at])
    for where, byte in flips:
        line[int(where * len(line))] = byte
    lines.lines[at] = bytes(line).replace(b"\n", b"?")
    got = read(lines.write(tmp_path), on_book_ticker=lambda _: None)
    assert set(got.reasons) - {"no_snapshot"} == set(got.recording.rejected) - {"no_snapshot"}
    if symbol == "BTCUSDT":  # of another symbol, the first message tells the increments, and it may lie
        assert len(got.rejects) <= 2


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ([("100.0", "-1.000")], "bad_level"),
        ([("0.0", "1.000")], "bad_level"),
        ([("-100.0", "1.000")], "bad_level"),
        ([("100.05", "1.000")], "off_increment"),
        ([("100.0", "1.0005")], "off_increment"),
        ([("1e2", "1.000")], "bad_decimal"),
        ([("99999999999999999999", "1.000")], "number_overflow"),
        ([(100.0, 1.0)], "unexpected_form"),
    ],
)
def test_a_diff_with_a_bad_level_goes_as_a_whole_and_the_ids_then_break(
    usdm: Lines, tmp_path: Path, levels: list[tuple[str, str]], reason: str
) -> None:
    usdm.diff(310, 120, 130, [("99.9", "1.000"), *levels])
    usdm.diff(400, 130, 140, [("99.8", "1.000")])
    usdm.diff(40_000, 140, 150, [("99.8", "2.000")])
    got = read(usdm.write(tmp_path))
    assert got.reasons == [reason, "no_snapshot"]
    assert got.events()[-2:] == [(110, 120, LAST), (130, 140, LAST)]  # the break itself, and no snapshot of ours
    assert got.recording.skipped == {"gap": 1}


def test_after_a_gap_a_fresh_snapshot_heals_the_book(usdm: Lines, tmp_path: Path) -> None:
    usdm.diff(400, 125, 130, [("99.8", "1.000")])
    usdm.diff(500, 130, 140, [("99.7", "1.000")])
    usdm.snapshot(600, 128, [BID], [ASK])
    got = read(usdm.write(tmp_path))
    assert got.rejects == []
    assert got.events()[-4:] == [(125, 130, LAST), (128, 128, SNAPSHOT | LAST), (125, 130, LAST), (130, 140, LAST)]


def test_without_a_snapshot_there_is_no_book_and_the_trades_still_flow(usdm: Lines, tmp_path: Path) -> None:
    del usdm.lines[2]
    got = read(usdm.write(tmp_path))
    assert got.reasons == ["no_snapshot"]
    assert got.rows(Kind.BOOK) == []
    assert len(got.rows(Kind.TRADE)) == 2


def test_truncated_gzip_keeps_what_came_before(usdm: Lines, tmp_path: Path) -> None:
    for i in range(2_000):
        usdm.trade(400 + i, 10 + i, "100.0", f"{i % 97 + 1}.000", m=bool(i % 3))
    path = usdm.write(tmp_path)
    whole = len(read(path).rows(Kind.TRADE))
    path.write_bytes(path.read_bytes()[:-2_000])
    got = read(path)
    assert got.reasons == ["truncated_gzip"]
    trades = [row["trade_id"] for row in got.rows(Kind.TRADE)]
    assert 1_000 < len(trades) < whole
    assert trades == [7, 8, *range(10, 8 + len(trades))]


def test_bad_files_say_what_to_do(tmp_path: Path) -> None:
    empty = tmp_path / "usdm_btcusdt_1.gz"
    empty.touch()
    hollow = tmp_path / "usdm_btcusdt_2.gz"
    hollow.write_bytes(gzip.compress(b""))
    strange = tmp_path / "notes.txt"
    strange.write_text("1 {}")
    coin = tmp_path / "usdm_nothing_1.gz"
    coin.write_text("1 {}")
    for path, problem in (
        (empty, "is empty"),
        (tmp_path / "no" / "usdm_btcusdt_1.gz", "does not exist"),
        (strange, "does not tell market and symbol"),
        (coin, "no known quote currency"),
    ):
        for make in (lambda: BinanceRecording([path]), lambda: recordings_of([path])):  # noqa: B023 # used at once
            with pytest.raises(BadInputError, match=problem) as error:
                make()
            assert error.value.remedy
    with pytest.raises(BadInputError, match="holds no line"):
        list(BinanceRecording([hollow]).batches())
    with pytest.raises(BadInputError, match="No file"):
        recordings_of([])


# -- symbols ----------------------------------------------------------------------------------------------------------


def test_a_symbol_outside_the_table_takes_its_increments_from_what_it_prints(tmp_path: Path) -> None:
    lines = Lines("spot", "SOLUSDC")
    lines.diff(0, 1, 2)
    lines.diff(5, 2, 3, [("23.4500", "1.20")])
    lines.snapshot(10, 2, [("23.4400", "0.10")], [("23.4600", "7.00")])
    lines.trade(20, 1, "23.45005", "1.00", m=True)
    got = read(lines.write(tmp_path))
    (introduced,) = got.rows(Kind.INSTRUMENT)
    assert introduced["instrument"] == "binance-spot:SOLUSDC"
    assert (introduced["price_increment_e9"], introduced["size_increment_e9"]) == (100_000, 10_000_000)
    assert (introduced["instrument_type"], introduced["quote_currency"]) == ("spot", "USDC")
    assert got.batches[0].kind is Kind.INSTRUMENT
    assert [row["price"] for row in got.rows(Kind.BOOK)] == [234_400, 234_600, 234_500]
    assert got.reasons == ["off_increment"]


def test_an_instrument_may_be_named_where_the_file_does_not(usdm: Lines, tmp_path: Path) -> None:
    path = usdm.write(tmp_path).rename(tmp_path / "capture")
    instrument = BinanceInstrument.of("usdm", "btcusdt")
    assert (instrument.underlying, instrument.name) == ("BTC", "binance-usdm:BTCUSDT")
    assert len(read(path, instrument=instrument).events()) == 4
    with pytest.raises(BadInputError, match="no market"):
        BinanceInstrument.of("coinm", "BTCUSD")


def test_recordings_are_grouped_by_instrument(tmp_path: Path) -> None:
    paths = []
    for market, symbol, day in (("spot", "BTCUSDT", "1"), ("usdm", "ETHUSDT", "1"), ("spot", "BTCUSDT", "2")):
        lines = Lines(market, symbol)
        lines.trade(0, 1, "100.00", "1.000", m=True)
        paths.append(lines.write(tmp_path, day))
    found = recordings_of(paths)
    assert [(recording.name, recording.paths) for recording in found] == [
        ("binance-spot:BTCUSDT", [paths[0], paths[2]]),
        ("binance-usdm:ETHUSDT", [paths[1]]),
    ]
    assert found[0].first_receive_ns() == recv_ns(START_MS)


# -- real recordings --------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_real_clock_offset_and_no_break(recorded_data: Path) -> None:
    got = read(recorded_data / "binance" / "usdm_ethusdt_20240808.gz")
    assert got.rejects == []
    assert got.recording.skipped == {}  # no gap among it
    assert got.recording.clock_offset_ns is not None
    assert -1_280_000_000 < got.recording.clock_offset_ns < -1_265_000_000
    recv = np.concatenate([batch.data.column(2).to_numpy() for batch in got.batches])
    assert (np.diff(recv) >= 0).all()
    rows = {kind: sum(batch.data.num_rows for batch in got.batches if batch.kind is kind) for kind in Kind}
    assert rows[Kind.TRADE] == 14_076
    assert rows[Kind.HEARTBEAT] == pytest.approx(346, abs=2)
