"""A few seconds of a small market, row by row: two underlyings, a perpetual and a spot, a chain, funding, heartbeats.

Written plainly and without the project's own kernels, so that tests can check those against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from features.events import ASK, BID, LAST, NANO, SNAPSHOT, EventBatch, Kind, record_batch

START = 1_767_571_200 * NANO
DAY = 86_400 * NANO


@dataclass
class SmallBook:
    """A book as a dict a side."""

    bids: dict[int, int]
    asks: dict[int, int]
    update_id: int = 0


def instrument_event(underlying: str, rows: list[dict[str, Any]]) -> EventBatch:
    names = [row["instrument"] for row in rows]
    defaults = {
        "quote_currency": "USD",
        "settlement_currency": "USD",
        "size_increment_e9": NANO // 1_000,
        "contract_size_e9": NANO,
        "is_inverse": False,
        "expiry_ns": None,
        "strike_e9": None,
        "is_call": None,
        "price_increment_e9": NANO // 10,
    }
    full = [defaults | row for row in rows]
    columns: dict[str, Any] = {
        name: pa.array([row[name] for row in full]).cast(field.type)
        for name, field in ((f, _field(f)) for f in full[0] if f != "instrument")
    }
    columns |= {"instrument": np.arange(len(rows)), "ts_event": np.full(len(rows), START)}
    columns["ts_recv"] = columns["ts_event"] + 1_000
    return EventBatch(Kind.INSTRUMENT, underlying, record_batch(Kind.INSTRUMENT, names, columns))


def _field(name: str) -> pa.Field:
    from features.events import SCHEMAS

    return SCHEMAS[Kind.INSTRUMENT].field(name)


def small_market(seconds: int = 30, seed: int = 0, underlyings: tuple[str, ...] = ("BTC", "ETH")) -> list[EventBatch]:
    """Events in log order, one venue message a batch, edge columns zero."""
    rng = np.random.default_rng(seed)
    events: list[EventBatch] = []
    books: dict[str, SmallBook] = {}
    for u, underlying in enumerate(underlyings):
        options = [
            {
                "instrument": f"test:{underlying}-{days}D-{strike}-{side}",
                "instrument_type": "option",
                "is_inverse": True,
                "price_increment_e9": NANO // 10_000,
                "expiry_ns": START + days * DAY,
                "strike_e9": strike * NANO,
                "is_call": side == "C",
            }
            for days in (10, 40, 100)
            for strike in (600, 800, 900, 1_000, 1_100, 1_200, 1_500)
            for side in "CP"
        ]
        linear = [{"instrument": f"test:{underlying}-{t.upper()}", "instrument_type": t} for t in ("perpetual", "spot")]
        events.append(instrument_event(underlying, linear + options))
        for each in linear:
            books[each["instrument"]] = SmallBook({10_000 + 50 * u - i: 5_000 for i in range(1, 12)}, {})
            books[each["instrument"]].asks = {10_000 + 50 * u + i: 4_000 for i in range(1, 12)}
            events.append(_snapshot(underlying, each["instrument"], books[each["instrument"]], START + 10))
    now = START + 1_000
    trade_id = 0
    while now < START + seconds * NANO:
        now += int(rng.integers(1_000_000, 60_000_000))
        underlying = underlyings[int(rng.integers(len(underlyings)))]
        name = f"test:{underlying}-{'PERPETUAL' if rng.random() < 0.7 else 'SPOT'}"
        draw = rng.random()
        if draw < 0.6:
            events.append(_delta(underlying, name, books[name], now, rng))
        elif draw < 0.85:
            trade_id += 1
            late = int(rng.integers(0, 1_400_000_000)) if rng.random() < 0.2 else 0
            events.append(_trade(underlying, name, books[name], now, late, trade_id, rng))
        elif draw < 0.9:
            events.append(_chain(underlying, now, rng))
        elif draw < 0.95:
            columns = {
                "instrument": [0],
                "ts_event": [now],
                "ts_recv": [now + 2_000],
                "rate_e9": [int(rng.integers(-100_000, 100_000))],
            }
            events.append(EventBatch(Kind.FUNDING, underlying, record_batch(Kind.FUNDING, [name], columns)))
        else:
            columns = {"instrument": [0], "ts_event": [now], "ts_recv": [now + 2_000]}
            events.append(EventBatch(Kind.HEARTBEAT, underlying, record_batch(Kind.HEARTBEAT, [name], columns)))
    return events


def book_event(
    underlying: str, name: str, rows: list[tuple[int, int, int]], prev_id: int, update_id: int, now: int, flags: int = 0
) -> EventBatch:
    """One event: rows of (side, price, size); the last one is flagged."""
    count = len(rows)
    marks = np.full(count, flags)
    marks[-1] |= LAST
    columns = {
        "instrument": np.zeros(count, np.int32),
        "ts_event": np.full(count, now),
        "ts_recv": np.full(count, now + 2_000),
        "prev_id": np.full(count, prev_id),
        "update_id": np.full(count, update_id),
        "side": [row[0] for row in rows],
        "price": [row[1] for row in rows],
        "size": [row[2] for row in rows],
        "flags": marks.astype(np.uint8),
    }
    return EventBatch(Kind.BOOK, underlying, record_batch(Kind.BOOK, [name], columns))


def _snapshot(underlying: str, name: str, book: SmallBook, now: int) -> EventBatch:
    rows = [(BID, p, q) for p, q in book.bids.items()] + [(ASK, p, q) for p, q in book.asks.items()]
    return book_event(underlying, name, rows, book.update_id, book.update_id, now, SNAPSHOT)


def _delta(underlying: str, name: str, book: SmallBook, now: int, rng: np.random.Generator) -> EventBatch:
    rows: list[tuple[int, int, int]] = []
    shift = int(rng.integers(-2, 3))
    bid = max(book.bids) + shift
    ask = min(book.asks) + shift
    rows.extend((BID, price, 0) for price in book.bids if price > bid)
    rows.extend((ASK, price, 0) for price in book.asks if price < ask)
    for i in range(int(rng.integers(1, 4))):
        rows.append((BID, bid - i, int(rng.integers(1, 9_000))))
        rows.append((ASK, ask + i, int(rng.integers(1, 9_000))))
    rows.append((BID, min(book.bids) - 5, 0))
    for side, price, size in rows:
        levels = book.bids if side == BID else book.asks
        if size:
            levels[price] = size
        else:
            levels.pop(price, None)
    previous = book.update_id
    book.update_id += int(rng.integers(1, 5))
    return book_event(underlying, name, rows, previous, book.update_id, now)


def _trade(
    underlying: str, name: str, book: SmallBook, now: int, late: int, trade_id: int, rng: np.random.Generator
) -> EventBatch:
    side = 1 if rng.random() < 0.5 else -1
    columns = {
        "instrument": [0],
        "ts_event": [now - late],
        "ts_recv": [now + 3_000],
        "trade_id": [trade_id],
        "price": [min(book.asks) if side > 0 else max(book.bids)],
        "size": [int(rng.integers(1, 2_000))],
        "aggressor": [side],
    }
    return EventBatch(Kind.TRADE, underlying, record_batch(Kind.TRADE, [name], columns))


def _chain(underlying: str, now: int, rng: np.random.Generator) -> EventBatch:
    from features.surface.black import YEAR_NS, black_price

    names, bids, asks, strikes, expiries, calls = [], [], [], [], [], []
    volatility = 0.5 + 0.1 * rng.random()
    for days in (10, 40, 100):
        for strike in (600, 800, 900, 1_000, 1_100, 1_200, 1_500):
            for side in "CP":
                years = (START + days * DAY - now) / YEAR_NS
                coin = float(black_price(1_000.0, float(strike), years, volatility, side == "C")) / 1_000.0
                names.append(f"test:{underlying}-{days}D-{strike}-{side}")
                bids.append(max(int(coin * 10_000) - 2, 0) or None)
                asks.append(int(coin * 10_000) + 3)
                strikes.append(strike * NANO)
                expiries.append(START + days * DAY)
                calls.append(side == "C")
    count = len(names)
    columns = {
        "instrument": np.arange(count),
        "ts_event": np.full(count, now),
        "ts_recv": np.full(count, now + 5_000),
        "expiry_ns": expiries,
        "strike_e9": strikes,
        "is_call": calls,
        "bid": bids,
        "ask": asks,
        "forward_e9": np.full(count, 1_000 * NANO),
    }
    return EventBatch(Kind.OPTION_QUOTE, underlying, record_batch(Kind.OPTION_QUOTE, names, columns))


def edged(events: list[EventBatch]) -> list[EventBatch]:
    """The events as the edge appends them."""
    from pipeline.edge import Edge
    from pipeline.log import MemoryLog

    sent: list[EventBatch] = []
    edge = Edge(MemoryLog(sent.append), "test")
    for event in events:
        edge.send(event)
    return sent
