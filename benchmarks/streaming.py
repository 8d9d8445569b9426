"""JSON in, features out, beside Quix Streams on the same broker and messages; and Arrow from end to end.

``python -m benchmarks.streaming [--quick] [--pairs N]``. One embedded broker, one process a side, 20 symbols in one
partition, offsets committed every half second on both sides.

- **features**: four numbers of each quote. Ours is ``hedgeflow stream messages examples/quote_features.py``: msgspec,
  then polars expressions over each micro-batch, rows out as Arrow messages. Theirs: ``sdf.apply`` of the same formulas,
  a JSON message out for each one in.
- **bars**: VWAP of one second and symbol with durable state. Ours is ``hedgeflow stream messages
  examples/trade_bars.py`` (open, high, low and close besides), its state in the compacted topic ``checkpoints``.
  Theirs: ``tumbling_window().reduce().final()``, its state in RocksDB and a changelog topic.
- **arrow**: ``md.events`` in messages of up to 1,600 rows through ``hedgeflow stream run features``, all features on.

First both sides run over the same short topic, and every number that they send must be equal to the last bit. Then they
take turns. The steady state is measured from outside (:mod:`benchmarks.stream_runs`); start-up is printed apart. The
last line is one JSON object; a ratio is ours over the peer's, the median of the pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks import arrow_streaming
from benchmarks.peers import MISSING, peer, spread
from benchmarks.stream_runs import Sent, arrow_rows, fill, hedgeflow, run_until_committed, values
from benchmarks.where import where
from features.events import NANO
from pipeline.broker import EmbeddedBroker
from pipeline.kafka import create_topics
from pipeline.settings import Settings

SYMBOLS: Final = 20
COMMIT_S: Final = 0.5
START: Final = 1_700_000_000 * NANO
STEP_NS: Final = 500_003
"""Between messages: 2,000 a second of event time, and never on the boundary of a second."""
CHECKED: Final = 20_000
TIMEOUT_S: Final = 150.0
GOALS: Final = {"features": 5.0, "bars": 10.0}
ARROW_GOAL: Final = 5_000_000


@dataclass(frozen=True)
class Work:
    """One comparison: what is sent, and how many messages each side takes in a timed run."""

    name: str
    example: str
    make: Callable[[int], Iterator[Sent]]
    ours: int
    theirs: int

    @property
    def topic(self) -> str:
        """Of the timed runs."""
        return f"{self.name}.messages"


def quotes(number: int) -> Iterator[Sent]:
    """Quotes of 20 symbols in turn."""
    rng = np.random.default_rng(7)
    bids, spreads = np.round(rng.normal(60_000, 50, number), 1).tolist(), rng.integers(1, 9, number).tolist()
    sizes = np.round(rng.exponential(2, (number, 2)) + 0.001, 3).tolist()
    for i in range(number):
        bid, (bid_size, ask_size) = bids[i], sizes[i]
        yield _sent(
            i,
            {
                "bid_price": bid,
                "bid_size": bid_size,
                "ask_price": round(bid + spreads[i] / 10, 1),
                "ask_size": ask_size,
                "venue": "sim",
                "seq": i,
            },
        )


def trades(number: int) -> Iterator[Sent]:
    """Trades of 20 symbols in turn."""
    rng = np.random.default_rng(8)
    prices, sizes = (
        np.round(rng.normal(60_000, 50, number), 1).tolist(),
        np.round(rng.exponential(1, number) + 0.001, 3),
    )
    for i, size in enumerate(sizes.tolist()):
        row = {"price": prices[i], "size": size, "side": "buy" if i % 3 else "sell", "trade_id": i}
        yield _sent(i, row | {"venue": "sim", "tick": 1})


def _sent(i: int, row: dict[str, Any]) -> Sent:
    ts, symbol = START + (i + 1) * STEP_NS, f"S{i % SYMBOLS:02d}"
    value = msgspec.json.encode({"symbol": symbol, "ts": ts} | row)
    return Sent(0, symbol.encode(), value, ts // 1_000_000)


class Side:
    """Runs one side of a comparison on the broker; each run under a group and a sink of its own."""

    def __init__(self, settings: Settings, broker: EmbeddedBroker, folder: Path) -> None:
        self._settings = settings
        self._broker = broker
        self._folder = folder
        self._runs = 0

    def ours(self, work: Work, topic: str, number: int) -> tuple[dict[str, float], str]:
        """The steady state and the sink of a run over a topic."""
        self._runs += 1
        sink, application = f"ours.{self._runs}", f"ours-{self._runs}"
        command = hedgeflow("stream", "messages", f"examples/{work.example}", "--topics", topic, "--to", sink)
        environment = {
            "HEDGEFLOW_APPLICATION": application,
            "HEDGEFLOW_BOOTSTRAP": self._broker.bootstrap,
            "HEDGEFLOW_CHECKPOINT_INTERVAL_MS": str(round(COMMIT_S * 1_000)),
            "HEDGEFLOW_MONITOR_PORT": "-1",
        }
        group = f"{application}.messages.{sink}"
        return self._watched(command, group, topic, number, environment), sink

    def theirs(self, work: Work, topic: str, number: int) -> tuple[dict[str, float], str]:
        """The same of the peer's."""
        self._runs += 1
        sink, group = f"theirs.{self._runs}", f"theirs-{self._runs}"
        folder = self._folder / group
        command = peer("quix_stream.py", work.name, self._broker.bootstrap, topic, sink, group, str(COMMIT_S), folder)
        assert command is not None
        return self._watched(command, group, topic, number, {}), sink

    def _watched(
        self, command: list[str], group: str, topic: str, number: int, environment: dict[str, str]
    ) -> dict[str, float]:
        ends = {(topic, 0): number}
        return run_until_committed(self._settings, [command], group, ends, self._broker.pid, TIMEOUT_S, [environment])


