"""Level-2 books beside nautilus_trader: best bid and offer, and top-10 imbalance, after every delta.

``python -m benchmarks.book [--quick]``. The same deltas, of the Binance recordings where they are and of the simulated
exchange, go through both. Every best bid and offer (prices and sizes) and every imbalance must be equal before anything
is timed; then ours and the peer's processes run in alternation, on one core each. Ours is timed twice: ``kernel`` over
arrays in memory, as the peer's deltas are objects in memory, and ``replay_l2`` from Arrow batches to a frame. Without
the peer our two ways are compared with each other and the ratio is null. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import polars as pl

from benchmarks.book_deltas import RECORDINGS, BookDeltas, recorded_deltas, simulated_deltas
from benchmarks.book_kernels import best_after_rows, imbalance_after_rows
from benchmarks.peers import MISSING, alternate, ours, peer, run, spread
from benchmarks.where import where
from features.book import replay_l2
from features.book_state import empty_books

Array = np.ndarray[Any, Any]

LEVELS: Final = 10
ROWS: Final = 1_000_000
SIMULATED_ROWS: Final = 400_000
QUICK_ROWS: Final = 60_000
PAIRS: Final = 5
PASSES: Final = 3
ARROW_ROWS: Final = 65_536
SCRIPT: Final = "nautilus_book.py"
MEASURES: Final = ("best", "imbalance")
TOUCH: Final = ("bid_price_0", "bid_size_0", "ask_price_0", "ask_size_0")


def by_kernel(deltas: BookDeltas) -> tuple[Callable[[], Array], Callable[[], Array]]:
    """Both measures over arrays in memory."""
    columns, rows, books = deltas.columns(), len(deltas.slot), len(deltas.names)

    def best() -> Array:
        out = np.empty((rows, 4), dtype=np.int64)
        best_after_rows(empty_books(books), *columns, out)
        return out

    def imbalance() -> Array:
        out = np.empty(rows)
        imbalance_after_rows(empty_books(books), *columns, LEVELS, out)
        return out

    return best, imbalance


def by_replay(deltas: BookDeltas) -> tuple[Callable[[], Array], Callable[[], Array]]:
    """Both measures from Arrow batches through ``replay_l2``."""
    batches = deltas.batches(ARROW_ROWS)

    def sizes(side: str) -> pl.Expr:
        return pl.sum_horizontal(pl.col(f"{side}_size_{level}") for level in range(LEVELS))

    def best() -> Array:
        return replay_l2(batches).select(pl.col(TOUCH).fill_null(-1)).to_numpy()

    def imbalance() -> Array:
        bids, asks = sizes("bid"), sizes("ask")
        return replay_l2(batches, levels=LEVELS).select((bids - asks) / (bids + asks)).to_numpy()[:, 0]

    return best, imbalance


def check(data: Path, scratch: Path) -> bool:
    """Whether the peer took part; every row of every way is equal.

    Raises:
        AssertionError: two ways differ in a row.
    """
    deltas = BookDeltas.load(data)
    expected = [measure() for measure in by_kernel(deltas)]
    for name, way, measure in zip(MEASURES, expected, by_replay(deltas), strict=True):
        np.testing.assert_array_equal(measure(), way, err_msg=f"{name}: replay_l2 and kernel")
    written = scratch / "peer.npz"
    command = peer(SCRIPT, data, "--write", written)
    if command is None:
        return False
    run(command)
    with np.load(written) as theirs:
        for name, way in zip(MEASURES, expected, strict=True):
            np.testing.assert_array_equal(way, theirs[name], err_msg=f"{name}: ours and the peer's")
    return True


def measure(data: Path) -> dict[str, float]:
    """Median seconds of ``PASSES`` passes of every way, after one that loads or compiles the kernels."""
    deltas = BookDeltas.load(data)
    seconds: dict[str, float] = {}
    for way, both in (("kernel", by_kernel(deltas)), ("replay", by_replay(deltas))):
        for name, once in zip(MEASURES, both, strict=True):
            once()
            seconds[f"{way}_{name}_s"] = median(_seconds(once) for _ in range(PASSES))
    return seconds


def _seconds(once: Callable[[], Array]) -> float:
    begin = time.perf_counter()
    once()
    return time.perf_counter() - begin


def compare(data: Path, pairs: int) -> dict[str, Any]:
    """Rows a second of every way and of the peer, and by how much ours exceeds it."""
    rows = len(BookDeltas.load(data).slot)
    mine, theirs = alternate(ours("benchmarks.book", "--one", data), peer(SCRIPT, data), pairs)
    result: dict[str, Any] = {"rows": rows, "pairs": pairs}
    for name in MEASURES:
        result[name] = {way: spread([rows / each[f"{way}_{name}_s"] for each in mine]) for way in ("kernel", "replay")}
        result[name]["peer"] = spread([rows / each[f"{name}_s"] for each in theirs]) if theirs else None
        for way in ("kernel", "replay"):
            ratios = [b[f"{name}_s"] / a[f"{way}_{name}_s"] for a, b in zip(mine, theirs, strict=False)]
            result[name][f"{way}_ratio"] = spread(ratios, lambda ratio: round(ratio, 2)) if ratios else None
    if theirs:
        result["nautilus_trader"] = theirs[0]["version"]
    return result


def show(name: str, result: dict[str, Any]) -> None:
    """A line a measure and way."""
    for measured in MEASURES:
        figures = result[measured]
        for way in ("kernel", "replay", "peer"):
            if figures[way] is None:
                continue
            at = figures[way]
            ratio = figures.get(f"{way}_ratio")
            beside = f"{ratio['median']:.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})" if ratio else ""
            print(f"{name:<10}{measured:<10}{way:<8}{at['median']:>12,}{at['min']:>12,}{at['max']:>12,}  {beside}")


def sources(rows: int, simulated_rows: int) -> dict[str, Callable[[], BookDeltas]]:
    """What the books are rebuilt from; recordings only where there are any."""
    found: dict[str, Callable[[], BookDeltas]] = {}
    if RECORDINGS.is_dir():
        found["recorded"] = lambda: recorded_deltas(RECORDINGS, rows)
    return found | {"simulated": lambda: simulated_deltas(simulated_rows)}


def main() -> None:
    """Print a table, then one JSON object; its ratio is the smallest median of the kernel's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and runs")
    parser.add_argument("--one", type=Path, metavar="DELTAS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.one)))
        return
    rows, simulated_rows, pairs = (QUICK_ROWS, QUICK_ROWS, 1) if options.quick else (ROWS, SIMULATED_ROWS, PAIRS)
    results: dict[str, dict[str, Any]] = {}
    print(f"{'deltas':<10}{'measure':<10}{'way':<8}{'rows/s':>12}{'min':>12}{'max':>12}  times the peer")
    with TemporaryDirectory() as scratch:
        for name, make in sources(rows, simulated_rows).items():
            data = Path(scratch) / f"{name}.npz"
            make().save(data)
            if not check(data, Path(scratch)) and not results:
                print(MISSING)
            results[name] = compare(data, pairs)
            show(name, results[name])
    ratios = [result[name]["kernel_ratio"] for result in results.values() for name in MEASURES]
    print(
        json.dumps(
            {
                "benchmark": "book",
                "peer": "nautilus_trader",
                "ratio": min(ratio["median"] for ratio in ratios) if all(ratios) else None,
                "runs": results,
                **where(("numpy", "numba", "polars", "pyarrow")),
            }
        )
    )


if __name__ == "__main__":
    main()
