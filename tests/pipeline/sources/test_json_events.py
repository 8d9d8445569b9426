from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from features.book import replay_l2
from features.events import LAST, SNAPSHOT, EventBatch, Kind
from pipeline.sources.base import UnusableError
from pipeline.sources.json_events import HedgeflowMessages
from pipeline.sources.json_tardis import TardisMessages, iso_ns
from pipeline.sources.runs import batches_of
from pipeline.sources.tardis_increments import TardisIncrements

NOW = 1_600_000_000_000_000_000
GIVEN = TardisIncrements([], {"desk:BTC": ("0.1", "0.001"), "binance-futures:BTC*": ("0.01", "0.001")})


def rows(runs: list[Any]) -> list[dict[str, Any]]:
    return [row for batch in batches_of(runs) for row in batch.data.to_pylist()]


# -- ours ---------------------------------------------------------------------------------------------------------


def ours(kind: str, **columns: Any) -> bytes:
    return json.dumps({"kind": kind, "underlying": "BTC", "instrument": "desk:BTC", "ts_event": NOW} | columns).encode()


TRADE = {"trade_id": 1, "price": "100.5", "size": "0.250", "aggressor": -1}
BOOK = {"prev_id": 1, "update_id": 2, "side": [1, -1], "price": ["100.5", "101"], "size": ["1", "0"]}
FACTS = {
    "instrument_type": "perpetual",
    "quote_currency": "USD",
    "settlement_currency": "USD",
    "is_inverse": False,
    "price_increment_e9": 500_000_000,
    "size_increment_e9": 10**9,
    "contract_size_e9": 10**9,
}


def test_every_kind_has_its_columns() -> None:
    decoder = HedgeflowMessages(GIVEN)
    (trade,) = rows(decoder.decode(ours("trade", **TRADE), NOW + 5))
    assert (trade["price"], trade["size"], trade["aggressor"], trade["ts_recv"]) == (1_005, 250, -1, NOW + 5)
    (trade,) = rows(decoder.decode(ours("trade", **TRADE, ts_recv=NOW + 1), NOW + 5))
    assert trade["ts_recv"] == NOW + 1
    book = rows(decoder.decode(ours("book", **BOOK, snapshot=True), NOW))
    assert [(row["side"], row["price"], row["size"], row["flags"]) for row in book] == [
        (1, 1_005, 1_000, SNAPSHOT),
        (-1, 1_010, 0, SNAPSHOT | LAST),
    ]
    empty = BOOK | {"side": [], "price": [], "size": []}
    (row,) = rows(decoder.decode(ours("book", **empty), NOW))
    assert (row["price"], row["size"], row["flags"]) == (0, 0, LAST)
    quote = {"expiry_ns": NOW, "strike_e9": 5, "is_call": True, "bid": "0.1", "mark_e9": 7}
    (row,) = rows(decoder.decode(ours("option_quote", **quote), NOW))
    assert (row["bid"], row["ask"], row["mark_e9"]) == (1, None, 7)
    (row,) = rows(decoder.decode(ours("funding", rate_e9=100_000), NOW))
    assert (row["rate_e9"], row["index_e9"]) == (100_000, None)
    text = {"source": "desk", "name": "note", "text": "hello", "value": 1, "ts_available": NOW}
    assert rows(decoder.decode(ours("alt", **text), NOW))[0]["text"] == "hello"
    assert rows(decoder.decode(ours("heartbeat"), NOW))[0]["ts_event"] == NOW


