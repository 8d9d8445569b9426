"""A connection that stays up, waits longer after every failure, and sends no faster than allowed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_server import QUICK, Abort, Lose, Say, VenueServer, until

from features.errors import ConfigError, HedgeflowError
from pipeline.sources.live.connection import Backoff, Connection, ConnectionConfig, VenueError
from pipeline.sources.live.rate_limit import TokenBucket


class Quiet(VenueServer):
    """Says what its plan says."""

    def change(self) -> bytes:
        return b"x"


def test_waits_grow_to_the_most_with_jitter_that_the_seed_decides() -> None:
    config = ConnectionConfig(backoff_initial_s=0.5, backoff_max_s=8.0)
    backoff = Backoff(config, 7)
    waits = [next(backoff) for _ in range(2_000)]
    full = [min(8.0, 0.5 * 2.0 ** min(k, 9)) for k in range(2_000)]
    shares = [wait / most for wait, most in zip(waits, full, strict=True)]
    assert all(0.5 <= share < 1.0 for share in shares)
    assert 0.74 < sum(shares) / len(shares) < 0.76  # uniform: the standard error is 0.003
    again = Backoff(config, 7)
    assert [next(again) for _ in range(20)] == waits[:20]
    assert next(Backoff(config, 8)) != waits[0]
    backoff.reset()
    assert next(backoff) < 0.5


@given(st.floats(0.1, 100.0), st.integers(1, 20), st.lists(st.floats(0.0, 0.5), min_size=1, max_size=200))
def test_no_window_holds_more_requests_than_burst_and_rate_allow(
    rate_per_s: float, burst: int, pauses: list[float]
) -> None:
    bucket = TokenBucket(rate_per_s, burst)
    now_s, sent = 0.0, []
    for pause in pauses:
        now_s = now_s + pause
        sent.append(now_s + bucket.reserve(now_s))
    assert sent == sorted(sent)
    for i, first in enumerate(sent):
        for j in range(i, len(sent)):
            assert j - i + 1 <= burst + (sent[j] - first) * rate_per_s + 1e-6


def test_a_bucket_that_lets_nothing_through_is_refused() -> None:
    for rate, burst in ((0.0, 1), (1.0, 0)):
        with pytest.raises(ConfigError):
            TokenBucket(rate, burst)


def test_frames_come_in_order_over_connections_and_posts_go_to_the_present_one() -> None:
    async def session() -> tuple[list[bytes], Connection, Quiet]:
        async with Quiet([Say("1"), Say(b"2"), Abort()], [Say("3"), Lose(1), Say("4")]) as server:
            frames: list[bytes] = []
            connection = Connection(
                f"ws://{server.address}", frames.append, on_open=lambda: connection.post(b'{"n":1}'), config=QUICK
            )
            connection.post(b'"lost: nothing is open"')
            running = asyncio.ensure_future(connection.run())
            await until(lambda: len(frames) == 4 and len(server.requests) >= 1)
            assert connection.is_open
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert not connection.is_open
            return frames, connection, server

    frames, connection, server = asyncio.run(session())
    assert frames == [b"1", b"2", b"3", b"4"]
    assert connection.counts["opened"] == 2
    assert connection.counts["frames"] == 4
    assert all(request == {"n": 1} for _at, request in server.requests)


def test_a_venue_that_was_never_reached_is_an_error_and_a_lost_one_is_not() -> None:
    async def unreachable() -> None:
        await Connection("ws://127.0.0.1:1", lambda _: None, config=QUICK).run()

    with pytest.raises(VenueError, match=r"ws://127\.0\.0\.1:1 cannot be reached"):
        asyncio.run(unreachable())

    async def lost() -> Connection:
        async with Quiet([Say("1")]) as server:
            connection = Connection(f"ws://{server.address}", lambda _: None, config=QUICK)
            running = asyncio.ensure_future(connection.run())
            await until(lambda: connection.counts["frames"] == 1)
        await until(lambda: connection.counts["refused"] > 2 * QUICK.first_attempts)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return connection

    assert asyncio.run(lost()).counts["opened"] == 1


def test_a_handler_that_refuses_ends_the_session() -> None:
    def refuse(_frame: bytes) -> None:
        raise HedgeflowError("The log is full.", "Make room.")

    async def session() -> None:
        async with Quiet([Say("1")]) as server:
            await Connection(f"ws://{server.address}", refuse, config=QUICK).run()

    with pytest.raises(HedgeflowError, match="The log is full"):
        asyncio.run(session())


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "nonsense"])
def test_a_url_of_another_form_is_a_matter_of_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="no websocket URL"):
        asyncio.run(Connection(url, lambda _: None, config=replace(QUICK, first_attempts=1)).run())
