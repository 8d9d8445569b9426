"""Deribit live against a local venue: subscriptions, whole chains, gaps, refusals, and a capture that replays."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from logged_rows import best, rows
from small_deribit import CALL, START_MS, notification, text, ticker, trade
from venue_server import QUICK, Abort, Close, DeribitServer, Do, Lose, Plan, Say, Send, Settle, Sink, Stall, until

from features.book import replay_l2
from features.errors import ConfigError
from features.events import Kind
from pipeline.sources.deribit_recording import DeribitRecording
from pipeline.sources.live.connection import VenueError
from pipeline.sources.live.deribit import DeribitConfig, DeribitLive
from pipeline.sources.live.session import follow

PERP = "BTC-PERPETUAL"
CONFIG = DeribitConfig([PERP], connection=QUICK, check_interval_s=0.005, retry_s=0.1)
STALLING = replace(CONFIG, connection=replace(QUICK, stall_timeout_s=0.3))
TEST_REQUEST = Say(text({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}).decode())


def say(message: bytes) -> Say:
    return Say(message.decode())


async def play(
    server: DeribitServer, config: DeribitConfig = CONFIG, also: Callable[[], bool] = lambda: True
) -> tuple[Sink, DeribitLive]:
    """Follow the venue until it has played its plans and we are where it is."""
    async with server:
        sink = Sink()
        live = DeribitLive(replace(config, url=f"ws://{server.address}"), sink.outlet)
        server.settled = lambda: sink.last_update() == server.book.change_id
        following = asyncio.ensure_future(follow(live, signals=False))
        await until(lambda: following.done() or (server.played.is_set() and server.settled() and also()))
        following.cancel()
        (ended,) = await asyncio.gather(following, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended
        return sink, live


def asked(server: DeribitServer) -> list[tuple[str, Any]]:
    return [(request["method"], request.get("params")) for _at, request in server.requests]


def test_one_instrument_is_listed_introduced_and_followed() -> None:
    plan = [Send(10), say(trade(PERP, 0, 3, 30_000.0, 20.0, "sell")), say(ticker(PERP, 0, funding_8h=1e-5)), Send(3)]
    server = DeribitServer(plan)
    sink, _live = asyncio.run(play(server))
    assert best(sink.batches) == (True, *server.book.best())
    assert [row["instrument"] for row in rows(sink.batches, Kind.INSTRUMENT)] == ["deribit:BTC-PERPETUAL"]
    assert [row["size"] for row in rows(sink.batches, Kind.TRADE)] == [2]
    assert [row["rate_e9"] for row in rows(sink.batches, Kind.FUNDING)] == [10_000]
    assert rows(sink.batches, Kind.HEARTBEAT)
    assert sink.reasons == []
    assert [method for method, _ in asked(server)] == [
        "public/set_heartbeat", "public/get_instruments", "public/subscribe",
    ]  # fmt: skip
    assert asked(server)[1][1] == {"currency": "BTC", "expired": False}
    assert asked(server)[2][1]["channels"] == [f"{kind}.{PERP}.100ms" for kind in ("book", "trades", "ticker")]


@pytest.mark.parametrize(
    "plans",
    [
        ([Send(10), Settle(), Close()], [Send(10)]),
        ([Send(10), Abort()], [Lose(3), Abort()], [Send(10)]),
        ([Send(10), Settle(), Stall()], [Send(10)]),
    ],
    ids=["drop", "drops", "stall"],
)
def test_after_every_failure_everything_is_subscribed_anew_and_the_book_is_the_venues(plans: tuple[Plan, ...]) -> None:
    server = DeribitServer(*plans)
    sink, live = asyncio.run(play(server, STALLING if Stall() in plans[0] else CONFIG))
    assert best(sink.batches) == (True, *server.book.best())
    assert live.counts["opened"] == len(plans) == Counter(asked_for(server))["public/subscribe"]
    assert len(rows(sink.batches, Kind.INSTRUMENT)) == 1


def asked_for(server: DeribitServer) -> list[str]:
    return [method for method, _params in asked(server)]


def test_a_gap_is_healed_by_subscribing_that_book_again() -> None:
    server = DeribitServer([Send(10), Settle(), Lose(2), Send(10)])
    sink, live = asyncio.run(play(server))
    assert best(sink.batches) == (True, *server.book.best())
    assert replay_l2(sink.batches)["valid"].to_list().count(False) == 1
    assert asked_for(server)[3:] == ["public/unsubscribe", "public/subscribe"]
    assert asked(server)[-1][1] == {"channels": [f"book.{PERP}.100ms"]}
    assert (live.counts["gap"], live.counts["resubscribed"], live.counts["opened"]) == (1, 1, 1)


def test_garbage_is_a_dead_letter_and_the_session_goes_on() -> None:
    frames = ['{"jsonrpc"', b"\xff", "[]", "{}", notification("book.X.100ms", {}).decode()]
    server = DeribitServer([Send(5), *(Say(frame) for frame in frames), Send(5)])
    sink, live = asyncio.run(play(server))
    assert sink.reasons == ["broken_json", "broken_json", "unexpected_form", "unknown_message", "unexpected_form"]
    assert best(sink.batches) == (True, *server.book.best())
    assert live.counts["opened"] == 1


def test_the_venues_test_request_is_answered() -> None:
    server = DeribitServer([TEST_REQUEST, Send(5)])
    asyncio.run(play(server, also=lambda: "public/test" in asked_for(server)))


def test_a_whole_chain_is_followed_with_what_is_listed_later() -> None:
    later = CALL | {"instrument_name": "BTC-29DEC23-41000-P", "strike": 41_000.0, "option_type": "put"}
    states = [
        {"instrument_name": name, "state": state, "timestamp": START_MS}
        for name, state in (("BTC-29DEC23-50001-C", "terminated"), ("BTC-29DEC23-41000-P", "created"))
    ]
    news = [say(notification("instrument.state.option.BTC", state)) for state in states]
    server = DeribitServer([Send(3), Do(lambda: server.listed.append(later)), *news, Send(3)])
    server.listed += [CALL | {"instrument_name": f"BTC-29DEC23-{k}-C"} for k in range(50_000, 50_300)]
    config = replace(CONFIG, symbols=[PERP, "BTC-options"], option_books=False)

    def chunks() -> list[list[str]]:
        return [params["channels"] for method, params in asked(server) if method == "public/subscribe"]

    sink, _live = asyncio.run(play(server, config, also=lambda: "ticker.BTC-29DEC23-41000-P.100ms" in str(chunks())))
    wanted = [channel for chunk in chunks() for channel in chunk]
    assert len(wanted) == len(set(wanted)) == 3 + 2 * 302 + 1
    assert chunks()[-1] == ["trades.BTC-29DEC23-41000-P.100ms", "ticker.BTC-29DEC23-41000-P.100ms"]
    assert max(len(chunk) for chunk in chunks()) == 200
    assert "instrument.state.option.BTC" in wanted
    assert asked_for(server).count("public/get_instruments") == 2
    assert len(rows(sink.batches, Kind.INSTRUMENT)) == 303


def test_requests_go_out_no_faster_than_allowed() -> None:
    server = DeribitServer([Send(1)])
    server.listed += [CALL | {"instrument_name": f"BTC-29DEC23-{k}-C"} for k in range(50_000, 50_300)]
    slow = replace(QUICK, requests_per_s=50.0, request_burst=1)
    config = replace(CONFIG, symbols=["BTC-options", PERP], connection=slow)
    asyncio.run(play(server, config, also=lambda: len(server.requests) >= 8))
    times = [at for at, _request in server.requests]
    assert times[-1] - times[0] >= (len(times) - 1) / 50 - 0.01


def test_a_passing_refusal_is_asked_again() -> None:
    server = DeribitServer([Send(5)], refusals=[10_028])
    sink, live = asyncio.run(play(server))
    assert sink.reasons == ["venue_error"]
    assert live.counts["request_again"] == 1
    assert best(sink.batches) == (True, *server.book.best())


def test_a_lasting_refusal_and_an_unlisted_symbol_end_the_session_with_a_remedy() -> None:
    with pytest.raises(VenueError, match=r"refuses public/subscribe: refused \(13778\)"):
        asyncio.run(play(DeribitServer([Send(5)], refusals=[13_778])))
    with pytest.raises(ConfigError, match="lists no BTC-1JAN99"):
        asyncio.run(play(DeribitServer([Send(5)]), replace(CONFIG, symbols=[PERP, "BTC-1JAN99"])))
    with pytest.raises(ConfigError, match="No symbol"):
        DeribitLive(replace(CONFIG, symbols=[]), Sink().outlet)


def test_the_capture_replays_into_the_same_events(tmp_path: Path) -> None:
    server = DeribitServer(
        [
            Send(10),
            Settle(),
            Lose(2),
            Send(5),
            Settle(),
            Say("{"),
            say(trade(PERP, 0, 3, 30_000.0, 20.0, "buy")),
            Abort(),
        ],
        [Lose(1), Send(30), say(ticker("BTC-29DEC23-40000-C", 0, best_bid_price=0.0455)), Send(1)],
    )
    symbols = [PERP, "BTC-options"]
    sink, live = asyncio.run(play(server, replace(CONFIG, symbols=symbols, capture=tmp_path, rotate_s=0.05)))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 1
    recording = DeribitRecording(paths, only=live.selection)
    replayed = list(recording.batches())
    for kind in Kind:
        assert rows(replayed, kind) == rows(sink.batches, kind)
    assert len(rows(replayed, Kind.OPTION_QUOTE)) == 1
    assert recording.rejected == dict(sink.outlet.rejected) == {"broken_json": 1}
    assert best(replayed) == (True, *server.book.best())
