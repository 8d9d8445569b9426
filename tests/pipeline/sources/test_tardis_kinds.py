"""Quotes, trades, option chains and tickers."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_tardis import CHAIN, QUOTE, START_US, TICKER, TRADE, line, read, write

from features.book import replay_l2
from features.events import LAST, SNAPSHOT, Kind
from pipeline.sources.tardis_instruments import TardisInstrument, option_terms
from pipeline.sources.tardis_trades import REMEMBERED, trade_number

EXPIRY_US = START_US + 86_400_000_000


def chain(
    at: int, kind: str = "call", strike: object = 9_000, *, bid: object = "0.05", ask: object = "0.06", **more: object
) -> str:
    """A row of an option chain."""
    fields = {"mark": "0.0551234567891", "forward": "9100.25", "interest": "12.5", "expiry": EXPIRY_US} | more
    return line(
        at,
        kind,
        strike,
        fields["expiry"],
        fields["interest"],
        "",
        bid,
        1,
        "",
        ask,
        2,
        "",
        fields["mark"],
        "",
        "IDX",
        fields["forward"],
        *[""] * 5,
        exchange="deribit",
        symbol=str(fields.get("symbol", "BTC-14SEP20-9000-C")),
    )


# -- snapshots and quotes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price,asks[1].amount,bids[1].price,bids[1].amount",
        "bids[0].price,bids[0].amount,bids[1].price,bids[1].amount,asks[0].price,asks[0].amount,asks[1].price,asks[1].amount",
        "bids[0].price,bids[1].price,asks[0].price,asks[1].price,bids[0].amount,bids[1].amount,asks[0].amount,asks[1].amount",
    ],
)
def test_snapshots_of_every_layout_are_whole_books(tmp_path: Path, header: str) -> None:
    names = header.split(",")
    value = {"asks[0].price": "10.5", "asks[0].amount": "1", "bids[0].price": "10", "bids[0].amount": "2"}
    deep = {"asks[1].price": "11", "asks[1].amount": "3", "bids[1].price": "9.5", "bids[1].amount": "4"}
    full = line(0, *(({**value, **deep})[name] for name in names))
    thin = line(1, *(value.get(name, "") for name in names))
    one_sided = line(2, *(value[name] if name in value and name[0] == "b" else "0" for name in names))
    nothing = line(3, *[""] * 8)
    path = write(tmp_path, "s", f"exchange,symbol,timestamp,local_timestamp,{header}", full, thin, one_sided, nothing)
    got = read(path)
    assert got.rejects == []
    books = replay_l2(got.batches, levels=2)
    columns = [f"{side}_{what}_{i}" for i in (0, 1) for side in ("bid", "ask") for what in ("price", "size")]
    assert books["valid"].all()
    assert books.select(columns).rows() == [
        (100, 2, 105, 1, 95, 4, 110, 3),
        (100, 2, 105, 1, None, None, None, None),
        (100, 2, *[None] * 6),
        (*[None] * 8,),
    ]
    first = got.rows(Kind.BOOK)[:4]
    assert [row["flags"] for row in first] == [SNAPSHOT] * 3 + [SNAPSHOT | LAST]
    assert [row["side"] for row in first] == [1, 1, -1, -1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((1, "10.5", "10", -2), "bad_level"),
        ((1, "-10.5", "10", 2), "bad_level"),
        ((1, "10.55", "10", 2), "off_increment"),
        ((1, "", "10", 2), "missing_field"),
        ((1, "ten", "10", 2), "bad_decimal"),
    ],
)
def test_a_bad_snapshot_is_refused_whole_and_the_next_one_heals(
    tmp_path: Path, fields: tuple[object, ...], reason: str
) -> None:
    good = (line(0, 1, "10.5", "10", 2), line(2, 7, "10.5", "10", 2))
    path = write(tmp_path, "q", QUOTE, good[0], line(1, *fields), good[1], good[1])
    got = read(path, increments={"*": ("0.1", "1")})
    assert got.reasons == [reason]
    assert replay_l2(got.batches).select("valid", "ask_size_0").rows() == [(True, 1), (True, 7), (True, 7)]


def test_crossed_quotes_pass(tmp_path: Path) -> None:
    got = read(write(tmp_path, "q", QUOTE, line(0, 1, "10", "10.5", 2)))
    assert replay_l2(got.batches)["crossed"].to_list() == [True]


# -- trades -------------------------------------------------------------------------------------------------------


def test_trades_have_the_takers_side_and_an_integer_id(tmp_path: Path) -> None:
    sides = ("buy", "sell", "unknown", "")
    got = read(write(tmp_path, "t", TRADE, *(line(i, f"id-{i}", side, "1.5", 2) for i, side in enumerate(sides))))
    trades = got.rows(Kind.TRADE)
    assert [row["aggressor"] for row in trades] == [1, -1, 0, 0]
    assert [row["trade_id"] for row in trades] == [trade_number(b"id-%d" % i) for i in range(4)]
    assert all(0 < int(str(row["trade_id"])) < 2**62 for row in trades)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("buy", "0", 1), "bad_trade"),
        (("buy", "1", 0), "bad_trade"),
        (("buy", "1", -1), "bad_trade"),
        (("buy", "1.05", 1), "off_increment"),
        (("buy", "1", ""), "missing_field"),
        (("BUY!", "1", 1), "unexpected_form"),
        (("buy", "99999999999999999999", 1), "number_overflow"),
    ],
)
def test_an_impossible_trade_is_refused(tmp_path: Path, fields: tuple[object, ...], reason: str) -> None:
    path = write(tmp_path, "t", TRADE, line(0, 1, *fields), line(1, 2, "buy", "1", 1))
    got = read(path, increments={"*": ("0.1", "1")})
    assert got.reasons == [reason]
    assert [row["trade_id"] for row in got.rows(Kind.TRADE)] == [2]


def test_a_trade_that_comes_twice_counts_once_and_a_late_one_passes(tmp_path: Path) -> None:
    rows = [line(0, 1, "buy", 1, 1), line(0, 1, "buy", 1, 1), line(1, "", "buy", 1, 1), line(1, "", "buy", 1, 1)]
    other = line(2, 1, "buy", 1, 1, symbol="ETHUSD")
    late = f"test,BTC-PERPETUAL,{START_US - 3_000_000},{START_US + 200_000},5,buy,1,1"
    got = read(write(tmp_path, "t", TRADE, *rows, other, late))
    assert got.skipped == {"duplicate_trade": 1}
    assert len(got.rows(Kind.TRADE)) == 5
    assert got.rows(Kind.TRADE)[-1]["ts_event"] == (START_US - 3_000_000) * 1_000


def test_memory_of_trades_is_bounded(tmp_path: Path) -> None:
    ids = [1, *range(2, REMEMBERED + 2), 1, REMEMBERED]
    got = read(write(tmp_path, "t", TRADE, *(line(i, number, "buy", 1, 1) for i, number in enumerate(ids))))
    assert got.skipped == {"duplicate_trade": 1}


# -- option chains ------------------------------------------------------------------------------------------------


def test_option_quotes_are_in_counts_and_introduced_with_their_terms(tmp_path: Path) -> None:
    put = chain(1, "put", "9500.5", bid="", ask="0", interest="", mark="", forward="", symbol="BTC-14SEP20-9500-P")
    got = read(write(tmp_path, "c", CHAIN, chain(0), put))
    assert got.rejects == []
    first, second = got.rows(Kind.OPTION_QUOTE)
    names = (
        "expiry_ns",
        "strike_e9",
        "is_call",
        "bid",
        "ask",
        "mark_e9",
        "forward_e9",
        "open_interest_e9",
        "volume_e9",
    )
    expiry = EXPIRY_US * 1_000
    numbers = (5, 6, 55_123_457, 9_100_250_000_000, 12_500_000_000, None)
    assert tuple(first[name] for name in names) == (expiry, 9_000 * 10**9, True, *numbers)
    assert tuple(second[name] for name in names) == (expiry, 9_500_500_000_000, False, *[None] * 6)
    introduced = got.rows(Kind.INSTRUMENT)
    assert [(row["instrument_type"], row["is_inverse"], row["quote_currency"]) for row in introduced] == [
        ("option", True, "BTC")
    ] * 2
    assert [row["strike_e9"] for row in introduced] == [9_000 * 10**9, 9_500_500_000_000]
    assert {row["price_increment_e9"] for row in introduced} == {10_000_000}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (chain(1, bid="-0.05"), "bad_quote"),
        (chain(1, strike="0"), "bad_quote"),
        (chain(1, forward="0"), "bad_quote"),
        (chain(1, bid="0.055"), "off_increment"),
        (chain(1, "straddle"), "unexpected_form"),
        (chain(1, expiry=START_US), "expired"),
        (chain(1, expiry=""), "missing_field"),
        (chain(1, mark="x"), "bad_decimal"),
    ],
)
def test_an_impossible_quote_is_refused(tmp_path: Path, row: str, reason: str) -> None:
    got = read(write(tmp_path, "c", CHAIN, chain(0), row, chain(2)), increments={"deribit:BTC-*": ("0.01", "1")})
    assert got.reasons == [reason]
    assert len(got.rows(Kind.OPTION_QUOTE)) == 2


# -- tickers ------------------------------------------------------------------------------------------------------


def ticker(
    at: int, rate: object, index: object = "100", mark: object = "100.25", interest: object = "5", **where: str
) -> str:
    return line(at, START_US, rate, "", interest, "100.5", index, mark, **where)


def test_funding_is_per_eight_hours(tmp_path: Path) -> None:
    rows = (
        ticker(0, "-0.0001"),
        ticker(1, "", ""),
        ticker(2, "1.25e-5", "", ""),
        ticker(3, "0.0001", exchange="hyperliquid"),
    )
    got = read(write(tmp_path, "f", TICKER, *rows))
    assert got.skipped == {"no_funding_rate": 1}
    names = ("rate_e9", "index_e9", "mark_e9", "open_interest_e9")
    assert [tuple(row[name] for name in names) for row in got.rows(Kind.FUNDING)] == [
        (-100_000, 100 * 10**9, 100_250_000_000, 5 * 10**9),
        (12_500, None, None, 5 * 10**9),
        (800_000, 100 * 10**9, 100_250_000_000, 5 * 10**9),
    ]
    assert got.rows(Kind.INSTRUMENT)[0]["price_increment_e9"] == 100_000_000


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ticker(1, "1.5"), "bad_funding"),
        (ticker(1, "0.1", "-1"), "bad_funding"),
        (ticker(1, "0.1", interest="-1"), "bad_funding"),
        (ticker(1, "high"), "bad_decimal"),
    ],
)
def test_impossible_funding_is_refused(tmp_path: Path, row: str, reason: str) -> None:
    got = read(write(tmp_path, "f", TICKER, row, ticker(2, "0.1")))
    assert got.reasons == [reason]
    assert len(got.rows(Kind.FUNDING)) == 1


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exchange", "symbol", "expected"),
    [
        ("deribit", "BTC-PERPETUAL", ("BTC", "USD", "perpetual", True)),
        ("deribit", "SOL_USDC-PERPETUAL", ("SOL", "USDC", "perpetual", False)),
        ("deribit", "BTC-25SEP20", ("BTC", "USD", "future", True)),
        ("deribit", "BTC-9JUN20-9875-P", ("BTC", "BTC", "option", True)),
        ("deribit", "XRP_USDC-9JUN24-0d52-C", ("XRP", "USDC", "option", False)),
        ("bitmex", "XBTUSD", ("BTC", "USD", "perpetual", True)),
        ("bitmex", "XBTH20", ("BTC", "USD", "future", True)),
        ("binance", "ethbtc", ("ETH", "BTC", "spot", False)),
        ("binance", "BTCTUSD", ("BTC", "TUSD", "spot", False)),
        ("binance-futures", "BTCUSDT_210326", ("BTC", "USDT", "future", False)),
        ("binance-delivery", "BTCUSD_PERP", ("BTC", "USD", "perpetual", True)),
        ("okex-swap", "BTC-USDT-SWAP", ("BTC", "USDT", "perpetual", False)),
        ("okex-options", "BTC-USD-200925-9000-C", ("BTC", "BTC", "option", True)),
        ("kraken", "XBT/USD", ("BTC", "USD", "spot", False)),
        ("cryptofacilities", "PI_XBTUSD", ("BTC", "USD", "perpetual", True)),
        ("cryptofacilities", "PF_XBTUSD", ("BTC", "USD", "perpetual", False)),
        ("bybit", "DOTUSD", ("DOT", "USD", "perpetual", True)),
        ("hyperliquid", "HYPE", ("HYPE", "USD", "perpetual", False)),
    ],
)
def test_names_tell_what_an_instrument_is(exchange: str, symbol: str, expected: tuple[str, str, str, bool]) -> None:
    found = TardisInstrument.of(exchange, symbol)
    assert (found.underlying, found.quote_currency, found.instrument_type, found.is_inverse) == expected
    assert found.name == f"{exchange}:{symbol}"


def test_option_terms_from_the_symbol() -> None:
    assert option_terms("XRP_USDC-9JUN24-0D52-C") == (1_717_920_000 * 10**9, 520_000_000, True)
    assert option_terms("BTC-USD-200925-9000-P") == (1_601_020_800 * 10**9, 9_000 * 10**9, False)
    assert option_terms("BTC-99XXX20-9000-P") is None
    assert option_terms("BTC-PERPETUAL") is None
