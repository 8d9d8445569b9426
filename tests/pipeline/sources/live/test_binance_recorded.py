"""The live source against a local venue that plays raw lines of a recording, with drops, losses and garbage."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import venue_server
from binance_session import play
from logged_rows import best, rows
from venue_server import Abort, BinanceServer, Lose, Say, Send, Settle

from features.events import Kind

RECORDING = Path(__file__).resolve().parents[5] / "shared" / "data" / "binance" / "usdm_btcusdt_20240808.gz"


class RecordedBook:
    """The recorded venue: its raw messages one after another, and its book as dictionaries of their texts."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._sides: dict[str, dict[Decimal, str]] = {}
        self.last = self.time_ms = 0
        early = []
        while not self._sides:
            message = json.loads(next(lines).split(b" ", 1)[1])
            if "lastUpdateId" in message:
                self.last = message["lastUpdateId"]
                self._sides = {side: {Decimal(p): q for p, q in message[side]} for side in ("bids", "asks")}
            else:
                early.append(message["data"])
        for data in early:
            self._apply(data)

    def _apply(self, data: dict[str, Any]) -> None:
        self.time_ms = max(self.time_ms, data.get("E", 0))
        if data.get("e") != "depthUpdate" or data["u"] <= self.last:
            return
        for side, key in (("bids", "b"), ("asks", "a")):
            for price, size in data[key]:
                self._sides[side].pop(Decimal(price), None)
                if Decimal(size):
                    self._sides[side][Decimal(price)] = size
        self.last = data["u"]

    def diff(self) -> bytes:
        raw = next(self._lines).split(b" ", 1)[1].strip()
        self._apply(json.loads(raw)["data"])
        return raw

    def snapshot(self) -> bytes:
        levels = {side: [[str(p), q] for p, q in book.items()] for side, book in self._sides.items()}
        times = {"lastUpdateId": self.last, "E": self.time_ms, "T": self.time_ms}
        return json.dumps(times | levels).encode()

    def best(self) -> tuple[int, int, int, int]:
        bid, ask = max(self._sides["bids"]), min(self._sides["asks"])
        sizes = Decimal(self._sides["bids"][bid]), Decimal(self._sides["asks"][ask])
        return int(bid * 10), int(sizes[0] * 1_000), int(ask * 10), int(sizes[1] * 1_000)


@pytest.mark.data
@pytest.mark.skipif(not RECORDING.exists(), reason=f"recorded data is not at {RECORDING.parent}")
def test_recorded_lines_with_drops_losses_and_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    with gzip.open(RECORDING) as lines:
        book = RecordedBook(iter(lines))
        monkeypatch.setattr(venue_server, "START_MS", book.time_ms)
        server = BinanceServer(
            [Send(400), Settle(), Say("{"), Send(200), Abort()],
            [Lose(150), Send(300), Settle(), Lose(60), Send(300), Abort()],
            [Lose(5), Send(400)],
        )
        server.book = book  # type: ignore[assignment]
        sink, live = asyncio.run(play(server))
    assert best(sink.batches) == (True, *book.best())
    assert sink.reasons == ["broken_json"]
    assert len(rows(sink.batches, Kind.TRADE)) > 20
    assert live.counts["snapshot_requests"] >= 3
