from __future__ import annotations

import gzip
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from small_chains import TAKEN, chain_rows, write_chains
from small_recording import simulated
from small_tardis import TRADE, line, write
from typer.testing import CliRunner

from features.errors import BadInputError, ConfigError
from features.events import EventBatch, Kind
from pipeline.cli import app
from pipeline.commands.increments import increments_of
from pipeline.lake import Lake, positioned
from pipeline.lake_writer import stored_columns
from pipeline.query import open_lake
from pipeline.sources.base import Reject
from pipeline.sources.deribit import DeribitChains
from pipeline.sources.deribit_recording import DeribitRecording
from pipeline.sources.lake_source import LakeSource
from pipeline.sources.lobster import LobsterFiles
from pipeline.sources.open_files import MergedSource, open_source
from pipeline.sources.recorded import RecordedFiles
from pipeline.sources.stamped import stamped
from pipeline.sources.tardis import TardisFiles
from pipeline.tables import TABLES


def everything(folder: Path) -> dict[str, list[Path]]:
    """Small files of every kind."""
    lines = simulated(1, 40, "usdm", "BTCUSDT")
    lines.trade(50, 1, "61800.1", "0.010", m=True)
    lines.lines.sort()
    rows = [row for i in range(2) for row in chain_rows(TAKEN + timedelta(hours=6 * i))]
    write_chains(folder / "chains", rows)
    name = "ABC_2012-06-21_34200000_57600000_{}_1.csv"
    texts = {"message": "34200.5,1,11,100,1000000,1\n", "orderbook": "1010000,5,1000000,100\n"}
    for what, text in texts.items():
        (folder / name.format(what)).write_text(text)
    deribit = folder / "recorded-somewhere"
    book = (
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.raw","data":{"type":"snapshot",'
        '"timestamp":1626993723000,"instrument_name":"BTC-PERPETUAL","change_id":5,'
        '"bids":[["new",32000.0,10.0]],"asks":[["new",32000.5,20.0]]}}}'
    )
    deribit.write_bytes(gzip.compress(f"wss://x <-> 1626993723.1\n1626993723.2: {book}\n".encode()))
    return {
        "binance": [lines.write(folder)],
        "chains": sorted((folder / "chains").iterdir()),
        "lobster": [folder / name.format("message")],
        "deribit": [deribit],
        "tardis": [write(folder, "anything", TRADE, *(line(at, at, "buy", "100.5", 1) for at in range(1, 9)))],
    }


def rows_of(batches: list[EventBatch]) -> dict[tuple[str, str], list[dict[str, object]]]:
    found: dict[tuple[str, str], list[dict[str, object]]] = {}
    for batch in batches:
        for row in batch.data.to_pylist():
            found.setdefault((batch.kind, str(row["instrument"])), []).append(row)
    return found


def test_content_tells_what_a_file_is(tmp_path: Path) -> None:
    files = everything(tmp_path)
    assert isinstance(open_source(files["binance"]), RecordedFiles)
    assert isinstance(open_source(files["chains"]), DeribitChains)
    assert isinstance(open_source(files["lobster"]), LobsterFiles)
    assert isinstance(open_source(files["deribit"]), DeribitRecording)
    assert isinstance(open_source(files["tardis"]), TardisFiles)


