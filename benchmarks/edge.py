"""What a batch costs on its way into the log and out of it, and how fast a recording is read.

``python -m benchmarks.edge [--quick] [--recording FILE]``. Book batches of 1 to 1,600 rows, and feature rows of one
and of four instruments, with a quarter of their values unknown. Every result is checked before it is timed. A figure
is the best of ``REPEATS`` loops: what the code costs, not what else the machine does. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.where import where
from features import bar_kernels as k
from features.catalog import STANDARD
from features.events import LAST, NANO, EventBatch, Kind, record_batch
from features.feature_rows import Room, feature_rows, room_for
from pipeline.codec import decode_event, decode_rows, encode
from pipeline.edge import Edge
from pipeline.log import MemoryLog
from pipeline.sources.recorded import RecordedFiles

Array = np.ndarray[Any, Any]

ROWS: Final = (1, 10, 100, 1_600)
FEATURE_ROWS: Final = (1, 4)
REPEATS: Final = 7
START: Final = 1_700_000_000 * NANO
NAME: Final = "binance-usdm:BTCUSDT"
COMPUTED: Final = tuple(feature.name for feature in STANDARD.features if feature.name != "trade_count")


def book_columns(rows: int) -> dict[str, Array]:
    """One book event of ``rows`` levels, as a source has it."""
    rng = np.random.default_rng(rows)
    flags = np.zeros(rows, dtype=np.uint8)
    flags[-1] = LAST
    return {
        "instrument": np.zeros(rows, dtype=np.int32),
        "ts_event": np.full(rows, START),
        "ts_recv": np.full(rows, START + 1_000),
        "prev_id": np.full(rows, 7),
        "update_id": np.full(rows, 8),
        "side": rng.choice(np.array([-1, 1], dtype=np.int8), rows),
        "price": rng.integers(1, 1_000_000, rows),
        "size": rng.integers(0, 1_000_000, rows),
        "flags": flags,
    }


def feature_room(rows: int) -> Room:
    """Feature rows of as many instruments: a quarter of their values are unknown."""
    rng = np.random.default_rng(rows)
    room = room_for(rows, len(COMPUTED))
    room.integers[:] = rng.integers(0, 1_000, room.integers.shape)
    room.integers[:, k.I_SLOT] = np.arange(rows)
    room.floats[:] = np.where(rng.random(room.floats.shape) < 0.25, np.nan, rng.normal(size=room.floats.shape))
    return room


def book_batch(rows: int) -> EventBatch:
    """The same as a batch."""
    return EventBatch(Kind.BOOK, "BTC", record_batch(Kind.BOOK, [NAME], book_columns(rows)))


def check_events(columns: dict[str, Array], batch: EventBatch, out: list[EventBatch]) -> None:
    """``columns`` are in ``batch``, and in the numbered ``out``, which is read as it was written."""
    rows = len(columns["price"])
    assert batch.data.num_rows == rows
    for name, values in columns.items():
        found = batch.data.column(name)
        np.testing.assert_array_equal(found.indices if name == "instrument" else found, values)
    assert sum(each.data.num_rows for each in out) == rows
    stamped = out[0].data
    assert stamped.column("seq").to_pylist() == list(range(rows))
    assert stamped.drop_columns(["seq"]).equals(batch.data.drop_columns(["seq"])), "nothing is late"
    again = decode_event("book", "BTC", encode(stamped))
    assert again == EventBatch(Kind.BOOK, "BTC", stamped)


def check_features(room: Room, data: pa.RecordBatch) -> None:
    """``room`` is in ``data``, which is read as it was written."""
    for number, name in enumerate(COMPUTED):
        expected = [None if value != value else value for value in room.floats[:, number].tolist()]
        assert data.column(name).to_pylist() == expected
    assert data.column("trade_count").to_pylist() == room.integers[:, k.I_TRADES].tolist()
    assert data.column("instrument").to_pylist() == [f"i{slot}" for slot in range(data.num_rows)]
    assert decode_rows("features", encode(data)).equals(data)


def microseconds(work: Callable[[], object], loop_s: float) -> float:
    """Of one call: the best of ``REPEATS`` loops of about ``loop_s``."""
    number, taken = 1, _loop(work, 1)
    while taken < loop_s / 4:
        number *= 2
        taken = _loop(work, number)
    return round(1e6 * min(_loop(work, number) for _ in range(REPEATS)) / number, 2)


def _loop(work: Callable[[], object], number: int) -> float:
    begin = time.perf_counter()
    for _ in range(number):
        work()
    return time.perf_counter() - begin


def event_costs(rows: int, loop_s: float) -> dict[str, float]:
    """Microseconds a batch of ``rows`` book rows."""
    columns = book_columns(rows)
    batch = book_batch(rows)
    out: list[EventBatch] = []
    Edge(MemoryLog(out.append), "benchmark").send(batch)
    check_events(columns, batch, out)
    edge, stamped = Edge(MemoryLog(lambda batch: None), "benchmark"), out[0].data
    payload = encode(stamped)
    ways: dict[str, Callable[[], object]] = {
        "record_batch": lambda: record_batch(Kind.BOOK, [NAME], columns),
        "edge_send": lambda: edge.send(batch),
        "encode": lambda: encode(stamped),
        "decode_event": lambda: decode_event("book", "BTC", payload),
    }
    return {name: microseconds(way, loop_s) for name, way in ways.items()}


def feature_costs(rows: int, loop_s: float) -> dict[str, float]:
    """Microseconds a batch of ``rows`` feature rows."""
    room, instruments = feature_room(rows), [f"i{slot}" for slot in range(rows)]

    def build() -> pa.RecordBatch:
        return feature_rows(STANDARD, "BTC", "v", instruments, COMPUTED, room)

    data = build()
    check_features(room, data)
    payload = encode(data)
    return {
        "feature_rows": microseconds(build, loop_s),
        "encode": microseconds(lambda: encode(data), loop_s),
        "decode_rows": microseconds(lambda: decode_rows("features", payload), loop_s),
    }


def reading(path: Path, passes: int) -> dict[str, float]:
    """How fast ``RecordedFiles`` reads ``path``: the best of ``passes``, with all rows and with runs alone."""
    with gzip.open(path) as file:
        lines = sum(1 for _ in file)

    def read(what: Callable[[], Any]) -> tuple[float, int]:
        begin = time.perf_counter()
        found = sum(1 for _ in what())
        return time.perf_counter() - begin, found

    seconds, batches = min(read(RecordedFiles([path]).batches) for _ in range(passes))
    runs_s, _ = min(read(RecordedFiles([path]).runs) for _ in range(passes))
    return {
        "lines": lines,
        "batches": batches,
        "seconds": round(seconds, 4),
        "lines_per_s": round(lines / seconds),
        "runs_seconds": round(runs_s, 4),
    }


def _print(title: str, costs: dict[int, dict[str, float]]) -> None:
    names = list(next(iter(costs.values())))
    print(f"{title:>14}" + "".join(f"{name:>14}" for name in names))
    for rows, found in costs.items():
        print(f"{rows:>14,}" + "".join(f"{found[name]:>14,.1f}" for name in names))


def main() -> None:
    """Print tables in microseconds a batch, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter loops")
    parser.add_argument("--recording", type=Path, help="also time how this recording of Binance is read")
    options = parser.parse_args()
    loop_s = 0.005 if options.quick else 0.1
    events = {rows: event_costs(rows, loop_s) for rows in ROWS}
    features = {rows: feature_costs(rows, loop_s) for rows in FEATURE_ROWS}
    recorded = reading(options.recording, 2 if options.quick else 5) if options.recording else None
    _print("book rows", events)
    _print("feature rows", features)
    if recorded:
        print(f"{recorded['lines_per_s']:,} lines/s of {options.recording.name}")
    print(
        json.dumps(
            {
                "benchmark": "edge",
                "unit": "us/batch",
                "events": events,
                "features": features,
                "recorded": recorded,
                **where(("numpy", "numba", "pyarrow")),
            }
        )
    )


if __name__ == "__main__":
    main()
