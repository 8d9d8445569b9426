"""What a commit to the lake costs, and whether the thousandth costs more than the first.

``python -m benchmarks.lake_commits [--quick] [--commits N]``. Feature rows (101 columns) are appended ten at a time, as
the lake worker does at two instruments and five bars a commit. Side by side: our tables with a compaction every 250
commits, as an operator schedules it; without one; and tables without checkpoints and with the statistics that Delta
takes by default. The count of rows and the offset are checked at the end. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from benchmarks.where import where
from pipeline import topics
from pipeline.lake import Lake, positioned
from pipeline.lake_compact import compact
from pipeline.tables import TABLES, Table

FEATURES: Final = TABLES["features"]
ROWS: Final = 10
COMPACT_EVERY: Final = 250
START: Final = 1_700_006_400 * 10**9


def rows_of(table: Table, offset: int) -> pa.Table:
    """The rows of one message."""
    rng = np.random.default_rng(offset)
    columns: dict[str, pa.Array] = {}
    for field in table.columns:
        if field.name == table.time:
            columns[field.name] = pa.array(START + (offset * ROWS + np.arange(ROWS)) * 10**9)
        elif pa.types.is_string(field.type):
            columns[field.name] = pa.array(["binance-usdm:BTCUSDT"] * ROWS)
        elif pa.types.is_floating(field.type):
            columns[field.name] = pa.array(rng.normal(size=ROWS))
        else:
            columns[field.name] = pa.array(np.zeros(ROWS, np.int64)).cast(field.type)
    return positioned(table, columns, 0, offset, range(ROWS))


def plain(path: Path) -> None:
    """A table as Delta makes it when nothing is said, without checkpoints."""
    DeltaTable.create(
        path / FEATURES.name,
        schema=FEATURES.schema,
        partition_by=["date"],
        configuration={"delta.checkpointInterval": "1000000"},
    )


def prepared(path: Path) -> None:
    """Nothing: the lake makes its tables itself."""


def measure(path: Path, commits: int, prepare: Callable[[Path], None], every: int) -> dict[str, Any]:
    """Append ``commits`` times; with a compaction after each ``every`` (0: none)."""
    prepare(path)
    lake = Lake(path)
    lake.version(FEATURES, topics.FEATURES, 0)
    wall, cpu, maintenance_s = [], [], 0.0
    for offset in range(commits):
        rows = rows_of(FEATURES, offset)
        begin, used = time.perf_counter(), time.process_time()
        lake.append(FEATURES, rows, {(topics.FEATURES, 0): offset + 1})
        wall.append(1e3 * (time.perf_counter() - begin))
        cpu.append(1e3 * (time.process_time() - used))
        if every and (offset + 1) % every == 0:
            begin = time.perf_counter()
            compact(Lake(path), FEATURES)
            maintenance_s += time.perf_counter() - begin
    fresh = Lake(path)
    assert fresh.delta(FEATURES).count() == commits * ROWS
    assert fresh.version(FEATURES, topics.FEATURES, 0) == commits
    return {**figures(wall, cpu), "maintenance_s": round(maintenance_s, 2)}


def figures(wall: list[float], cpu: list[float]) -> dict[str, float]:
    """First and last hundred, and the slope of a line through all (processor time: others use the machine, too)."""
    part = min(100, len(wall) // 2)
    slope = float(np.polyfit(np.arange(len(cpu)), cpu, 1)[0])
    return {
        "first_median_ms": round(statistics.median(wall[:part]), 1),
        "last_median_ms": round(statistics.median(wall[-part:]), 1),
        "first_p95_ms": round(float(np.percentile(wall[:part], 95)), 1),
        "last_p95_ms": round(float(np.percentile(wall[-part:], 95)), 1),
        "first_cpu_ms": round(statistics.median(cpu[:part]), 1),
        "last_cpu_ms": round(statistics.median(cpu[-part:]), 1),
        "cpu_slope_us_per_commit": round(1e3 * slope, 1),
    }


WAYS: Final[Mapping[str, tuple[Callable[[Path], None], int]]] = {
    "hedgeflow, compacted": (prepared, COMPACT_EVERY),
    "hedgeflow": (prepared, 0),
    "no checkpoints, all statistics": (plain, 0),
}


def main(arguments: list[str] | None = None) -> None:
    """Print a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 commits instead of 1,000")
    parser.add_argument("--commits", type=int, default=1_000, help="of each way")
    given = parser.parse_args(arguments)
    commits = 60 if given.quick else given.commits
    results: dict[str, Any] = {}
    print(f"{'':32} first 100: median   p95   cpu   last 100: median   p95   cpu   slope us/commit (cpu)")
    for name, (prepare, every) in WAYS.items():
        with tempfile.TemporaryDirectory(prefix="hedgeflow-") as folder:
            found = measure(Path(folder), commits, prepare, min(every, commits // 2))
        results[name] = found
        print(
            f"{name:32} {found['first_median_ms']:17.1f} {found['first_p95_ms']:6.1f} {found['first_cpu_ms']:5.1f} "
            f"{found['last_median_ms']:17.1f} {found['last_p95_ms']:6.1f} {found['last_cpu_ms']:5.1f} "
            f"{found['cpu_slope_us_per_commit']:12.1f}",
            flush=True,
        )
    print(
        json.dumps(
            {
                "benchmark": "lake_commits",
                "unit": "ms",
                "commits": commits,
                "rows": ROWS,
                "results": results,
                **where(("deltalake", "pyarrow")),
            }
        )
    )


if __name__ == "__main__":
    main()