def test_files_of_all_kinds_are_one_log(tmp_path: Path) -> None:
    files = everything(tmp_path)
    rejects: list[Reject] = []
    source = open_source([path for group in files.values() for path in group], on_reject=rejects.append)
    assert isinstance(source, MergedSource)
    together = list(source.batches())
    apart = [batch for group in files.values() for batch in open_source(group).batches()]
    assert rows_of(together) == rows_of(apart)
    assert {kind for kind, _ in rows_of(together)} >= {Kind.BOOK, Kind.TRADE, Kind.OPTION_QUOTE, Kind.INSTRUMENT}
    received = [row["ts_recv"] for batch in together for row in batch.data.to_pylist()]
    assert received == sorted(received)
    assert [batch.data for batch in together] == [batch.data for batch in source.batches()]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("notes.txt", b"hello\nworld\n", "is nothing that can be read as market data"),
        ("empty.csv", b"", "is empty"),
        ("other.csv", b"time,price\n1,2\n", "Supported are Binance recordings"),
        ("strange.gz", b"1723075200000000000 {}\n", "does not tell market and symbol"),
        ("ABC_2012-06-21_1_2_message_1.csv", b"34200.5,1,11,100,1000000,1\n", "without ABC_2012-06-21_1_2_orderbook_1"),
    ],
)
def test_what_cannot_be_read_says_what_can(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=problem):
        open_source([path])


def test_nothing_missing_and_folders(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No file was named"):
        open_source([])
    with pytest.raises(BadInputError, match="does not exist"):
        open_source([tmp_path / "none"])
    with pytest.raises(BadInputError, match="and no lake"):
        open_source([tmp_path])
    with pytest.raises(BadInputError, match="the folder of one lake"):
        open_source([tmp_path, tmp_path])


def test_a_lake_is_a_source_of_what_went_into_it(tmp_path: Path) -> None:
    files = everything(tmp_path)
    source = open_source([*files["tardis"], *files["deribit"]])
    sent = list(stamped(source, Counter()))
    lake = Lake(tmp_path / "lake")
    tables = {table.kind: table for table in TABLES.values()}
    for offset, batch in enumerate(sent):
        table = tables[batch.kind]
        columns = stored_columns(batch)
        lake.append(table, positioned(table, columns, 0, offset, range(batch.data.num_rows)), {})
    again = open_source([tmp_path / "lake"])
    assert isinstance(again, LakeSource)
    plain = list(again.batches())
    assert {
        row[name] for rows in rows_of(plain).values() for row in rows for name in ("seq", "late_ns", "ref_version")
    } == {0}
    assert rows_of(list(stamped(again, Counter()))) == rows_of(sent)


def test_a_backfill_from_files_counts_what_it_could_not_use(tmp_path: Path) -> None:
    good = [line(at * 500_000, at, "buy", "100.5", 1, exchange="sim", symbol="BTC-PERP") for at in range(1, 9)]
    path = write(tmp_path, "t", TRADE, *good, "torn", line(9_000_000, 9, "buy", "0", 1))
    done = CliRunner().invoke(app, ["backfill", "--from", str(path), "--to", str(tmp_path / "lake")])
    assert done.exit_code == 0, done.output
    assert "rejected bad_trade 1, unexpected_form 1" in done.output
    with open_lake(tmp_path / "lake") as lake:
        ((bars, trades),) = lake.sql("SELECT count(*), sum(trade_count) FROM features").fetchall()
    assert bars >= 3
    assert trades >= 6
    with pytest.raises(ConfigError, match="no tables to compare"):
        CliRunner().invoke(
            app, ["backfill", "--from", str(path), "--to", str(tmp_path / "b"), "--compare"], catch_exceptions=False
        )


def test_increments_on_the_command_line(tmp_path: Path) -> None:
    assert increments_of(["a:b*=0.5,10"]) == {"a:b*": ("0.5", "10")}
    assert increments_of(None) == {}
    with pytest.raises(ConfigError, match=r"not NAME=PRICE,SIZE"):
        increments_of(["a:b=0.5"])


@pytest.mark.data
def test_every_recorded_sample_opens(recorded_data: Path) -> None:
    fixtures = recorded_data / "fixtures"
    kinds = {path.name: type(open_source([path])).__name__ for path in sorted(fixtures.rglob("*")) if path.is_file()}
    assert set(kinds.values()) == {"TardisFiles", "LobsterFiles", "DeribitRecording"}
    assert type(open_source(sorted((recorded_data / "binance").glob("*.gz")))) is RecordedFiles
