"""Recorded Deribit websocket lines, in every form in which they are kept."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from small_deribit import (
    CALL,
    ETHER,
    LATENCY_NS,
    PERPETUAL,
    START_MS,
    DeribitBook,
    instruments,
    line,
    text,
    ticker,
    trade,
)  # fmt: skip

from features.book import replay_l2
from features.errors import BadInputError
from features.events import EventBatch, Kind
from pipeline.sources.base import Reject
from pipeline.sources.deribit_recording import DeribitRecording

FIXTURE = ("DERIBIT.0.gz", "DERIBIT.ws.1.0.gz")


def rows(batches: list[EventBatch], kind: Kind) -> list[dict[str, object]]:
    return [row for batch in batches if batch.kind is kind for row in batch.data.to_pylist()]


def seconds(message: bytes, at_ms: int, prefix: str = "") -> bytes:
    """The same line with its time in seconds, as other recorders write it."""
    received = (START_MS + at_ms) * 1_000_000 + LATENCY_NS
    return prefix.encode() + f"{received // 10**9}.{received % 10**9:09d}: ".encode() + message


def session() -> list[tuple[int, bytes]]:
    venue = DeribitBook()
    messages = [(0, instruments(PERPETUAL, CALL, ETHER)), (venue.at_ms, venue.snapshot())]
    for _ in range(40):
        change = venue.change()
        messages.append((venue.at_ms, change))
    messages.append((venue.at_ms, trade("ETH-PERPETUAL", venue.at_ms, 4, 2_000.05, 3, "sell")))
    messages.append((venue.at_ms, ticker("BTC-29DEC23-40000-C", venue.at_ms, best_bid_price=0.0455)))
    return messages


def test_our_capture_and_other_recorders_lines_give_the_same_rows(tmp_path: Path) -> None:
    ours, other, listing = tmp_path / "deribit_1.gz", tmp_path / "ws", tmp_path / "rest"
    first, *rest = session()
    ours.write_bytes(gzip.compress(b"\n".join(line(message, at) for at, message in session()) + b"\n"))
    listing.write_bytes(
        seconds(first[1], first[0], "https://venue/api/v2/public/get_instruments?currency=BTC -> ")
        + b'\nconfiguration: {"trades":[]}\n'
    )
    head = b"wss://venue/ws/api/v2 <-> 1699999999.5\n" + seconds(text({"id": 1}), 0, "wss://venue/ws/api/v2 <- ")
    other.write_bytes(b"\n".join([head, *(seconds(message, at) for at, message in rest)]))
    captured = DeribitRecording([ours])
    recorded = DeribitRecording([listing, other])
    expected = [batch.data.to_pylist() for batch in captured.batches()]
    assert [batch.data.to_pylist() for batch in recorded.batches()] == expected
    assert recorded.skipped["recorder_line"] == 3
    assert recorded.rejected == captured.rejected == {}
    assert captured.clock_offset_ns == LATENCY_NS


def test_a_bad_line_is_a_dead_letter_with_its_place(tmp_path: Path) -> None:
    lines = [line(message, at) for at, message in session()]
    lines[20] = lines[20][:-30]
    lines.insert(3, b"noise")
    path = tmp_path / "deribit_1"
    path.write_bytes(b"\n".join(lines))
    rejects: list[Reject] = []
    recording = DeribitRecording([path], on_reject=rejects.append)
    batches = list(recording.batches())
    assert [(reject.reason, reject.origin) for reject in rejects] == [
        ("no_receive_time", f"{path}:4"), ("broken_json", f"{path}:22"), ("no_snapshot", str(path)),
    ]  # fmt: skip
    assert recording.rejected == {"no_receive_time": 1, "broken_json": 1, "no_snapshot": 1}
    assert not replay_l2(batches)["valid"][-1]
    assert len(rows(batches, Kind.TRADE)) == 1


def test_a_truncated_file_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "deribit_1.gz"
    path.write_bytes(gzip.compress(b"\n".join(line(message, at) for at, message in session()))[:-40])
    recording = DeribitRecording([path], only={"BTC-PERPETUAL"})
    batches = list(recording.batches())
    assert recording.rejected["truncated_gzip"] == 1
    assert {row["instrument"] for row in rows(batches, Kind.INSTRUMENT)} == {"deribit:BTC-PERPETUAL"}
    assert len(replay_l2(batches)) > 10


def test_files_that_are_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        DeribitRecording([tmp_path / "none.gz"])
    with pytest.raises(BadInputError, match="No file"):
        DeribitRecording([])


@pytest.mark.data
def test_real_messages_parse_and_the_book_agrees_with_the_venues_tickers(recorded_data: Path) -> None:
    """Where a ticker has the time of the book's last change, their best prices must be equal."""
    folder = recorded_data / "fixtures" / "deribit_ws"
    rejects: list[Reject] = []
    recording = DeribitRecording([folder / name for name in FIXTURE], on_reject=rejects.append)
    batches = list(recording.batches())
    assert rejects == []
    assert dict(recording.skipped) == {"recorder_line": 3}
    assert len(rows(batches, Kind.INSTRUMENT)) == 1_017
    best = replay_l2(batches)
    assert best["valid"].all()
    assert best["instrument"].n_unique() == 10
    quotes = pl.DataFrame(rows(batches, Kind.OPTION_QUOTE)).select("instrument", "ts_event", "bid", "ask")
    assert quotes.height == 89
    last = best.group_by("instrument", "ts_event", maintain_order=True).last()
    both = quotes.join(last, on=["instrument", "ts_event"]).group_by("instrument", "ts_event").last()
    assert both.height >= 30
    assert both["bid"].equals(both["bid_price_0"].alias("bid"), null_equal=True)
    assert both["ask"].equals(both["ask_price_0"].alias("ask"), null_equal=True)