def test_an_instrument_message_brings_its_increments_and_so_does_the_log() -> None:
    decoder, later = HedgeflowMessages(GIVEN), HedgeflowMessages(GIVEN)
    runs = decoder.decode(ours("instrument", instrument="x:BTC", **FACTS), NOW)
    (batch,) = batches_of(runs)
    later.resume(EventBatch(Kind.INSTRUMENT, "BTC", batch.data))
    for each in (decoder, later):
        assert rows(each.decode(ours("trade", instrument="x:BTC", **TRADE | {"size": "2"}), NOW))[0]["price"] == 201


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "broken_json"),
        (b"{", "broken_json"),
        (b"\xff", "broken_json"),
        (b"[]", "unexpected_form"),
        (ours("gossip"), "unknown_message"),
        (b'{"kind": []}', "unknown_message"),
        (b'{"kind": ' + b"[" * 100_000, "broken_json"),
        (ours("trade"), "missing_field"),
        (b'{"kind": "trade", "underlying": "BTC"}', "missing_field"),
        (ours("trade", **TRADE, instrument="y:BTC"), "unknown_increments"),
        (ours("trade", **TRADE, colour=1), "unknown_column"),
        (ours("trade", **TRADE, seq=1), "unknown_column"),
        (ours("trade", **TRADE, snapshot=True), "unknown_column"),
        (ours("trade", **TRADE | {"price": 100.5}), "unexpected_form"),
        (ours("trade", **TRADE | {"price": "100.55"}), "off_increment"),
        (ours("trade", **TRADE | {"price": "1e2"}), "bad_decimal"),
        (ours("trade", **TRADE | {"price": "9" * 19}), "number_overflow"),
        (ours("trade", **TRADE | {"aggressor": 300}), "unexpected_form"),
        (ours("trade", **TRADE | {"trade_id": True}), "unexpected_form"),
        (ours("trade", **TRADE | {"ts_event": "now"}), "unexpected_form"),
        (ours("trade", **TRADE, ts_recv=2**70), "unexpected_form"),
        (ours("book", **BOOK | {"side": [1]}), "unexpected_form"),
        (ours("book", **BOOK | {"side": 1}), "unexpected_form"),
        (ours("book", **BOOK | {"side": [1, 0]}), "unexpected_form"),
        (ours("book", **BOOK, snapshot=1), "unexpected_form"),
        (ours("instrument", **FACTS | {"price_increment_e9": 0}), "unexpected_form"),
    ],
)
def test_what_is_no_event_says_why(payload: bytes, reason: str) -> None:
    with pytest.raises(UnusableError) as caught:
        HedgeflowMessages(GIVEN).decode(payload, NOW)
    assert caught.value.reason == reason


# -- the vendor's -------------------------------------------------------------------------------------------------


def theirs(kind: str, at_ms: int = 0, **fields: Any) -> bytes:
    stamp = f"2020-09-13T12:26:{40 + at_ms // 1000:02d}.{at_ms % 1000:03d}Z"
    base = {
        "type": kind,
        "exchange": "binance-futures",
        "symbol": "BTCUSDT",
        "timestamp": stamp,
        "localTimestamp": stamp,
    }
    return json.dumps(base | fields).encode()


def level(price: Any, amount: Any) -> dict[str, Any]:
    return {"price": price, "amount": amount}


def test_books_follow_changes_and_snapshots() -> None:
    decoder = TardisMessages(GIVEN)
    messages = [
        theirs("book_change", 0, isSnapshot=True, bids=[level(100.5, 1), level(100, 2)], asks=[level(101, 0.5)]),
        theirs("book_change", 1, isSnapshot=False, bids=[level(100.5, 0)], asks=[]),
        theirs("book_change", 1, bids=[], asks=[level("100.9", 1e-3)]),
        theirs("book_snapshot", 2, name="book_snapshot_2_1s", depth=2, bids=[level(99, 1)], asks=[level(102, 1)]),
    ]
    batches = [batch for message in messages for batch in batches_of(decoder.decode(message, NOW))]
    books = replay_l2(batches).select("valid", "bid_price_0", "ask_price_0", "ask_size_0").rows()
    assert books == [
        (True, 10_050, 10_100, 500),
        (True, 10_000, 10_100, 500),
        (True, 10_000, 10_090, 1),
        (True, 9_900, 10_200, 1_000),
    ]
    assert [batch.kind for batch in batches][:2] == [Kind.INSTRUMENT, Kind.BOOK]
    assert batches[0].data.to_pylist()[0]["price_increment_e9"] == 10_000_000
    assert batches[-1].data.to_pylist()[0]["ts_recv"] == NOW + 2_000_000


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (theirs("book_change", 2, bids=[level(100.555, 1)]), "off_increment"),
        (theirs("book_change", 2, bids=[level(100.5, -1)]), "bad_level"),
        (theirs("book_change", 2, bids=[level(0, 1)]), "bad_level"),
        (theirs("book_change", 2, bids=[level("x", 1)]), "bad_decimal"),
        (theirs("disconnect", 2), None),
    ],
)
def test_a_break_makes_the_book_wait_for_a_snapshot(between: bytes, reason: str | None) -> None:
    decoder = TardisMessages(GIVEN)
    snapshot = {"isSnapshot": True, "bids": [level(100, 1)], "asks": [level(101, 1)]}
    batches = list(batches_of(decoder.decode(theirs("book_change", 0, **snapshot), NOW)))
    if reason is None:
        assert decoder.decode(between, NOW) == []
        assert decoder.skipped == {"disconnect": 1}
    else:
        with pytest.raises(UnusableError) as caught:
            decoder.decode(between, NOW)
        assert caught.value.reason == reason
    batches += batches_of(decoder.decode(theirs("book_change", 3, bids=[level(99, 1)]), NOW))
    batches += batches_of(decoder.decode(theirs("book_change", 4, **snapshot), NOW))
    assert replay_l2(batches)["valid"].to_list() == [True, False, True]


