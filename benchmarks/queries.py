"""Ten queries of a researcher over the lake's ``features``, beside plain ``read_parquet`` of the same files.

``python -m benchmarks.queries [--quick] [--rows N] [--work FOLDER]``. A lake in its own layout (Delta, a folder a date,
files sorted by instrument and time, zstd) is generated deterministically. Each query runs on both sides: cold (a new
DuckDB instance, and the files' pages dropped from memory where the kernel allows it) and warm (the median of three
more runs); the sides take turns in going first. Their answers must be equal. Then the time to open a lake is measured
whose tables have 1,000 files each. The last line is one JSON object; ``ratio`` is the geometric mean of plain over
ours, warm: above 1 the lake is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from math import exp, log
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from deltalake.transaction import AddAction
from polars.testing import assert_frame_equal

from benchmarks.query_set import QUERIES
from benchmarks.where import where
from features.events import NANO
from pipeline.lake import Lake, positioned
from pipeline.query import open_lake
from pipeline.tables import TABLES, Table

ROWS: Final = 50_000_000
QUICK_ROWS: Final = 1_000_000
INSTRUMENTS: Final = 20
DAY_S: Final = 86_400
START: Final = 1_767_571_200 * NANO
FILE_ROWS: Final = 1_000_000
OPENED_FILES: Final = 1_000
WARM_RUNS: Final = 3

COLUMNS: Final = (
    *("underlying", "instrument", "bar_ts", "ts_known", "version"),
    *("book_valid", "book_crossed", "late_rows", "lost_rows", "corrected_rows"),
    *("best_bid", "best_ask", "mid", "spread_bps", "imbalance_1", "bid_depth_10bps", "ask_depth_10bps"),
    *("order_flow_imbalance", "volume", "trade_count", "signed_volume", "log_return", "realized_variance_1m"),
    *("atm_iv_30d", "vpin"),
)
"""Of the features table: all hundred features of 50M rows would not fit on most disks, and no query reads them."""

_FULL: Final = TABLES["features"]
FEATURES: Final = Table(
    _FULL.name, _FULL.topic, _FULL.kind, pa.schema([_FULL.columns.field(name) for name in COLUMNS]), _FULL.time,
    _FULL.doc, _FULL.key,
)  # fmt: skip

Opener = Callable[[], duckdb.DuckDBPyConnection]


def day_table(day: int, rows: int) -> pa.Table:
    """One day's rows of all instruments, sorted by instrument and time; equal arguments give equal rows.

    Prices move in ticks of 0.1, sizes in lots of 0.001, and a few bars have no valid book, as in the market.
    """
    rng = np.random.default_rng(day)
    seconds = rows // INSTRUMENTS
    count = seconds * INSTRUMENTS
    code = np.repeat(np.arange(INSTRUMENTS), seconds)
    bar_ts = START + (np.int64(day) * DAY_S + np.tile(np.arange(1, seconds + 1), INSTRUMENTS)) * NANO
    # The last bar of a day ends with it, and belongs to it.
    bar_ts -= 1
    return _columns(rng, day, count, code, bar_ts)


def _columns(rng: np.random.Generator, day: int, count: int, code: Any, bar_ts: Any) -> pa.Table:
    valid = rng.random(count) > 0.002
    steps = rng.integers(-3, 4, count)
    bid = np.round((100_000 + 10_000 * code + np.cumsum(steps) % 5_000) * 0.1, 1)
    ask = np.round(bid + 0.1 * rng.integers(1, 5, count), 1)
    mid = (bid + ask) / 2
    known = np.where(valid, mid, np.nan)
    previous = np.concatenate([[np.nan], known[:-1]])
    previous[np.flatnonzero(np.diff(code, prepend=-1))] = np.nan
    sizes = {name: rng.integers(0, 50_000, count) / 1_000 for name in ("bid_depth_10bps", "ask_depth_10bps", "volume")}
    names = pa.array([f"sim:{number}-PERP" for number in range(INSTRUMENTS)])
    underlyings = pa.array([str(number) for number in range(INSTRUMENTS)])
    columns: dict[str, Any] = {
        "underlying": underlyings.take(pa.array(code)),
        "instrument": names.take(pa.array(code)),
        "bar_ts": bar_ts,
        "ts_known": bar_ts + rng.integers(1_000_000, 20_000_000, count),
        "version": pa.array(["a293bde61ba4"]).take(pa.array(np.zeros(count, np.int32))),
        "book_valid": valid,
        "book_crossed": np.zeros(count, dtype=bool),
        "late_rows": (rng.random(count) < 0.01).astype(np.int64),
        "lost_rows": (rng.random(count) < 0.001).astype(np.int64),
        "corrected_rows": np.zeros(count, dtype=np.int64),
        "best_bid": bid,
        "best_ask": ask,
        "mid": known,
        "spread_bps": np.where(valid, 1e4 * (ask - bid) / mid, np.nan),
        "imbalance_1": rng.integers(-100, 101, count) / 100,
        **sizes,
        "order_flow_imbalance": rng.integers(-20_000, 20_001, count) / 1_000,
        "trade_count": rng.integers(0, 30, count),
        "signed_volume": rng.integers(-9_000, 9_001, count) / 1_000,
        "log_return": np.log(known / previous),
        "realized_variance_1m": rng.integers(1, 1_000, count) * 1e-9,
        "atm_iv_30d": np.repeat(0.5 + 0.01 * rng.integers(0, 20, count // 10 + 1), 10)[:count],
        "vpin": np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 1_000, count) / 1_000),
    }
    arrays = {name: pa.array(columns[name], FEATURES.columns.field(name).type, from_pandas=True) for name in COLUMNS}
    return positioned(FEATURES, arrays, 0, day, np.arange(count, dtype=np.int32))


def generate(path: Path, rows: int) -> tuple[int, int]:
    """Write the lake, a commit of at most ``FILE_ROWS`` rows at a time; returns rows and dates."""
    lake, written, day = Lake(path), 0, 0
    while written < rows:
        table = day_table(day, min(INSTRUMENTS * DAY_S, rows - written))
        for start in range(0, table.num_rows, FILE_ROWS):
            lake.append(FEATURES, table.slice(start, FILE_ROWS), {})
        written, day = written + table.num_rows, day + 1
        if table.num_rows < INSTRUMENTS:
            break
    return written, day


def plain(path: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB as it comes, over the table's folder."""
    connection = duckdb.connect()
    # Not ``*/*.parquet``: that finds the checkpoints of the Delta log, and fails.
    files = f"{path / 'features'}/date=*/*.parquet"
    connection.execute(f"CREATE VIEW features AS FROM read_parquet('{files}', hive_partitioning = true)")
    return connection


