"""How fast the simulated exchange makes events, and that its memory does not grow with the length of the run.

``python -m benchmarks.simulated [--quick]``. Every length runs in a process of its own, one more compiles all
kernels. Before anything is timed, the books of a run are rebuilt and must be whole. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from benchmarks.memory import peak_rss_mb
from benchmarks.where import where
from features.book import replay_l2
from features.events import EventBatch, Kind
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig

LENGTHS_MIN = (5.0, 20.0, 60.0)
QUICK_LENGTHS_MIN = (1.0, 5.0)
PASSES = 3


def check(minutes: float) -> None:
    """The books of a run, rebuilt from its snapshots and deltas, are valid and never crossed."""
    exchange = SimulatedExchange(SimulationConfig(minutes=minutes))
    found = [batch for batch in exchange.batches() if batch.kind is Kind.BOOK]
    books = replay_l2(_merged(exchange.underlyings, found), levels=50)
    assert books["valid"].all()
    assert not books["crossed"].any()
    assert books["bid_size_49"].null_count() == books["ask_size_49"].null_count() == 0, "50 levels a side"


def _merged(underlyings: Iterable[str], batches: list[EventBatch]) -> list[EventBatch]:
    """All rows of an underlying in one batch: their order is what matters."""
    return [
        EventBatch(Kind.BOOK, name, pa.concat_batches([each.data for each in batches if each.underlying == name]))
        for name in underlyings
    ]


def _pass(minutes: float) -> tuple[float, int, int]:
    """Seconds, events and batches of one run."""
    begin = time.perf_counter()
    events = batches = 0
    for batch in SimulatedExchange(SimulationConfig(minutes=minutes)).batches():
        events += batch.data.num_rows
        batches += 1
    return time.perf_counter() - begin, events, batches


def measure(minutes: float) -> dict[str, Any]:
    """The best of ``PASSES`` in this process, after a short run that compiles the kernels or loads them."""
    load_s = _pass(0.1)[0]
    seconds, events, batches = min(_pass(minutes) for _ in range(PASSES))
    return {
        "minutes": minutes,
        "events": events,
        "batches": batches,
        "seconds": round(seconds, 4),
        "events_per_s": round(events / seconds),
        "load_s": round(load_s, 3),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def _in_own_process(minutes: float, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.simulated", "--one", str(minutes)]
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=settings)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print a table, then one JSON object: the longest run, with all runs inside."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument("--one", type=float, metavar="MINUTES", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.one)))
        return
    lengths = QUICK_LENGTHS_MIN if options.quick else LENGTHS_MIN
    check(lengths[0])
    with TemporaryDirectory() as empty:
        compile_s = _in_own_process(0.1, NUMBA_CACHE_DIR=empty)["load_s"]
    runs = [_in_own_process(minutes) for minutes in lengths]
    columns = ("minutes", "events", "batches", "seconds", "events_per_s", "load_s", "peak_rss_mb")
    print("".join(f"{name:>14}" for name in columns))
    for run in runs:
        print("".join(f"{run[name]:>14,}" for name in columns))
    print(f"kernels compiled from nothing in {compile_s} s")
    print(
        json.dumps(
            {
                "benchmark": "simulated",
                **runs[-1],
                "compile_s": compile_s,
                "runs": runs,
                **where(("numpy", "numba", "pyarrow")),
            }
        )
    )


if __name__ == "__main__":
    main()
