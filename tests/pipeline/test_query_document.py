"""The page of queries: each runs over a lake as a run leaves it, and says what the lake was made to say."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from research_lake import research_lake
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.query import open_lake
from pipeline.query_macros import MACROS

pytestmark = pytest.mark.xdist_group("research lake")

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text()
QUERIES = dict(re.findall(r"### (.*?)\n.*?```sql\n(.*?)```", PAGE, re.DOTALL))
PERPETUALS = ["sim:BTC-PERP", "sim:ETH-PERP"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake where the page has it, of one trade less: it was lost."""
    path = tmp_path_factory.mktemp("research") / "hedgeflow-demo"
    path.mkdir()
    research_lake(path)
    return path.parent


@pytest.fixture(scope="module")
def lake(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_lake(folder / "hedgeflow-demo" / "lake") as connection:
        yield connection


def ask(lake: duckdb.DuckDBPyConnection, word: str) -> pl.DataFrame:
    """The answer to the question that has this word in it."""
    (query,) = [query for title, query in QUERIES.items() if word in title]
    return lake.sql(query).pl()


def test_there_are_ten_and_every_macro_is_named() -> None:
    assert len(QUERIES) == 10
    assert [macro.name for macro in MACROS if f"{macro.name}(" not in PAGE] == ["known_bars", "decision_times"]


def test_spread_and_depth(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "wide and thin")
    assert found["instrument"].to_list() == PERPETUALS
    assert found["hour_utc"].to_list() == [0, 0]
    assert (found["spread_bps_p95"] >= found["spread_bps"]).all()
    assert ((found["spread_bps"] > 0.05) & (found["spread_bps"] < 5)).all()
    assert (found["depth_10bps"] > 1).all()


def test_implied_against_realized(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "Does implied")
    assert set(found["underlying"]) == {"BTC", "ETH"}
    assert found["bars"].sum() == lake.sql("SELECT count(regime) FROM signals").fetchall()[0][0]
    assert found["implied_volatility"].is_between(0.2, 2.0).all()
    assert found["realized_volatility"].is_between(0.05, 3.0).all()
    assert (found["premium"] - (found["implied_volatility"] - found["realized_volatility"])).abs().max() < 1e-12


def test_what_the_policy_knew(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "policy know")
    orders = lake.sql("SELECT count(order_quantity) FROM decisions").fetchall()[0][0]
    assert found.height == orders > 5
    assert (found["features_age_s"] >= 0).all()
    assert found["features_age_s"].max() < 2, "the newest bar that was known is that of the decision"
    seen = lake.sql(
        "SELECT s.mid FROM decisions d JOIN signals s USING (underlying, bar_ts) "
        "WHERE order_quantity IS NOT NULL ORDER BY bar_ts, underlying"
    ).pl()
    assert found.sort("decided", "underlying")["mid"].to_list() == seen["mid"].to_list()


def test_cost_by_regime(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "hedging cost")
    fills, fees, turnover = lake.sql("SELECT count(*), sum(fee_usd), sum(abs(quantity) * price) FROM fills").fetchall()[
        0
    ]
    assert found["fills"].sum() == fills > 5
    assert math.isclose(found["fees_usd"].sum(), fees)
    assert math.isclose(found["turnover_usd"].sum(), turnover)
    assert found["cost_bps"].is_between(1, 50).all(), "fees of 5 bps, and half a spread"


def test_where_the_profit_comes_from(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "P&L come from")
    assert found["instrument"].to_list() == PERPETUALS
    parts = found["realized"] + found["unrealized"] + found["fees"]
    assert (parts - found["total"]).abs().max() < 1e-6
    held = lake.sql("SELECT sum(quantity) FROM fills GROUP BY instrument ORDER BY instrument").fetchall()
    assert found["inventory"].to_list() == pytest.approx([row[0] for row in held])


def test_latency(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "How late")
    assert found["venue"].to_list() == ["sim"]
    p50, p99, most = found.select("p50_ms", "p99_ms", "max_ms").row(0)
    assert 0 < p50 < p99 <= most < 1_000
    assert found["trades"].sum() == lake.sql("SELECT count(*) FROM trades").fetchall()[0][0]


def test_what_is_missing(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "What is missing")
    assert found.rows() == [
        ("dead letter", "features", "undecodable", 1),
        ("dead letter", "simulated", "bad_price", 3),
        ("gap", "sim:BTC-PERP", "trades", 2),
    ]


def test_order_flow_imbalance(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "imbalance")
    assert found["decile"].to_list() == list(range(1, 11))
    assert found["bars"].max() - found["bars"].min() <= 2
    assert found["bars"].sum() > 300
    assert found["order_flow_imbalance"].is_sorted()
    # The price of the simulated market is driven by its flow, but a minute later next to nothing of it is left.
    assert found["return_bps"].abs().max() < 50


def test_term_structure(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "term structure")
    assert set(found["underlying"]) == {"BTC", "ETH"}
    assert found["iv_30d"].is_between(0.2, 2.0).all()
    assert (found["slope"] - (found["iv_90d"] - found["iv_7d"])).abs().max() < 1e-12
    assert found["oldest_s"].max() < 60


def test_markouts(lake: duckdb.DuckDBPyConnection) -> None:
    found = ask(lake, "fills good")
    assert found["seconds"].to_list() == [1, 10, 60]
    assert (found["fills"] <= lake.sql("SELECT count(*) FROM fills").fetchall()[0][0]).all()
    assert found["fills"][0] > 5
    assert found["markout_bps"].abs().max() < 100


def test_the_commands_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    lines = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()
    for words in map(shlex.split, lines):
        assert words[:2] == ["hedgeflow", "sql"]
        result = CliRunner().invoke(app, words[1:], input="select 1;")
        assert result.exception is None, (words, result.exception)
    assert pl.read_parquet("bars.parquet").height > 400


def test_the_python_runs(folder: Path) -> None:
    snippet = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    check = (
        "\nassert known.height == frame.height > 200 and known['bar_ts'].null_count() == 0\nprint(known['mid'].mean())"
    )
    done = subprocess.run(
        [sys.executable, "-c", snippet + check], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 1_000
