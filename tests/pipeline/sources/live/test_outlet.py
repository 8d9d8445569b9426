"""Live rows keep their order, wait only a little, and an error of the log is not lost in a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from venue_server import Sink, until

from features.errors import HedgeflowError
from features.events import EventBatch, Kind
from features.stage import Reject
from pipeline.edge import Edge
from pipeline.sources.base import UnusableError
from pipeline.sources.live.outlet import MAX_WAITING, Outlet
from pipeline.sources.runs import MERGE_ORDER, Run


def trade(ts: int, number: int) -> Run:
    columns: dict[str, Any] = {
        "instrument": "x:BTC", "ts_event": ts, "trade_id": number, "price": 1, "size": 1, "aggressor": 1,
    }  # fmt: skip
    return Run(ts, MERGE_ORDER[Kind.TRADE], 0, number, Kind.TRADE, "BTC", 1, columns)


def test_rows_are_gathered_and_appended_in_order_soon() -> None:
    async def session(sink: Sink) -> None:
        for number in range(10):
            sink.outlet.take(b"", lambda ts, _: [trade(ts, number)], "x", None)  # noqa: B023 (called at once)
        assert sink.batches == []
        await until(lambda: sink.edge.rows == 10)
        for number in range(MAX_WAITING):
            sink.outlet.take(b"", lambda ts, _: [trade(ts, number)], "x", None)  # noqa: B023
        assert sink.edge.rows == 10 + MAX_WAITING
        sink.outlet.flush()

    sink = Sink()
    asyncio.run(session(sink))
    assert sink.batches[0].data.column("trade_id").to_pylist() == list(range(6))  # 5 ms of receive time
    assert [seq for batch in sink.batches for seq in batch.data.column("seq").to_pylist()] == list(range(266))


def test_a_clock_that_steps_back_is_held() -> None:
    times: Iterator[int] = iter([10, 7, 11])
    sink = Sink()
    outlet = Outlet(sink.edge, clock=lambda: next(times))
    assert [outlet.now() for _ in range(3)] == [10, 10, 11]


def test_what_cannot_be_used_is_counted_and_handed_on() -> None:
    def refuse(_ts: int, _message: bytes) -> list[Run]:
        raise UnusableError("bad_trade", "no price")

    sink = Sink()
    sink.outlet.take(b"raw", refuse, "venue", None)
    (reject,) = sink.rejects
    assert (reject.reason, reject.payload, reject.origin) == ("bad_trade", b"raw", "venue")
    assert (sink.outlet.rejected, sink.outlet.messages) == ({"bad_trade": 1}, 1)


class FullLog:
    """A log that takes nothing."""

    def append(self, batch: EventBatch) -> None:
        raise HedgeflowError("The log is full.", "Make room.")

    def reject(self, origin: str, reject: Reject) -> None:
        raise AssertionError


def test_an_error_of_the_log_reaches_the_next_message() -> None:
    async def session() -> None:
        outlet = Outlet(Edge(FullLog(), "x"))
        for number in range(100):
            outlet.take(b"", lambda ts, _: [trade(ts, number)], "x", None)  # noqa: B023
            await asyncio.sleep(0.002)

    with pytest.raises(HedgeflowError, match="The log is full"):
        asyncio.run(session())