def test_a_restarted_decoder_continues_the_books_of_the_log() -> None:
    first, second = TardisMessages(GIVEN), TardisMessages(GIVEN)
    snapshot = {"isSnapshot": True, "bids": [level(100, 1)], "asks": [level(101, 1)]}
    batches = list(batches_of(first.decode(theirs("book_change", 0, **snapshot), NOW)))
    for batch in batches:
        second.resume(batch)
    batches += batches_of(second.decode(theirs("book_change", 3, bids=[level(100.5, 1)]), NOW))
    assert replay_l2(batches).select("valid", "bid_price_0").rows() == [(True, 10_000), (True, 10_050)]


def test_trades_and_tickers() -> None:
    decoder = TardisMessages(GIVEN)
    trade = {"id": "1234", "price": 100.5, "amount": 0.25, "side": "sell"}
    found = rows(decoder.decode(theirs("trade", **trade), NOW)[1:])
    assert [(row["trade_id"], row["price"], row["size"], row["aggressor"]) for row in found] == [
        (1_234, 10_050, 250, -1)
    ]
    assert decoder.decode(theirs("trade", 5, **trade), NOW) == []
    assert decoder.skipped == {"duplicate_trade": 1}
    ticker = {"fundingRate": -1.25e-05, "indexPrice": 100.123, "markPrice": None, "openInterest": 7}
    (row,) = rows(decoder.decode(theirs("derivative_ticker", **ticker), NOW))
    assert tuple(row[name] for name in ("rate_e9", "index_e9", "mark_e9", "open_interest_e9")) == (
        -12_500,
        100_123_000_000,
        None,
        7_000_000_000,
    )
    assert decoder.decode(theirs("derivative_ticker", openInterest=1), NOW) == []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"nope", "broken_json"),
        (b"{}", "unexpected_form"),
        (theirs("news"), "unknown_message"),
        (theirs("trade", symbol="DOGEUSDT"), "unknown_increments"),
        (theirs("trade", symbol=""), "missing_field"),
        (theirs("trade", timestamp="yesterday"), "bad_time"),
        (theirs("trade", timestamp="2020-02-31T00:00:00Z"), "bad_time"),
        (theirs("trade", price=1, amount=1, side="up"), "unexpected_form"),
        (theirs("trade", price=1), "missing_field"),
        (theirs("trade", price=1, amount=0, side="buy"), "bad_trade"),
        (theirs("trade", price=-1, amount=1), "bad_trade"),
        (theirs("trade", price="1\n1", amount=1), "bad_decimal"),
        (theirs("trade", price=[], amount=1), "bad_decimal"),
        (theirs("derivative_ticker", fundingRate=2), "bad_funding"),
        (theirs("derivative_ticker", fundingRate=0.1, markPrice=-1), "bad_funding"),
    ],
)
def test_what_is_no_message_of_theirs_says_why(payload: bytes, reason: str) -> None:
    with pytest.raises(UnusableError) as caught:
        TardisMessages(GIVEN).decode(payload, NOW)
    assert caught.value.reason == reason


def test_iso_times_are_exact() -> None:
    assert iso_ns("2020-09-13T12:26:40.123456789Z") == NOW + 123_456_789
    assert iso_ns("2020-09-13T12:26:40Z") == NOW


def test_the_messages_that_the_guide_shows_are_accepted() -> None:
    text = (Path(__file__).parents[3] / "docs" / "sources.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    kinds = []
    for block, decoder in zip(
        blocks, (HedgeflowMessages(TardisIncrements([], {})), TardisMessages(GIVEN)), strict=True
    ):
        messages = re.split(r"\n(?=\{)", block.strip())
        kinds.append([decoder.decode(message.encode(), NOW)[-1].kind for message in messages])
    assert kinds == [[Kind.INSTRUMENT, Kind.BOOK, Kind.TRADE], [Kind.BOOK]]
