"""Binance live against a local venue that drops, stalls, loses and garbles: the book that comes out is the venue's."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from binance_session import CONFIG, play
from logged_rows import best, rows
from small_deribit import START_MS
from venue_server import QUICK, Abort, BinanceServer, Close, Lose, Plan, Say, Send, Settle, Sink, Stall

from features.book import replay_l2
from features.errors import BadInputError, ConfigError
from features.events import Kind
from pipeline.sources.binance import BinanceRecording
from pipeline.sources.live.binance import BinanceLive

STALLING = replace(CONFIG, connection=replace(QUICK, stall_timeout_s=0.3))
GARBAGE = '{"stream": nonsense'


def stream(name: str, **data: Any) -> Say:
    return Say(json.dumps({"stream": f"btcusdt@{name}", "data": {"s": "BTCUSDT", **data}}))


TRADE = stream("trade", e="trade", E=START_MS, T=START_MS, t=7, p="100.1", q="0.250", m=False)
MARK = stream(
    "markPrice@1s", e="markPriceUpdate", E=START_MS, p="100.15000000", i="100.20000000", P="100.1", r="-0.00012500",
    T=START_MS + 8 * 3_600_000,
)  # fmt: skip


def test_rows_of_every_stream() -> None:
    server = BinanceServer([Send(5), TRADE, MARK, Send(5)])
    sink, live = asyncio.run(play(server))
    assert best(sink.batches) == (True, *server.book.best())
    assert sink.batches[0].kind is Kind.INSTRUMENT
    (trade,) = rows(sink.batches, Kind.TRADE)
    assert (trade["instrument"], trade["price"], trade["size"]) == ("binance-usdm:BTCUSDT", 1_001, 250)
    (funding,) = rows(sink.batches, Kind.FUNDING)
    assert (funding["rate_e9"], funding["index_e9"]) == (-125_000, 100_200_000_000)
    assert (funding["mark_e9"], funding["open_interest_e9"]) == (100_150_000_000, None)
    assert funding["ts_event"] == START_MS * 1_000_000
    assert rows(sink.batches, Kind.HEARTBEAT)
    assert sink.reasons == []
    assert live.counts["snapshot_requests"] == 1
    assert server.paths[0] == (
        "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker/btcusdt@markPrice@1s"
    )


@pytest.mark.parametrize(
    ("plans", "ended"),
    [
        (([Send(10), Settle(), Lose(2), Send(10)],), {}),
        (([Send(10), Settle(), Close()], [Send(10)]), {"closed": 1}),
        (([Send(10), Settle(), Abort()], [Lose(3), Abort()], [Lose(1), Send(10)]), {"closed": 2}),
        (([Send(10), Settle(), Stall()], [Lose(1), Send(10)]), {"stalled": 1}),
        (([Close()], [Close()], [Send(10), TRADE, Close()], [Lose(1), Send(10)]), {"closed": 3}),
    ],
    ids=["gap", "drop", "gaps", "stall", "flapping"],
)
def test_after_every_failure_the_book_is_the_venues_again(plans: tuple[Plan, ...], ended: dict[str, int]) -> None:
    server = BinanceServer(*plans)
    sink, live = asyncio.run(play(server, STALLING if Stall() in plans[0] else CONFIG))
    assert best(sink.batches) == (True, *server.book.best())
    assert {reason: live.counts[reason] for reason in ("closed", "stalled", "refused") if live.counts[reason]} == ended
    assert live.counts["opened"] == len(plans)
    seq = [row["seq"] for batch in sink.batches if batch.kind is Kind.BOOK for row in batch.data.to_pylist()]
    assert seq == list(range(len(seq)))


def test_a_gap_makes_the_book_invalid_until_the_next_snapshot() -> None:
    server = BinanceServer([Send(10), Settle(), Lose(2), Send(10)])
    sink, live = asyncio.run(play(server))
    valid = replay_l2(sink.batches)["valid"].to_list()
    assert valid.count(False) == 1
    assert live.counts["gap"] == 1
    assert live.counts["snapshot_requests"] == 2


def test_a_snapshot_that_fails_or_is_of_no_use_is_asked_for_again_but_not_faster_than_allowed() -> None:
    server = BinanceServer([Send(10)], rest_answers=["busy", "garbage", "old", "busy"])
    server.book.diff()  # the old snapshot is from before it
    slow = replace(CONFIG, snapshots_per_s=20.0)
    sink, live = asyncio.run(play(server, slow))
    assert best(sink.batches) == (True, *server.book.best())
    assert sink.reasons == ["broken_json", "snapshot_too_old"]
    assert live.counts["snapshot_failed"] == 2
    assert len(server.asked) == 5
    assert server.asked[-1] - server.asked[0] >= 3 / 20 - 0.01


def test_garbage_is_a_dead_letter_and_the_session_goes_on() -> None:
    frames = [GARBAGE, b"\x00\xff", "", '{"result":null,"id":1}', "[]"]
    server = BinanceServer([Send(5), *(Say(frame) for frame in frames), Send(5)])
    sink, live = asyncio.run(play(server))
    assert sink.reasons == ["broken_json", "broken_json", "broken_json", "unknown_message", "unexpected_form"]
    assert [reject.payload for reject in sink.rejects][:3] == [GARBAGE.encode(), b"\x00\xff", b""]
    assert {reject.origin for reject in sink.rejects} == {"binance-usdm:BTCUSDT"}
    assert best(sink.batches) == (True, *server.book.best())
    assert live.counts["opened"] == 1


def test_a_frame_that_is_too_large_ends_the_connection_not_the_session() -> None:
    server = BinanceServer([Send(5), Say("x" * 5_000)], [Lose(1), Send(5)])
    small = replace(CONFIG, connection=replace(QUICK, max_frame_bytes=4_096))
    sink, live = asyncio.run(play(server, small))
    assert best(sink.batches) == (True, *server.book.best())
    assert live.counts["opened"] == 2


def test_the_capture_replays_into_the_same_events(tmp_path: Path) -> None:
    server = BinanceServer(
        [Send(10), Settle(), Say(GARBAGE), Lose(1), Send(5), Settle(), TRADE, Abort()],
        [MARK, Send(5), Lose(1), Send(20), MARK],
    )
    sink, live = asyncio.run(play(server, replace(CONFIG, capture=tmp_path, rotate_s=0.02)))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 1
    assert all(path.name.startswith("usdm_btcusdt_20231114_") for path in paths)
    recording = BinanceRecording(paths)
    replayed = list(recording.batches())
    for kind in Kind:
        assert rows(replayed, kind) == rows(sink.batches, kind)
    assert recording.rejected == dict(sink.outlet.rejected)
    assert best(replayed) == (True, *server.book.best())
    assert {name: live.counts[name] for name in recording.skipped} == dict(recording.skipped)


def test_symbols_and_urls_are_checked_before_anything_is_asked() -> None:
    outlet = Sink().outlet
    for config, error in (
        (replace(CONFIG, symbols=[]), ConfigError),
        (replace(CONFIG, symbols=["NOPE"]), BadInputError),
        (replace(CONFIG, symbols=["../USDT"]), BadInputError),
        (replace(CONFIG, market="coinm"), BadInputError),
        (replace(CONFIG, rest_url="file:///etc/passwd"), ConfigError),
    ):
        with pytest.raises(error):
            BinanceLive(config, outlet)


def test_futures_have_an_entry_for_what_is_frequent_and_one_for_the_rest() -> None:
    (symbol,) = BinanceLive(CONFIG, Sink().outlet).symbols
    assert [connection.url for connection in symbol.connections] == [
        "wss://fstream.binance.com/public/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker",
        "wss://fstream.binance.com/market/stream?streams=btcusdt@markPrice@1s",
    ]
    (spot,) = BinanceLive(replace(CONFIG, market="spot"), Sink().outlet).symbols
    assert [connection.url for connection in spot.connections] == [
        "wss://stream.binance.com:9443/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker"
    ]
