"""More partitions, more workers, more instruments: where the throughput of the features stage stops growing, and why.

``python -m benchmarks.scaling [--quick]``. 1, 2 and 4 partitions with as many workers, and 1, 10 and 100 instruments,
each an underlying of its own, over logs of equally many rows a busy partition on an embedded broker. The table has
rows/s while all partitions are worked on, what a second of the workers' CPU time gives (which does not know how many
share a core), the cores that workers and broker used, and the state that a checkpoint writes. The last line is one JSON
object. ``docs/scaling.md`` reckons with it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arrow_streaming import market, run_features, settings_for
from benchmarks.joined_log import balanced, fill_events, log_of
from benchmarks.recorded_like import Base
from benchmarks.where import where
from features.bars import FeatureStage
from features.events import NANO, Kind
from pipeline.broker import EmbeddedBroker
from pipeline.codec import encode

PARTITIONS: Final = (1, 2, 4)
INSTRUMENTS: Final = (1, 10, 100)
ROWS: Final = 6_000_000
QUICK_ROWS: Final = 20_000
BASE_S: Final = 60
QUICK_BASE_S: Final = 4
UNDERLYING: Final = "BTC"


def waiting(what: str) -> None:
    """Say what is being waited for."""
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def one_instrument(seconds: int) -> Base:
    """A perpetual's log."""
    base = market(seconds, one_underlying=None)
    return Base([batch for batch in base.batches if batch.underlying == UNDERLYING])


def state_bytes(base: Base, instruments: int) -> int:
    """What a checkpoint of so many instruments holds, after a part of their log."""
    stage = FeatureStage(NANO)
    for copy in range(min(instruments, 4)):
        for batch in islice(log_of(base, [copy], 1), 100):
            stage.process(batch)
    size = sum(len(data) for data in stage.snapshot().values())
    return round(size * instruments / min(instruments, 4))


def row_bytes(base: Base) -> dict[str, float]:
    """Bytes of a book row: in the messages of this log, and as the lake stores it."""
    books = [batch.data for batch in base.batches if batch.kind is Kind.BOOK]
    rows = sum(data.num_rows for data in books)
    stored = io.BytesIO()
    pq.write_table(pa.Table.from_batches(books), stored, compression="zstd")
    wire = sum(len(encode(data)) for data in books)
    return {"wire": round(wire / rows, 1), "lake": round(stored.tell() / rows, 1)}


def cell(base: Base, partitions: int, instruments: int, rows: int) -> dict[str, Any]:
    """As many workers as partitions; those beyond the number of instruments have nothing to do.

    ``rows`` a partition that has any: workers that start one after another must still find work together.
    """
    repetitions = max(1, round(rows * min(partitions, instruments) / instruments / base.rows))
    with EmbeddedBroker() as broker:
        settings = settings_for(broker, partitions)
        filled = fill_events(settings, log_of(base, balanced(UNDERLYING, instruments, partitions), repetitions))
        found = run_features(settings, broker, filled, partitions, "scaling")
    return {"partitions": partitions, "instruments": instruments, "rows": filled.rows} | found


def show(cells: list[dict[str, Any]], states: dict[int, int]) -> None:
    """The table."""
    print(
        f"{'partitions':>11}{'instruments':>12}{'rows/s':>12}{'per CPU s':>12}{'cores':>7}{'broker':>8}{'state MB':>10}"
    )
    for each in cells:
        print(
            f"{each['partitions']:>11}{each['instruments']:>12}{each['per_s']:>12,.0f}{each['per_cpu_s']:>12,.0f}"
            f"{each['cores']:>7.2f}{each['broker_cores']:>8.2f}{states[each['instruments']] / 1e6:>10.2f}"
            + ("  (too short: with the start-up)" if each["whole_run"] else "")
        )
    used = max(each["cores"] + each["broker_cores"] for each in cells)
    print(f"workers and broker together used up to {used:.2f} of {len(os.sched_getaffinity(0))} cores")


def main() -> None:
    """Print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows, and only the corners")
    options = parser.parse_args()
    base = one_instrument(QUICK_BASE_S if options.quick else BASE_S)
    rows = QUICK_ROWS if options.quick else ROWS
    wanted = [(1, 1), (2, 10)] if options.quick else [(p, i) for i in INSTRUMENTS for p in PARTITIONS]
    cells = []
    for partitions, instruments in wanted:
        waiting(f"{partitions} partition(s) and worker(s), {instruments} instrument(s)")
        cells.append(cell(base, partitions, instruments, rows))
    states = {instruments: state_bytes(base, instruments) for _, instruments in wanted}
    sizes = row_bytes(base)
    show(cells, states)
    print(f"a book row has {sizes['wire']} bytes in messages of this log, {sizes['lake']} in the lake")
    print(
        json.dumps(
            {
                "benchmark": "scaling",
                "cells": cells,
                "state_bytes": states,
                "book_row_bytes": sizes,
                **where(("numpy", "numba", "pyarrow", "confluent-kafka")),
            }
        )
    )


if __name__ == "__main__":
    main()
