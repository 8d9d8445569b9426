"""A source of your own: best quotes and trades of a CSV file. Copy it, and change what reads a line (docs/sources.md).
time_ms,symbol,bid,bid_size,ask,ask_size,trade_price,trade_size      (a trade's size is negative if the seller took)
1723075200000,BTCUSD,61800.1,2,61800.2,1.5,,
1723075200250,BTCUSD,61800.1,2,61800.2,1.25,61800.2,0.25
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from features.events import ASK, BID, LAST, NANO, SNAPSHOT, EventBatch, Kind
from pipeline.sources.base import OnReject, Reject, UnusableError, ignore_reject
from pipeline.sources.decimals import Increment
from pipeline.sources.listing import RunNumbers, with_listing
from pipeline.sources.recording_lines import read_lines
from pipeline.sources.runs import Run, batches_of

INCREMENTS = {"BTCUSD": (Increment.from_e9(100_000_000), Increment.from_e9(1_000_000))}  # 0.1 and 0.001


class MySource:
    """Yields events in the order in which they were received; what cannot be used is a reject, and the rest flows."""

    name = "my-source"

    def __init__(self, path: Path, on_reject: OnReject = ignore_reject) -> None:
        self._path, self._on_reject = path, on_reject

    def batches(self) -> Iterator[EventBatch]:
        """All events; instruments and heartbeats are added."""
        return batches_of(with_listing(self._runs(), describe))

    def _runs(self) -> Iterator[Run]:
        numbers, latest = RunNumbers(0), 0
        for number, line in enumerate(read_lines(self._path, self._damaged), 1):
            if number == 1 or not line:
                continue
            try:
                time_ns, rows = decode(line)
                if time_ns < latest:
                    raise UnusableError("out_of_order", "received before the line that precedes it")
            except UnusableError as error:
                self._on_reject(Reject(error.reason, error.detail, line, f"{self._path}:{number}"))
                continue
            latest = time_ns
            for kind, columns in rows:
                count = len(columns["side"]) if kind is Kind.BOOK else 1
                yield numbers.run(kind, time_ns, "BTC", count, columns)

    def _damaged(self, reason: str, detail: str, lines: int, rest: bytes) -> None:
        self._on_reject(Reject(reason, detail, rest, f"{self._path}:{lines + 1}"))


def decode(line: bytes) -> tuple[int, list[tuple[Kind, dict[str, Any]]]]:
    """One line as rows; prices and sizes become counts of increments, exactly."""
    fields = line.decode("utf-8", "replace").strip().split(",")
    if len(fields) != 8 or not fields[0].isdigit() or fields[1] not in INCREMENTS:
        raise UnusableError("unexpected_form", f"{fields}")
    time_ns, (price, size) = int(fields[0]) * 1_000_000, INCREMENTS[fields[1]]
    common = {"instrument": f"mine:{fields[1]}", "ts_event": time_ns}
    book = common | {
        "prev_id": time_ns,  # a snapshot needs no predecessor; a delta names the update_id that it follows
        "update_id": time_ns,
        "side": np.array([BID, ASK], dtype=np.int8),
        "price": np.array([price.count(fields[2]), price.count(fields[4])]),
        "size": np.array([size.count(fields[3]), size.count(fields[5])]),
        "flags": np.array([SNAPSHOT, SNAPSHOT | LAST], dtype=np.uint8),
    }
    if not fields[6]:
        return time_ns, [(Kind.BOOK, book)]
    signed = size.count(fields[7])
    trade = {"trade_id": 0, "price": price.count(fields[6]), "size": abs(signed), "aggressor": 1 if signed > 0 else -1}
    return time_ns, [(Kind.BOOK, book), (Kind.TRADE, common | trade)]


def describe(name: str, ts_event: int) -> dict[str, Any]:
    """What the log must know of an instrument before its first row."""
    price, size = INCREMENTS[name.partition(":")[2]]
    row = {"instrument": name, "ts_event": ts_event, "instrument_type": "spot", "is_inverse": False}
    row |= {"quote_currency": "USD", "settlement_currency": "USD", "contract_size_e9": NANO}
    row |= {"price_increment_e9": price.e9, "size_increment_e9": size.e9}
    return {column: [value] for column, value in row.items()}


if __name__ == "__main__":
    from pipeline.edge import Edge
    from pipeline.log import KafkaLog
    from pipeline.settings import Settings

    edge = Edge(log := KafkaLog(Settings()), MySource.name)
    for batch in MySource(Path(sys.argv[1]), on_reject=print).batches():
        edge.send(batch)
    log.flush()
    print(f"{edge.rows} rows to md.events; refused {dict(log.rejected)}")  # noqa: T201
