"""Deribit's messages become rows; what cannot be used is refused by a name, and nothing of it is used."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_deribit import (
    CALL,
    ETHER,
    FUTURE,
    LATENCY_NS,
    LINEAR,
    LISTED,
    PERPETUAL,
    START_MS,
    DeribitBook,
    book,
    instruments,
    line,
    notification,
    text,
    ticker,
    trade,
)  # fmt: skip

from features.book import replay_l2
from features.events import LAST, NANO, SNAPSHOT, EventBatch, Kind
from pipeline.sources.base import UnusableError
from pipeline.sources.deribit_decoder import DeribitDecoder
from pipeline.sources.runs import Run, batches_of

PERP = "BTC-PERPETUAL"
OPTION = "BTC-29DEC23-40000-C"


class Fed:
    """A decoder and the rows that came out."""

    def __init__(self, *listed: dict[str, Any], **options: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.decoder = DeribitDecoder(**{"resnapshot_ns": 30 * NANO, "counts": self.counts, **options})
        self.runs: list[Run] = []
        if listed:
            self.take(0, instruments(*listed))

    def take(self, at_ms: int, *messages: bytes) -> None:
        for message in messages:
            self.runs += self.decoder.feed(line(message, at_ms))

    def refused(self, message: bytes, at_ms: int = 0) -> str:
        before = len(self.runs)
        with pytest.raises(UnusableError) as error:
            self.take(at_ms, message)
        assert len(self.runs) == before
        return error.value.reason

    def batches(self) -> list[EventBatch]:
        return list(batches_of(self.runs))

    def rows(self, kind: Kind) -> list[dict[str, Any]]:
        return [row for batch in self.batches() if batch.kind is kind for row in batch.data.to_pylist()]


def test_a_list_introduces_instruments_with_their_increments_and_terms() -> None:
    fed = Fed(*LISTED)
    rows = {row["instrument"]: row for row in fed.rows(Kind.INSTRUMENT)}
    assert {batch.underlying for batch in fed.batches()} == {"BTC", "ETH"}
    perpetual = rows["deribit:BTC-PERPETUAL"]
    assert (perpetual["instrument_type"], perpetual["is_inverse"], perpetual["expiry_ns"]) == ("perpetual", True, None)
    assert (perpetual["price_increment_e9"], perpetual["size_increment_e9"]) == (NANO // 2, 10 * NANO)
    assert perpetual["contract_size_e9"] == NANO  # sizes are USD already
    option = rows["deribit:BTC-29DEC23-40000-C"]
    assert (option["quote_currency"], option["settlement_currency"], option["is_inverse"]) == ("BTC", "BTC", True)
    assert (option["strike_e9"], option["is_call"]) == (40_000 * NANO, True)
    assert option["expiry_ns"] == 1_703_836_800 * NANO
    assert (option["price_increment_e9"], option["size_increment_e9"]) == (100_000, 100_000_000)
    assert rows["deribit:BTC-29DEC23"]["instrument_type"] == "future"
    assert rows["deribit:BTC-29DEC23"]["strike_e9"] is None
    linear = rows["deribit:BTC_USDC-PERPETUAL"]
    assert (linear["is_inverse"], linear["settlement_currency"], linear["size_increment_e9"]) == (False, "USDC", 10**6)
    assert rows["deribit:ETH-PERPETUAL"]["ts_event"] == START_MS * 1_000_000


def test_a_list_seen_again_says_nothing_unless_something_changed() -> None:
    fed = Fed(*LISTED)
    fed.take(100, instruments(*LISTED))
    assert len(fed.rows(Kind.INSTRUMENT)) == 5
    fed.take(200, instruments(PERPETUAL | {"tick_size": 0.1}))
    assert [row["price_increment_e9"] for row in fed.rows(Kind.INSTRUMENT)[5:]] == [10**8]


def test_only_what_is_followed_is_introduced() -> None:
    fed = Fed(*LISTED, only={PERP})
    assert [row["instrument"] for row in fed.rows(Kind.INSTRUMENT)] == ["deribit:BTC-PERPETUAL"]
    assert fed.refused(trade("ETH-PERPETUAL", 0, 1, 2_000.0, 1, "buy")) == "unknown_instrument"


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"kind": "option_combo"}, "unsupported_kind"),
        ({"tick_size": 0}, "bad_listing"),
        ({"tick_size": "NaN"}, "bad_listing"),
        ({"min_trade_amount": -1}, "bad_listing"),
        ({"instrument_name": "a b"}, "bad_listing"),
        ({"kind": "option", "strike": None}, "bad_listing"),
        ({"settlement_period": "week", "expiration_timestamp": 10**17}, "bad_listing"),
        ({"base_currency": 7}, "bad_listing"),
    ],
)
def test_a_listed_instrument_that_cannot_be_used_is_counted_and_the_rest_of_the_list_is(
    change: dict[str, Any], count: str
) -> None:
    fed = Fed(PERPETUAL | change, ETHER)
    assert [row["instrument"] for row in fed.rows(Kind.INSTRUMENT)] == ["deribit:ETH-PERPETUAL"]
    assert dict(fed.counts) == {count: 1}


def test_a_book_follows_its_snapshot() -> None:
    fed = Fed(PERPETUAL)
    fed.take(10, book(PERP, 5, 100, None, [("new", 30_000.5, 20.0)], [("new", 30_001.0, 50.0)]))
    fed.take(20, book(PERP, 15, 103, 100, [("change", 30_000.5, 0.0), ("new", 30_000, 70)], [("delete", 30_001.0, 0)]))
    rows = fed.rows(Kind.BOOK)
    assert [(row["side"], row["price"], row["size"]) for row in rows] == [
        (1, 60_001, 2), (-1, 60_002, 5), (1, 60_001, 0), (1, 60_000, 7), (-1, 60_002, 0),
    ]  # fmt: skip
    assert [row["flags"] for row in rows] == [SNAPSHOT, SNAPSHOT | LAST, 0, 0, LAST]
    assert [(row["prev_id"], row["update_id"]) for row in rows][1:3] == [(100, 100), (100, 103)]
    assert rows[-1]["ts_event"] == (START_MS + 15) * 1_000_000
    assert rows[-1]["ts_recv"] == (START_MS + 20) * 1_000_000 + LATENCY_NS


def test_a_broken_chain_invalidates_every_readers_book_until_the_next_snapshot() -> None:
    venue = DeribitBook()
    fed = Fed(PERPETUAL)
    fed.take(venue.at_ms, venue.snapshot())
    fed.take(venue.at_ms + 100, venue.change())
    assert fed.decoder.broken == []
    venue.change()  # lost
    for _ in range(3):
        fed.take(venue.at_ms + 100, venue.change())
    assert fed.decoder.broken == ["book.BTC-PERPETUAL.100ms"]
    assert replay_l2(fed.batches())["valid"].to_list() == [True, True, False]
    fed.take(venue.at_ms, venue.snapshot())
    for _ in range(20):
        fed.take(venue.at_ms + 100, venue.change())
    assert fed.decoder.broken == []
    last = replay_l2(fed.batches()).tail(1)
    assert last["valid"].item()
    assert last.select("bid_price_0", "bid_size_0", "ask_price_0", "ask_size_0").row(0) == venue.best()
    assert dict(fed.counts) == {"gap": 1, "unsynced_diff": 3}


def test_a_snapshot_counts_as_taken_when_its_underlying_had_got_there() -> None:
    fed = Fed(PERPETUAL, CALL)
    fed.take(5_000, trade(PERP, 5_000, 1, 30_000.0, 10.0, "buy"))
    fed.take(5_001, book(OPTION, -3 * 86_400_000, 7, None, [], [("new", 0.05, 0.1)]))
    (row,) = fed.rows(Kind.BOOK)
    assert row["ts_event"] == (START_MS + 5_000) * 1_000_000
    fed = Fed(PERPETUAL, CALL)
    fed.take(1, book(OPTION, -3 * 86_400_000, 7, None, [], [("new", 0.05, 0.1)]))
    assert fed.rows(Kind.BOOK)[0]["ts_event"] == START_MS * 1_000_000  # when the venue answered last


def test_the_book_is_sent_again_for_readers_that_join_late() -> None:
    venue = DeribitBook()
    fed = Fed(PERPETUAL, resnapshot_ns=NANO)
    fed.take(venue.at_ms, venue.snapshot())
    for _ in range(25):
        fed.take(venue.at_ms + 100, venue.change())
    snapshots = {row["update_id"] for row in fed.rows(Kind.BOOK) if row["flags"] & SNAPSHOT}
    assert len(snapshots) == 3


def test_trades() -> None:
    fed = Fed(PERPETUAL, CALL)
    fed.take(10, trade(PERP, 9, 77, 30_000.5, 120.0, "sell"))
    fed.take(11, trade(OPTION, 9, 5, 0.0455, 1.3, "buy"))
    rows = fed.rows(Kind.TRADE)
    assert [(row["trade_id"], row["price"], row["size"], row["aggressor"]) for row in rows] == [
        (77, 60_001, 12, -1), (5, 455, 13, 1),
    ]  # fmt: skip


def test_a_trade_without_a_number_takes_the_digits_of_its_name() -> None:
    fed = Fed(ETHER)
    data = {"instrument_name": "ETH-PERPETUAL", "timestamp": START_MS, "price": 2_000.05, "amount": 3}
    fed.take(0, notification("trades.future.ETH.raw", [data | {"trade_id": "ETH-1234", "direction": "buy"}]))
    assert [row["trade_id"] for row in fed.rows(Kind.TRADE)] == [1234]
    message = notification("trades.future.ETH.raw", [data | {"trade_id": "ETH", "direction": "buy"}])
    assert fed.refused(message) == "missing_field"


def test_block_trades_are_left_out_and_counted() -> None:
    fed = Fed(PERPETUAL)
    fed.take(0, trade(PERP, 0, 1, 30_000.123, 10.0, "buy", block_trade_id="BLOCK-1"))
    assert fed.rows(Kind.TRADE) == []
    assert dict(fed.counts) == {"block_trade": 1}


def test_an_options_ticker_is_a_quote_and_an_empty_side_is_null() -> None:
    fed = Fed(CALL)
    fed.take(0, ticker(
        OPTION, 0, best_bid_price=0.0455, best_bid_amount=3.0, best_ask_price=0.0, best_ask_amount=0.0,
        mark_price=0.045912, underlying_price=37_001.25, open_interest=12.5, stats={"volume": None, "low": None},
    ))  # fmt: skip
    (row,) = fed.rows(Kind.OPTION_QUOTE)
    assert (row["bid"], row["ask"]) == (455, None)
    assert (row["mark_e9"], row["forward_e9"]) == (45_912_000, 37_001_250_000_000)
    assert (row["open_interest_e9"], row["volume_e9"]) == (12_500_000_000, None)
    assert (row["strike_e9"], row["is_call"], row["expiry_ns"]) == (40_000 * NANO, True, 1_703_836_800 * NANO)


def test_a_perpetuals_ticker_is_its_funding_and_a_dated_future_pays_none() -> None:
    fed = Fed(PERPETUAL, FUTURE, LINEAR)
    values = {"index_price": 37_000.1, "mark_price": 37_001.07, "open_interest": 512_345_670}
    fed.take(0, ticker(PERP, 0, funding_8h=-0.00001234, current_funding=0.1, **values))
    fed.take(1, ticker("BTC-29DEC23", 1, **values))
    rows = fed.rows(Kind.FUNDING)
    assert [row["rate_e9"] for row in rows] == [-12_340, 0]
    assert rows[0]["open_interest_e9"] == 512_345_670 * NANO
    assert (rows[0]["index_e9"], rows[0]["mark_e9"]) == (37_000_100_000_000, 37_001_070_000_000)
    assert fed.refused(ticker(PERP, 2, **values)) == "missing_field"


def test_each_second_of_the_venue_brings_a_heartbeat_and_quiet_underlyings_follow_a_second_behind() -> None:
    fed = Fed(PERPETUAL, ETHER)
    fed.take(0, trade("ETH-PERPETUAL", 0, 1, 2_000.0, 1, "buy"))
    for at in range(100, 4_001, 100):
        fed.take(at, trade(PERP, at, at, 30_000.0, 10.0, "buy"))
    beats = [(batch.underlying, row["ts_event"] // 1_000_000 - START_MS) for batch in fed.batches()
             for row in batch.data.to_pylist() if batch.kind is Kind.HEARTBEAT]  # fmt: skip
    assert [at for underlying, at in beats if underlying == "BTC"] == [100, 1_000, 2_000, 3_000, 4_000]
    assert [at for underlying, at in beats if underlying == "ETH"] == [0, 1_000, 2_000, 3_000]


def test_responses_and_heartbeats_go_to_the_caller() -> None:
    seen: list[tuple[Any, str]] = []
    fed = Fed(on_control=lambda message: seen.append((message.id, message.method)))
    fed.take(0, instruments(PERPETUAL, id_=3))
    fed.take(1, text({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}))
    fed.take(2, text({"jsonrpc": "2.0", "id": 4, "result": ["book.BTC-PERPETUAL.raw"], "usOut": START_MS * 1_000}))
    fed.take(3, notification("instrument.state.option.BTC", {"state": "created", "instrument_name": OPTION}))
    assert seen == [(3, ""), (None, "heartbeat"), (4, ""), (None, "instrument.state.option.BTC")]
    assert fed.refused(text({"jsonrpc": "2.0", "id": 5, "error": {"code": 10_028, "message": "too_many_requests"}}))
    assert seen[-1] == (5, "")


LEVEL = [("new", 30_000.0, 10.0)]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"{}", "unknown_message"),
        (b'{"id":', "broken_json"),
        (b'"x"', "unexpected_form"),
        (b"\xff\xfe", "broken_json"),
        (text({"id": 1, "error": {"code": 10_028, "message": "too_many_requests"}}), "venue_error"),
        (notification("quote.BTC-PERPETUAL", {}), "unknown_message"),
        (notification("book.BTC-PERPETUAL.raw", {}), "unexpected_form"),
        (book("DOGE-PERPETUAL", 0, 1, None, LEVEL), "unknown_instrument"),
        (book(PERP, 2 * 86_400_000, 1, None, LEVEL), "clock_step"),
        (book(PERP, 0, 1, None, [("new", 30_000.25, 10.0)]), "off_increment"),
        (book(PERP, 0, 1, None, [("new", 30_000.0, 5.0)]), "off_increment"),
        (book(PERP, 0, 1, None, [("new", -0.5, 10.0)]), "bad_level"),
        (book(PERP, 0, 1, None, [("new", 0.5, -10.0)]), "bad_level"),
        (book(PERP, 0, 1, None, [("new", 1e300, 10.0)]), "number_overflow"),
        (book(PERP, 0, 1, None, [("new", 1e-300, 10.0)]), "off_increment"),
        (book(PERP, 0, 1, None, [("buy", 1.0, 10.0)]), "unexpected_form"),
        (book(PERP, 0, 5, 5, LEVEL), "bad_ids"),
        (trade(PERP, 0, 1, 0.0, 10.0, "buy"), "bad_trade"),
        (trade(PERP, 0, 1, 30_000.0, -10.0, "buy"), "bad_trade"),
        (trade(PERP, 0, 1, 30_000.0, 10.0, "zero"), "unexpected_form"),
        (trade(PERP, -2 * 86_400_000, 1, 30_000.0, 10.0, "buy"), "clock_step"),
        (ticker(OPTION, 0, best_bid_price=-0.0005), "bad_quote"),
        (ticker(OPTION, 0, best_bid_price=0.00005), "off_increment"),
        (ticker(OPTION, 0, mark_price="NaN"), "bad_decimal"),
        (ticker(OPTION, 0, open_interest=1e12), "number_overflow"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(message: bytes, reason: str) -> None:
    assert Fed(PERPETUAL, CALL).refused(message) == reason


@pytest.mark.parametrize("raw", [b"", b"12", b"x {}", b"99999999999999999999 {}", b"-5 {}", b"0 {}"])
def test_a_line_needs_its_receive_time(raw: bytes) -> None:
    with pytest.raises(UnusableError) as error:
        Fed().decoder.feed(raw)
    assert error.value.reason in ("no_receive_time", "broken_json")


@given(st.integers(0, 29), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_flipped_bytes_never_stop_the_decoder_and_a_snapshot_heals(at: int, flips: list[tuple[float, int]]) -> None:
    venue = DeribitBook(seed=at)
    messages = [line(venue.snapshot(), venue.at_ms), *(line(venue.change(), venue.at_ms) for _ in range(29))]
    broken = bytearray(messages[at])
    for where, byte in flips:
        broken[int(where * len(broken))] = byte
    messages[at] = bytes(broken)
    fed = Fed(PERPETUAL)
    for message in [*messages, line(venue.snapshot(), venue.at_ms)]:
        try:
            fed.runs += fed.decoder.feed(message)
        except UnusableError as error:
            assert error.reason  # noqa: PT017 (most flips are refused, some change nothing)
    last = replay_l2(fed.batches()).tail(1)
    assert last.select("valid", "bid_price_0", "bid_size_0", "ask_price_0", "ask_size_0").row(0) == (
        True,
        *venue.best(),
    )
