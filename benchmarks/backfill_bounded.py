"""A backfill of a long day of book deltas from the lake, and that its memory does not grow with the day.

``python -m benchmarks.backfill_bounded [--quick] [--rows N]``. A lake of raw rows is written by repeating a recording
(or the simulated exchange, where there is none) in time: two underlyings in two partitions, at offsets and rows as the
log has them. At a quarter of the rows and at all of them a process of its own reads the log back and runs the stages
up to the universe into another lake, in steps; then all of them with a process an underlying. All rows must arrive, and
no book may become invalid. The last line is one JSON object; ``ratio`` is the peak memory at all rows over that at a
quarter, in one process: 1 is flat. ``peak_rss_mb`` is that of the largest process.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.memory import peak_rss_mb
from benchmarks.peers import ours, run
from benchmarks.recorded_like import KINDS, RECORDINGS, Base, base_log
from benchmarks.where import where
from features.events import EventBatch, Kind
from pipeline.lake import Lake, dates
from pipeline.tables import TABLES, Table
from pipeline.topics import EVENTS

ROWS: Final = 100_000_000
QUICK_ROWS: Final = 2_000_000
QUICK_SECONDS: Final = 30

_TABLES: Final = {table.kind: table for table in TABLES.values() if table.topic == EVENTS}


class LogLake:
    """A lake that is written repetition by repetition."""

    def __init__(self, path: Path, base: Base) -> None:
        self._lake = Lake(path)
        self._base = base
        self._partition = {name: i for i, name in enumerate(sorted({batch.underlying for batch in base.batches}))}
        self._offset = [0] * len(self._partition)
        self._repetitions = 0
        self.rows = 0

    def extend(self, rows: int) -> None:
        """Append repetitions until there are at least ``rows`` rows."""
        while self.rows < rows:
            waiting: dict[Kind, list[pa.RecordBatch]] = {kind: [] for kind in KINDS}
            for batch in self._base.repetition(self._repetitions):
                waiting[batch.kind].append(self._message(batch))
                self.rows += batch.data.num_rows
            for kind, messages in waiting.items():
                if messages:
                    table = _TABLES[kind.value]
                    self._lake.append(table, _dated(table, pa.Table.from_batches(messages)), {})
            self._repetitions += 1

    def _message(self, batch: EventBatch) -> pa.RecordBatch:
        """A message's rows with their position in the log; the date comes with all of them."""
        partition, rows = self._partition[batch.underlying], batch.data.num_rows
        columns: dict[str, Any] = dict(zip(batch.data.schema.names, batch.data.columns, strict=True))
        columns |= {
            "underlying": pa.array([batch.underlying]).take(pa.array(np.zeros(rows, dtype=np.int32))),
            "instrument": columns["instrument"].cast(pa.utf8()),
            "topic_partition": pa.array(np.full(rows, partition, dtype=np.int32)),
            "topic_offset": pa.array(np.full(rows, self._offset[partition], dtype=np.int64)),
            "topic_row": pa.array(np.arange(rows, dtype=np.int32)),
        }
        self._offset[partition] += 1
        return pa.RecordBatch.from_pydict(columns)


def _dated(table: Table, rows: pa.Table) -> pa.Table:
    return rows.append_column("date", dates(rows.column(table.time).to_numpy()))


def backfill_once(source: Path, target: Path, reference: dict[str, str], workers: int) -> dict[str, Any]:
    """Backfill one lake into another with so many processes."""
    from pipeline.backfill_job import Job
    from pipeline.backfill_local import LocalProcesses
    from pipeline.backfill_run import lake_origin, run_of
    from pipeline.backfill_task import Window
    from pipeline.settings import Settings

    begin = time.perf_counter()
    run = run_of(lake_origin(Lake(source)), Window(), ())
    result = Job(run, Lake(target), Settings(reference=reference), LocalProcesses(workers)).start()
    seconds = time.perf_counter() - begin
    return {
        "workers": workers,
        "events": result.events,
        "rows": dict(result.rows),
        "rejects": dict(result.rejects),
        "seconds": round(seconds, 2),
        "events_per_s": round(result.events / seconds),
        "peak_rss_mb": round(max(peak_rss_mb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10), 1),
    }


def check(found: dict[str, Any], rows: int, target: Path) -> None:
    """Every row arrived, none was refused, and no book became invalid.

    Raises:
        AssertionError: otherwise.
    """
    from pipeline.query import open_lake

    assert found["events"] == rows, f"{rows:,} rows were written, {found['events']:,} were read"
    assert not found["rejects"], found["rejects"]
    with open_lake(target) as lake:
        counts = lake.execute("SELECT count(*), count(*) FILTER (WHERE NOT book_valid) FROM features").fetchall()
    assert counts[0][0] == found["rows"]["features"] > 0
    assert counts[0][1] == 0, f"{counts[0][1]} of {counts[0][0]} rows have an invalid book"


def main() -> None:
    """Print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS:,} rows")
    parser.add_argument("--rows", type=int, help=f"raw rows, default {ROWS:,}")
    parser.add_argument("--simulated", action="store_true", help="do not use the recordings")
    parser.add_argument("--work", type=Path, help="where the lakes are written, and removed again")
    parser.add_argument("--one", nargs=4, metavar=("SOURCE", "TARGET", "REFERENCE", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        source, target, reference, workers = options.one
        print(json.dumps(backfill_once(Path(source), Path(target), json.loads(reference), int(workers))))
        return
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    recorded = RECORDINGS.is_dir() and not options.simulated
    # A repetition is at most a quarter of all rows.
    base = base_log(RECORDINGS if recorded else None, QUICK_SECONDS if rows < 4 * ROWS // 10 else None)
    runs: list[dict[str, Any]] = []
    print(f"{'workers':>7}{'events':>13}{'feature rows':>14}{'seconds':>9}{'events/s':>11}{'peak RSS MB':>13}")
    with TemporaryDirectory(dir=options.work) as scratch:
        lake = LogLake(Path(scratch) / "raw", base)
        target = Path(scratch) / "computed"
        arguments = (Path(scratch) / "raw", target, json.dumps(reference_of(base)))
        for length, workers in ((1, 1), (rows // 4, 1), (rows, 1), (rows, 2)):
            lake.extend(length)
            found = run(ours("benchmarks.backfill_bounded", "--one", *arguments, str(workers)))
            check(found, lake.rows, target)
            shutil.rmtree(target)
            if length == 1:
                continue  # one repetition, so that no run that is timed compiles a kernel
            runs.append(found)
            print(
                f"{found['workers']:>7}{found['events']:>13,}{found['rows']['features']:>14,}{found['seconds']:>9}"
                f"{found['events_per_s']:>11,}{found['peak_rss_mb']:>13,}"
            )
    print(
        json.dumps(
            {
                "benchmark": "backfill_bounded",
                "source": "recorded" if recorded else "simulated",
                **runs[-1],
                "ratio": round(runs[1]["peak_rss_mb"] / runs[0]["peak_rss_mb"], 3),
                "runs": runs,
                **where(("numpy", "numba", "polars", "pyarrow", "duckdb", "deltalake")),
            }
        )
    )


def reference_of(base: Base) -> dict[str, str]:
    """The instrument that stands for each underlying."""
    return {
        batch.underlying: batch.data.column(0)[0].as_py() for batch in base.batches if batch.kind is Kind.INSTRUMENT
    }


if __name__ == "__main__":
    main()
