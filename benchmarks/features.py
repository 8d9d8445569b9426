"""All features over recorded-like events of 20 instruments, read from disk by two processes.

``python -m benchmarks.features [--quick] [--work FOLDER]``. The perpetuals of two coins, recorded where the recordings
are and else simulated, stand under each of ten underlyings, a second apart; longer runs repeat them. Two processes
stream half the underlyings each through :class:`features.bars.FeatureStage`, as two workers would. First the rows of a
part must equal those of the same events fed one at a time. It prints events/s of both together, the peak memory of
each at the length and at four times it, where the time goes, and what reading alone and copying alone would allow. The
last line is one JSON object; ``ratio`` is events/s over the goal of 2 million.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.feature_files import read_files, write_files
from benchmarks.memory import peak_rss_mb
from benchmarks.peers import ONE_THREAD, ROOT
from benchmarks.recorded_like import RECORDINGS, base_log
from benchmarks.where import where
from features.bars import FeatureStage
from features.events import NANO, EventBatch

UNDERLYINGS: Final = 10
PROCESSES: Final = 2
LENGTHS: Final = (1, 4)
GOAL_EVENTS_PER_S: Final = 2_000_000
GOAL_RSS_MB: Final = 1_024
SIMULATED_SECONDS: Final = 1_000
QUICK_SECONDS: Final = 10
QUICK_UNDERLYINGS: Final = 4
CHECKED_BATCHES: Final = 300
COPIED_BYTES: Final = 256 * 2**20


class CallCosts:
    """Seconds of the calls that close no bar, as ``call + row * rows`` by least squares; and of those that do."""

    def __init__(self) -> None:
        self._sums = np.zeros(5)  # calls, rows, seconds, rows^2, rows * seconds
        self.closing_s = 0.0
        self.closing_rows = 0

    def add(self, rows: int, seconds: float, closed: bool) -> None:
        """Note a call."""
        if closed:
            self.closing_s += seconds
            self.closing_rows += rows
        else:
            self._sums += (1, rows, seconds, rows * rows, rows * seconds)

    def figures(self) -> dict[str, float]:
        """What a call, a row and the closing of bars cost."""
        calls, rows, seconds, squares, products = self._sums.tolist()
        spread = calls * squares - rows * rows
        per_row = (calls * products - rows * seconds) / spread if spread else 0.0
        per_call = (seconds - per_row * rows) / calls if calls else 0.0
        closing = max(0.0, self.closing_s - per_row * self.closing_rows)
        return {"call_us": round(per_call * 1e6, 2), "row_ns": round(per_row * 1e9, 1), "closing_s": round(closing, 3)}


def logs(folder: Path, share: Iterable[int], repetitions: int) -> Iterator[EventBatch]:
    """The logs of several underlyings, taking turns."""
    waiting = [read_files(folder, copy, repetitions) for copy in share]
    while waiting:
        for log in list(waiting):
            batch = next(log, None)
            if batch is None:
                waiting.remove(log)
            else:
                yield batch


def work(folder: Path, share: list[int], repetitions: int, read_only: bool) -> dict[str, Any]:
    """One worker: wait for the start, then stream its share."""
    stage = FeatureStage(NANO)
    warm = FeatureStage(NANO)
    for batch in islice(logs(folder, share[:1], 1), CHECKED_BATCHES):
        warm.process(batch)
    del warm
    print("ready", flush=True)
    sys.stdin.readline()
    costs, clock = CallCosts(), time.perf_counter
    events = batches = rows = size = 0
    process_s = 0.0
    begin = clock()
    for batch in logs(folder, share, repetitions):
        events += batch.data.num_rows
        batches += 1
        if read_only:
            size += batch.data.nbytes
            continue
        start = clock()
        output = stage.process(batch)
        seconds = clock() - start
        process_s += seconds
        costs.add(batch.data.num_rows, seconds, bool(output.rows))
        rows += sum(each.data.num_rows for each in output.rows)
    return {
        "events": events,
        "batches": batches,
        "feature_rows": rows,
        "bytes": size,
        "seconds": clock() - begin,
        "process_s": process_s,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        **costs.figures(),
    }


def together(folder: Path, underlyings: int, repetitions: int, *more: str) -> dict[str, Any]:
    """All workers at once, from a common start; figures of them together."""
    shares = [range(first, underlyings, PROCESSES) for first in range(PROCESSES)]
    command = [sys.executable, "-m", "benchmarks.features", "--repetitions", str(repetitions), *more, "--one"]
    workers = [
        subprocess.Popen(
            [*command, str(folder), *map(str, share)],
            cwd=ROOT,
            env=os.environ | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]
    for worker in workers:
        assert worker.stdout is not None
        if worker.stdout.readline().strip() != "ready":
            raise RuntimeError(f"A worker of {worker.args!r} failed.")
    begin = time.perf_counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    found = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    return _summary(found, time.perf_counter() - begin)


def _summary(found: list[dict[str, Any]], wall_s: float) -> dict[str, Any]:
    events = sum(each["events"] for each in found)
    seconds = sum(each["seconds"] for each in found)
    process_s = sum(each["process_s"] for each in found)
    closing_s = sum(each["closing_s"] for each in found)
    slowest_s = max(each["seconds"] for each in found)
    decoded = sum(each["bytes"] for each in found)
    return {
        **({"gb_per_s": round(decoded / slowest_s / 1e9, 2)} if decoded else {}),
        "events": events,
        "batches": sum(each["batches"] for each in found),
        "feature_rows": sum(each["feature_rows"] for each in found),
        "wall_s": round(wall_s, 3),
        "events_per_s": round(events / slowest_s),
        "peak_rss_mb": [each["peak_rss_mb"] for each in found],
        "share_read": round((seconds - process_s) / seconds, 3),
        "share_process": round((process_s - closing_s) / seconds, 3),
        "share_closing_bars": round(closing_s / seconds, 3),
        "call_us": round(float(np.mean([each["call_us"] for each in found])), 2),
        "row_ns": round(float(np.mean([each["row_ns"] for each in found])), 1),
    }


def check(folder: Path, batches: int) -> int:
    """The rows of a part of the log equal those of its events one at a time; returns how many rows.

    Raises:
        AssertionError: they differ, or there are none.
    """
    part = list(islice(read_files(folder, 0, 1), batches))
    singles = [
        EventBatch(batch.kind, batch.underlying, batch.data.slice(row, 1))
        for batch in part
        for row in range(batch.data.num_rows)
    ]
    whole, one_by_one = (_rows(FeatureStage(NANO), each) for each in (part, singles))
    assert whole.num_rows > 0, "no bar was closed: more batches are needed"
    assert whole.equals(one_by_one), "the rows depend on how the log is cut into batches"
    return int(whole.num_rows)


def _rows(stage: FeatureStage, batches: Iterable[EventBatch]) -> pa.Table:
    return pa.Table.from_batches([each.data for batch in batches for each in stage.process(batch).rows])


def copy_gb_per_s() -> float:
    """Bytes read and written a second by copying an array much larger than the caches, on one core."""
    source, target = np.ones(COPIED_BYTES // 8), np.empty(COPIED_BYTES // 8)
    np.copyto(target, source)
    begin = time.perf_counter()
    np.copyto(target, source)
    return 2 * COPIED_BYTES / (time.perf_counter() - begin) / 1e9


def prepare(work_folder: Path, quick: bool) -> tuple[Path, int, str]:
    """Write the files, or find them; returns their folder, the number of underlyings, and what they were made from."""
    recorded = RECORDINGS.is_dir() and not quick
    source = "recorded" if recorded else "simulated"
    underlyings = QUICK_UNDERLYINGS if quick else UNDERLYINGS
    seconds = QUICK_SECONDS if quick else None if recorded else SIMULATED_SECONDS
    base = base_log(RECORDINGS if recorded else None, seconds, one_underlying="U")
    folder = work_folder / f"{source}-{underlyings}x{base.rows}"
    write_files(folder, base, underlyings, max(LENGTHS))
    return folder, underlyings, source


def show(runs: list[dict[str, Any]], reading: dict[str, Any], copying: float) -> None:
    """The table."""
    print(
        f"{'events':>12}{'batches':>10}{'rows':>9}{'wall s':>9}{'events/s':>12}  {'peak RSS MB':<18}read/process/close"
    )
    for run in runs:
        memory = " ".join(f"{each:.0f}" for each in run["peak_rss_mb"])
        shares = "/".join(f"{run[name]:.0%}" for name in ("share_read", "share_process", "share_closing_bars"))
        print(
            f"{run['events']:>12,}{run['batches']:>10,}{run['feature_rows']:>9,}{run['wall_s']:>9}"
            f"{run['events_per_s']:>12,}  {memory:<18}{shares}"
        )
    run = runs[0]
    print(f"a call costs {run['call_us']} us and {run['row_ns']} ns a row ({run['events'] / run['batches']:.0f} rows)")
    away = reading["events_per_s"] / run["events_per_s"]
    print(f"reading alone: {reading['events_per_s']:,} events/s, {reading['gb_per_s']} GB/s decoded: {away:.1f} x")
    print(f"copying memory: {copying:.1f} GB/s on one core")


def main() -> None:
    """Print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and simulated events")
    parser.add_argument(
        "--work", type=Path, default=Path(gettempdir()) / "hedgeflow-benchmark", help="files are kept here"
    )
    parser.add_argument("--one", nargs="+", metavar="FOLDER UNDERLYING", help=argparse.SUPPRESS)
    parser.add_argument("--repetitions", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--read-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        share = [int(each) for each in options.one[1:]]
        print(json.dumps(work(Path(options.one[0]), share, options.repetitions, options.read_only)))
        return
    folder, underlyings, source = prepare(options.work, options.quick)
    checked = check(folder, CHECKED_BATCHES)
    runs = [together(folder, underlyings, repetitions) for repetitions in LENGTHS]
    reading = together(folder, underlyings, 1, "--read-only")
    copying = copy_gb_per_s()
    show(runs, reading, copying)
    print(
        json.dumps(
            {
                "benchmark": "features",
                "source": source,
                "instruments": 2 * underlyings,
                "processes": PROCESSES,
                "events_per_s": runs[0]["events_per_s"],
                "ratio": round(runs[0]["events_per_s"] / GOAL_EVENTS_PER_S, 3),
                "peak_rss_mb": max(max(run["peak_rss_mb"]) for run in runs),
                "goal_rss_mb": GOAL_RSS_MB,
                "rows_checked": checked,
                "runs": runs,
                "reading": reading,
                "copy_gb_per_s": round(copying, 1),
                **where(("numpy", "numba", "polars", "pyarrow")),
            }
        )
    )


if __name__ == "__main__":
    main()