# -- equal results ----------------------------------------------------------------------------------------------------


def check(side: Side, settings: Settings, work: Work, number: int) -> int:
    """Both sides over ``number`` messages; returns how many numbers were equal.

    Raises:
        AssertionError: one differs, or is missing.
    """
    topic = f"{work.name}.checked"
    fill(settings, topic, work.make(number))
    mine = arrow_rows(settings, side.ours(work, topic, number)[1])
    if peer("quix_stream.py") is None:
        return 0
    theirs = values(
        settings, side.theirs(work, topic, number)[1], 1, lambda each: (each.key(), json.loads(each.value()))
    )
    return _equal_features(mine, theirs, number) if work.name == "features" else _equal_bars(mine, theirs)


def _equal_features(mine: pa.Table, theirs: list[Any], number: int) -> int:
    assert mine.num_rows == len(theirs) == number, (mine.num_rows, len(theirs), number)
    assert mine["source_offset"].to_pylist() == list(range(number))
    names = ("symbol", "ts", "mid", "spread_bps", "imbalance", "microprice")
    for name in names:
        assert mine[name].to_pylist() == [row[name] for _, row in theirs], name
    return number * len(names)


def _equal_bars(mine: pa.Table, theirs: list[Any]) -> int:
    rows = {(row["key"], row["bar_ts"]): (row["vwap"], row["volume"], row["trades"]) for row in mine.to_pylist()}
    peers = {
        (key.decode(), row["end_ms"] * 1_000_000): (row["vwap"], row["volume"], row["trades"]) for key, row in theirs
    }
    assert len(rows) == mine.num_rows, "a bar came twice"
    assert rows == peers, "bars differ"
    return 3 * len(rows)


# -- times ------------------------------------------------------------------------------------------------------------


