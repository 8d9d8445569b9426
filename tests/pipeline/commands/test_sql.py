"""``hedgeflow sql`` with a query: what it prints and writes, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from tiny_lake import append_rows, bar
from typer.testing import CliRunner, Result

from features.errors import HedgeflowError
from pipeline.cli import app
from pipeline.query_output import cell


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lake")
    append_rows(path, "features", [bar(second, 100.0 + second) for second in range(3)])
    return path


def run(lake: Path, *words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["sql", "--lake", str(lake), *words], input=text)


def told(lake: Path, *words: str, text: str | None = None) -> str:
    result = run(lake, *words, text=text)
    assert result.exception is None, result.exception
    return result.output


ROWS = "select bar_ts, mid, book_valid, null as nothing, 'a\"b,c' as text from features order by bar_ts"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(11657.07, "11657.07"), (11657.08, "11657.08"), (100_000.01, "100000.01"), (0.25, "0.25"), (7, "7"), ("a", "a")],
)
def test_prices_a_tick_apart_are_told_apart(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_csv(lake: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(told(lake, ROWS, "--format", "csv"))))
    assert [row["mid"] for row in rows] == ["100.0", "101.0", "102.0"]
    assert (rows[0]["book_valid"], rows[0]["nothing"], rows[0]["text"]) == ("true", "", 'a"b,c')


def test_json_is_one_array_and_jsonl_a_line_a_row(lake: Path) -> None:
    rows = json.loads(told(lake, ROWS, "--format", "json"))
    assert rows == [json.loads(line) for line in told(lake, ROWS, "--format", "jsonl").splitlines()]
    assert rows[0] == {
        "bar_ts": 1767571200000000000,
        "mid": 100.0,
        "book_valid": True,
        "nothing": None,
        "text": 'a"b,c',
    }
    assert json.loads(told(lake, "select 1 as a where false", "--format", "json")) == []


def test_parquet_to_a_file_and_through_a_pipe(lake: Path, tmp_path: Path) -> None:
    told(lake, ROWS, "--output", str(tmp_path / "bars.parquet"))
    frame = pl.read_parquet(tmp_path / "bars.parquet")
    assert frame["mid"].to_list() == [100.0, 101.0, 102.0]
    piped = run(lake, ROWS, "--format", "parquet").stdout_bytes
    assert pl.read_parquet(io.BytesIO(piped)).equals(frame)


def test_the_files_name_says_the_format(lake: Path, tmp_path: Path) -> None:
    for name, start in (("a.csv", "n\n"), ("a.json", '[{"n"'), ("a.jsonl", '{"n"'), ("a.txt", "┏")):
        told(lake, "select 1 as n", "--output", str(tmp_path / name))
        assert (tmp_path / name).read_text().startswith(start)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.jsonl", "a.txt"]


def test_a_long_answer_is_complete_in_every_format_but_the_table(lake: Path, tmp_path: Path) -> None:
    query = "select range as n from range(250000)"
    for ending in ("csv", "jsonl", "parquet", "json"):
        told(lake, query, "--output", str(tmp_path / f"all.{ending}"))
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 250_001
    assert len(json.loads((tmp_path / "all.json").read_text())) == 250_000
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 250_000
    assert (
        pl.scan_parquet(tmp_path / "all.parquet").select(pl.col("n").sum()).collect().item() == 250_000 * 249_999 // 2
    )
    shown = told(lake, query, "--rows", "3")
    assert "... more than 3 rows (--rows, or --format csv)" in shown
    assert "│ 2 " in shown
    assert "│ 3 " not in shown


def test_many_columns_stand_upright(lake: Path) -> None:
    shown = told(lake, "select * from features where mid = 101")
    assert "-- row 1\n" in shown
    assert "                     mid  101\n" in shown


def test_a_query_comes_through_a_pipe(lake: Path) -> None:
    assert told(lake, "--format", "csv", text="select 1 as a;\nselect count(*) as n from features;\n") == "n\n3\n"
    assert "one row an instrument and bar" in told(lake, text="")


def test_bytes_and_times(lake: Path) -> None:
    query = "select '\\x00\\xff'::BLOB as raw, utc(1767571200000000001) as time, 170141183460469231731::HUGEINT as big"
    row = told(lake, query, "--format", "csv").splitlines()[1].split(",")
    assert (row[0], row[2]) == ("00ff", "170141183460469231731")
    assert row[1].startswith("2026-01-05 00:00:00")


def test_as_of(lake: Path) -> None:
    count = ("select count(*) as n from features", "--format", "csv", "--as-of")
    assert told(lake, *count, "2020-01-01") == "n\n0\n"
    assert told(lake, *count, "2999-01-01T00:00:00Z") == "n\n3\n"


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("select midd from features",), 'Candidate bindings: "mid"', 3),
        (("selec 1",), "DuckDB says: Parser Error", 3),
        (("select 1", "--as-of", "yesterday"), "'yesterday' is no time. Such as 2026-", 3),
        (("select 1", "--output", "nowhere/at/all.csv"), "nowhere/at/all.csv cannot be written", 3),
        (("select 1", "--lake", "nowhere"), "There is no lake at nowhere", 7),
    ],
)
def test_errors_are_one_line_with_the_remedy(lake: Path, words: tuple[str, ...], said: str, code: int) -> None:
    error = run(lake, *words).exception
    assert isinstance(error, HedgeflowError)
    assert said in str(error)
    assert "\n" not in str(error)
    assert error.remedy
    assert error.exit_code == code


def test_a_query_that_fails_leaves_no_file(lake: Path, tmp_path: Path) -> None:
    query = "select 1 // (range - 200000) as n, error('late') from range(250000) where range > 249998"
    assert run(lake, query, "--output", str(tmp_path / "a.csv")).exception is not None
    assert list(tmp_path.iterdir()) == []


def test_own_features_that_cannot_be_loaded_keep_nobody_from_a_query(lake: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('features = ["gone.py"]')
    result = run(lake, "select count(*) as n from features", "--format", "csv", "--config", str(config))
    assert result.stdout == "n\n3\n"
    assert "own features are not described: There is no file of features gone.py" in result.stderr


def test_ctrl_c_ends_a_query_with_130(lake: Path, tmp_path: Path) -> None:
    endless = "select sum(a.range * b.range) from range(10000000) a, range(10000000) b"
    words = [sys.executable, "-m", "pipeline.cli", "sql", "--lake", str(lake), "--output", str(tmp_path / "a.csv")]
    started = f"copy (select 1) to '{tmp_path / 'started'}'; {endless}"
    process = subprocess.Popen([*words, started], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert error == "hedgeflow: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["started"]
