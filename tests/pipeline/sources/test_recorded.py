from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from small_chains import TAKEN, chain_rows, write_chains
from small_recording import START_MS, Lines, recv_ns, simulated

from features.errors import BadInputError, ConfigError
from features.events import EventBatch, Kind
from pipeline.sources.base import Reject
from pipeline.sources.recorded import RecordedFiles, RecordedSession
from pipeline.sources.runs import MERGE_ORDER

PRICE = {"BTC": 61_800.1, "ETH": 2_681.62}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten seconds of two perpetuals and longer of spot, and three chains six hours apart."""
    folder = tmp_path / "data" / "binance"
    folder.mkdir(parents=True)
    for seed, (market, symbol, diffs) in enumerate(
        (("spot", "BTCUSDT", 200), ("usdm", "BTCUSDT", 100), ("usdm", "ETHUSDT", 100))
    ):
        lines = simulated(seed, diffs, market, symbol)
        for second in range(diffs // 10):
            lines.trade(1_000 * second + 50, second, f"{PRICE[symbol[:3]] + second:.2f}", "0.010", m=True)
        lines.lines.sort()
        lines.write(folder)
    rows = [row for i in range(3) for row in chain_rows(TAKEN + timedelta(hours=6 * i))]
    write_chains(tmp_path / "data" / "deribit_options", rows)
    return tmp_path / "data"


def rows_of(batches: list[EventBatch], kind: Kind) -> list[dict[str, object]]:
    return [row for batch in batches if batch.kind is kind for row in batch.data.to_pylist()]


def test_files_merge_into_one_log_in_order(data: Path) -> None:
    source = RecordedFiles(sorted((data / "binance").glob("*.gz")))
    batches = list(source.batches())
    alone = [batch for recording in source.recordings for batch in recording.batches()]
    keys = [
        (row["ts_recv"], MERGE_ORDER[batch.kind] if batch.kind is Kind.INSTRUMENT else 9)
        for batch in batches
        for row in batch.data.to_pylist()
    ]
    assert keys == sorted(keys)
    for kind in (Kind.BOOK, Kind.TRADE, Kind.HEARTBEAT, Kind.INSTRUMENT):
        together, apart = rows_of(batches, kind), rows_of(alone, kind)
        for name in {str(row["instrument"]) for row in apart}:
            assert [row for row in together if row["instrument"] == name] == [
                row for row in apart if row["instrument"] == name
            ]
        assert len(together) == len(apart)
    assert {batch.underlying for batch in batches} == {"BTC", "ETH"}


def test_session_names_its_underlyings_and_says_that_it_is_retimed(data: Path) -> None:
    session = RecordedSession(data)
    assert session.underlyings == ("BTC", "ETH")
    assert session.reference_instruments == {"BTC": "binance-usdm:BTCUSDT", "ETH": "binance-usdm:ETHUSDT"}
    for part in ("2023-11-14 22:13 UTC", "2026-02-01 08:00 UTC", "30 s", "rescaled"):
        assert part in session.notice


def test_chains_are_placed_evenly_at_prices_the_session_has_shown(data: Path) -> None:
    batches = list(RecordedSession(data, chain_interval_s=3.7).batches())
    quotes = [row for row in rows_of(batches, Kind.OPTION_QUOTE) if row["instrument"] == "deribit:BTC-6FEB26-80000-C"]
    placed_s = [(int(str(row["ts_recv"])) - recv_ns(START_MS)) / 1e9 for row in quotes]
    assert placed_s == pytest.approx([0.05, 3.75, 7.45], abs=1e-9)
    introduced = [row for row in rows_of(batches, Kind.INSTRUMENT) if row["instrument"] == quotes[0]["instrument"]]
    for i, (quote, reference) in enumerate(zip(quotes, introduced, strict=True)):
        trade = PRICE["BTC"] + (0, 3, 7)[i]
        assert quote["forward_e9"] == pytest.approx(78_919.8 * trade / 78_933.64 * 1e9, rel=1e-12)
        assert quote["strike_e9"] == pytest.approx(80_000 * trade / 78_933.64 * 1e9, rel=1e-12)
        assert quote["strike_e9"] == reference["strike_e9"]
        left_ns = int(str(quote["expiry_ns"])) - int(str(quote["ts_event"]))
        assert left_ns == (5 * 24 - 6 * i) * 3_600 * 10**9
        assert (quote["bid"], quote["ask"]) == (1_150, 1_180)


def test_chains_wait_for_a_price_and_never_run_ahead_of_the_log(data: Path) -> None:
    batches = list(RecordedSession(data, chain_interval_s=2.0).batches())
    recv = [row["ts_recv"] for batch in batches for row in batch.data.to_pylist()]
    assert recv == sorted(recv, key=lambda each: int(str(each)))
    traded: set[str] = set()
    stream: dict[str, int] = {}
    for batch in batches:
        if batch.kind is Kind.TRADE:
            traded |= {f"{batch.underlying} {name}" for name in batch.data.column(0).to_pylist()}
        if batch.kind is Kind.OPTION_QUOTE:
            assert f"{batch.underlying} binance-usdm:{batch.underlying}USDT" in traded
            assert set(batch.data.column(1).to_pylist()) == {stream[batch.underlying]}
        if batch.kind is not Kind.INSTRUMENT:
            newest = max(batch.data.column(1).to_pylist())
            stream[batch.underlying] = max(newest, stream.get(batch.underlying, newest))


def test_minutes_cut_the_session_and_it_ends_with_the_perpetuals(data: Path) -> None:
    def length_s(minutes: float) -> float:
        batches = list(RecordedSession(data, minutes).batches())
        return (batches[-1].data.column(2).to_pylist()[-1] - batches[0].data.column(2).to_pylist()[0]) / 1e9

    assert length_s(0.1) == pytest.approx(6, abs=0.11)
    assert length_s(5) == pytest.approx(10, abs=0.11)


def test_a_damaged_perpetual_leaves_the_rest_flowing(data: Path) -> None:
    path = next((data / "binance").glob("usdm_ethusdt*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rejects: list[Reject] = []
    batches = list(RecordedSession(data, on_reject=rejects.append).batches())
    assert [reject.reason for reject in rejects] == ["truncated_gzip"]
    trades = rows_of(batches, Kind.TRADE)
    assert sum(row["instrument"] == "binance-usdm:BTCUSDT" for row in trades) == 10
    assert 0 < sum(row["instrument"] == "binance-usdm:ETHUSDT" for row in trades) < 10


def test_missing_parts_say_what_to_do(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="binance does not exist") as error:
        RecordedSession(tmp_path / "nowhere")
    assert "binance/ and deribit_options/" in error.value.remedy
    for path in (data / "deribit_options").glob("*"):
        path.unlink()
    with pytest.raises(BadInputError, match=r"deribit_options holds no \*_options_\*\.parquet"):
        RecordedSession(data)
    with pytest.raises(ConfigError):
        RecordedSession(data, minutes=0)


def test_without_a_perpetual_spot_stands_for_the_underlying(tmp_path: Path) -> None:
    lines = Lines("spot")
    lines.trade(0, 1, "100.00", "1.000", m=True)
    assert RecordedFiles([lines.write(tmp_path)]).reference_instruments == {"BTC": "binance-spot:BTCUSDT"}


@pytest.mark.data
def test_real_session_is_one_ordered_log(recorded_data: Path) -> None:
    session = RecordedSession(recorded_data, minutes=1)
    assert session.underlyings == ("BTC", "ETH")
    last, kinds, names = 0, set(), set()
    for batch in session.batches():
        recv = batch.data.column(2).to_numpy()
        assert recv[0] >= last
        assert (recv[1:] >= recv[:-1]).all()
        last = int(recv[-1])
        kinds.add(batch.kind)
        names |= set(batch.data.column(0).dictionary.to_pylist()[:1])
    assert kinds == {Kind.INSTRUMENT, Kind.BOOK, Kind.TRADE, Kind.OPTION_QUOTE, Kind.HEARTBEAT}
    assert {"binance-spot:BTCUSDT", "binance-usdm:BTCUSDT", "binance-usdm:ETHUSDT"} <= names
    assert all(not recording.rejected and not recording.skipped for recording in session.recordings)