def compare(side: Side, settings: Settings, work: Work, pairs: int) -> dict[str, Any]:
    """Runs in turn over the same messages; the peer takes the first ``work.theirs`` of them."""
    mine, theirs = [], []
    for pair in range(pairs):
        waiting(f"{work.name}, pair {pair + 1} of {pairs}: ours")
        found, sink = side.ours(work, work.topic, work.ours)
        mine.append(found)
        if work.name == "features":
            rows = arrow_rows(settings, sink).num_rows
            assert rows == work.ours, f"{rows:,} rows came of {work.ours:,} messages"
        if peer("quix_stream.py") is not None:
            waiting(f"{work.name}, pair {pair + 1} of {pairs}: Quix Streams")
            theirs.append(side.theirs(work, work.topic, work.theirs)[0])
    return {"ours": summary(mine), "peer": summary(theirs) if theirs else None, **_ratios(mine, theirs)}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Of several runs."""
    two = {name: spread([run[name] for run in runs]) for name in ("per_s", "per_cpu_s")}
    more = ("cores", "broker_cores", "start_up_s", "seconds", "commits")
    return two | {name: round(median(run[name] for run in runs), 2) for name in more}


def _ratios(mine: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    pairs = list(zip(mine, theirs, strict=False))
    return {
        name: spread([a[what] / b[what] for a, b in pairs], lambda value: round(value, 2)) if pairs else None
        for name, what in (("ratio", "per_s"), ("ratio_per_cpu_s", "per_cpu_s"))
    }


def waiting(what: str) -> None:
    """Say what is being waited for."""
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def works(quick: bool) -> list[Work]:
    """The two comparisons."""
    few, many = (20_000, 20_000), (3_000_000, 500_000)
    first, second = (few, few) if quick else (many, (2_000_000, 200_000))
    return [Work("features", "quote_features.py", quotes, *first), Work("bars", "trade_bars.py", trades, *second)]


def main() -> None:
    """Print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few messages: right, not fast")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    parser.add_argument("--only", choices=["features", "bars", "arrow"], help="one part")
    options = parser.parse_args()
    if peer("quix_stream.py") is None:
        print(MISSING)
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        settings = Settings(bootstrap=broker.bootstrap)
        create_topics(settings)
        side = Side(settings, broker, Path(folder))
        for work in works(options.quick):
            if options.only not in (None, work.name):
                continue
            waiting(f"{work.name}: equal results?")
            checked = check(side, settings, work, 6_000 if options.quick else CHECKED)
            waiting(f"{work.name}: filling {work.topic} with {work.ours:,} messages")
            fill(settings, work.topic, work.make(work.ours))
            results[work.name] = compare(side, settings, work, 1 if options.quick else options.pairs)
            results[work.name]["numbers_equal"] = checked
    if options.only in (None, "arrow"):
        waiting("arrow: a log of large messages, one worker and two")
        results["arrow"] = arrow_streaming.measure(options.quick, 100_000 if options.quick else 16_000_000)
    show(results)
    print(json.dumps({"benchmark": "streaming", "peer": "quixstreams", "results": results, **where(VERSIONS)}))


VERSIONS: Final = ("numpy", "numba", "polars", "pyarrow", "msgspec", "confluent-kafka")


def show(results: dict[str, Any]) -> None:
    """The table."""
    print(f"{'':>22}{'per s':>12}{'per CPU s':>12}{'cores':>7}{'broker':>8}{'start-up s':>12}")
    for name in [name for name in ("features", "bars") if name in results]:
        result = results[name]
        for who in ("ours", "peer"):
            if found := result[who]:
                flat = found | {each: found[each]["median"] for each in ("per_s", "per_cpu_s")}
                _line(f"{name} {who}", flat)
        if result["ratio"]:
            print(
                f"{name + ' ratio':>22}{result['ratio']['median']:>12}{result['ratio_per_cpu_s']['median']:>12}"
                f"   goal {GOALS[name]}; {result['numbers_equal']:,} numbers equal"
            )
    for name, found in results.get("arrow", {}).items():
        if isinstance(found, dict):
            _line(f"arrow {name}", found)
    if "arrow" in results:
        print(f"arrow: rows; goal {ARROW_GOAL:,} rows/s; {results['arrow']['rows_checked']:,} feature rows equal")


def _line(name: str, found: dict[str, Any]) -> None:
    print(
        f"{name:>22}{found['per_s']:>12,.0f}{found['per_cpu_s']:>12,.0f}{found['cores']:>7.2f}"
        f"{found['broker_cores']:>8.2f}{found['start_up_s']:>12.2f}"
    )


if __name__ == "__main__":
    main()