def drop_pages(path: Path) -> bool:
    """Let the kernel forget the files; whether it did."""
    for file in path.rglob("*.parquet"):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True


def timed(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[float, pl.DataFrame]:
    """Seconds that it took, and the answer."""
    begin = time.perf_counter()
    answer = connection.sql(query).pl()
    return time.perf_counter() - begin, answer


def measure(path: Path, query: str, openers: list[tuple[str, Opener]]) -> dict[str, Any]:
    """Cold and warm seconds of each side.

    Raises:
        AssertionError: the sides answer differently.
    """
    result: dict[str, Any] = {}
    answers = []
    for side, opener in openers:
        drop_pages(path)
        with opener() as connection:
            cold, answer = timed(connection, query)
            warm = median(timed(connection, query)[0] for _ in range(WARM_RUNS))
        result |= {f"{side}_cold_s": round(cold, 4), f"{side}_warm_s": round(warm, 4)}
        answers.append(answer)
    assert answers[0].height > 0, f"no rows: {query}"
    assert_frame_equal(answers[0], answers[1], check_exact=False, rel_tol=1e-9)
    return {"rows": answers[0].height, **result}


def compare(path: Path, days: int, rows: int) -> dict[str, Any]:
    """All queries on both sides, which take turns."""
    day = days // 2 if days > 1 else 0
    values = {
        "day": str(np.datetime64(START + day * DAY_S * NANO, "ns").astype("datetime64[D]")),
        "day_ns": START + day * DAY_S * NANO,
        "from_ns": START + (day * DAY_S + min(3_600, rows // INSTRUMENTS // 2)) * NANO,
        "name": "sim:7-PERP",
        "other": "sim:8-PERP",
        "names": INSTRUMENTS,
    }
    sides: list[tuple[str, Opener]] = [("lake", lambda: open_lake(path)), ("plain", lambda: plain(path))]
    found = {}
    print(f"{'query':36}{'rows':>8}{'lake cold':>11}{'plain cold':>12}{'lake warm':>11}{'plain warm':>12}{'ratio':>8}")
    for number, (name, query) in enumerate(QUERIES.items()):
        each = measure(path, query.format(**values), sides[:: -1 if number % 2 else 1])
        each["warm_ratio"] = round(each["plain_warm_s"] / each["lake_warm_s"], 3)
        each["cold_ratio"] = round(each["plain_cold_s"] / each["lake_cold_s"], 3)
        found[name] = each
        print(
            f"{name:36}{each['rows']:>8,}{each['lake_cold_s']:>11.3f}{each['plain_cold_s']:>12.3f}"
            f"{each['lake_warm_s']:>11.3f}{each['plain_warm_s']:>12.3f}{each['warm_ratio']:>8.2f}"
        )
    return found


def many_files(path: Path, files: int) -> None:
    """A lake whose tables have so many small files each: one file, linked under as many names."""
    lake = Lake(path)
    for name in ("features", "trades", "book"):
        table = TABLES[name]
        blank = {field.name: pa.array([_blank(field)], field.type) for field in table.columns}
        lake.append(table, positioned(table, blank, 0, 0, [0]), {})
        (first,) = (path / name).glob("date=*/*.parquet")
        lake.delta(table).create_write_transaction(
            list(_links(first, files - 1)), mode="append", schema=lake.delta(table).schema(), partition_by=["date"]
        )


def _blank(field: pa.Field) -> Any:
    return {"string": "", "bool": False}.get(str(field.type), 0)


def _links(first: Path, count: int) -> Iterator[AddAction]:
    for number in range(count):
        link = first.with_name(f"link-{number}.parquet")
        os.link(first, link)
        date = first.parent.name.removeprefix("date=")
        size = first.stat().st_size
        yield AddAction(f"{first.parent.name}/{link.name}", size, {"date": date}, 0, True, '{"numRecords":1}')


def opening(path: Path, files: int) -> dict[str, Any]:
    """Milliseconds to open a lake of three tables with so many files each, and of the first count over one of them.

    Raises:
        AssertionError: a file is missing.
    """
    many_files(path, files)
    opens, counts = [], []
    for _ in range(5):
        begin = time.perf_counter()
        connection = open_lake(path)
        opens.append(time.perf_counter() - begin)
        seconds, answer = timed(connection, "SELECT count(*) FROM features")
        counts.append(seconds)
        assert answer.item() == files
        connection.close()
    return {
        "files_a_table": files,
        "open_ms": round(1_000 * median(opens), 1),
        "count_ms": round(1_000 * median(counts), 1),
    }


def main() -> None:
    """Print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS:,} rows")
    parser.add_argument("--rows", type=int, help=f"feature rows, default {ROWS:,}")
    parser.add_argument("--files", type=int, default=OPENED_FILES, help="files a table of the lake that is opened")
    parser.add_argument("--work", type=Path, help="where the lakes are written, and removed again")
    options = parser.parse_args()
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    with TemporaryDirectory(dir=options.work) as scratch:
        path = Path(scratch) / "lake"
        begin = time.perf_counter()
        written, days = generate(path, rows)
        size = sum(file.stat().st_size for file in path.rglob("*.parquet"))
        dropped = drop_pages(path)
        seconds = time.perf_counter() - begin
        print(
            f"{written:,} rows of {len(COLUMNS)} columns, {days} date(s), {size / 1e9:.2f} GB, "
            f"written in {seconds:.0f} s"
        )
        print(f"cold: {'the page cache is dropped' if dropped else 'the pages of the files are advised away'}")
        found = compare(path, days, written)
        shutil.rmtree(path)
        opened = opening(Path(scratch) / "many", options.files)
    print(f"open_lake of tables with {opened['files_a_table']:,} files each: {opened['open_ms']} ms")
    print(
        json.dumps(
            {
                "benchmark": "queries",
                "rows": written,
                "columns": len(COLUMNS),
                "dates": days,
                "gigabytes": round(size / 1e9, 3),
                "page_cache_dropped": dropped,
                "ratio": geometric_mean(each["warm_ratio"] for each in found.values()),
                "cold_ratio": geometric_mean(each["cold_ratio"] for each in found.values()),
                "queries": found,
                "opening": opened,
                **where(("duckdb", "deltalake", "pyarrow", "polars")),
            }
        )
    )


def geometric_mean(ratios: Iterator[float]) -> float:
    """Of ratios, to three digits."""
    return round(exp(fmean(log(each) for each in ratios)), 3)


if __name__ == "__main__":
    main()
