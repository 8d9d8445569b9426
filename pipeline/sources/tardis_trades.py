"""Tardis ``trades``."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np

from features.events import Kind
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run
from pipeline.sources.tardis_decoder import TardisContext
from pipeline.sources.tardis_rows import NANOS_PER_MICRO, TardisRows

REMEMBERED: Final = 10_000
"""Trades of an instrument whose ids are kept to see repeats."""

AGGRESSOR: Final = {b"buy": 1, b"sell": -1, b"unknown": 0, b"": 0}


class Trades:
    """Each row is one trade; ``side`` is the liquidity taker's.

    Bad input: an amount or price that is not positive (``bad_trade``), that is no whole number of increments
    (``off_increment``) or none at all, and a side other than buy, sell, unknown or nothing (``unexpected_form``)
    refuse the row. A trade whose id is among the last 10,000 of its instrument in the file is left out and counted as
    ``duplicate_trade``; trades without an id are never duplicates. A trade that happened before one that precedes it
    passes: the edge notes how late it is.
    """

    def __init__(self, context: TardisContext, source: int) -> None:
        self._context = context
        self._numbers = RunNumbers(source)
        self._recent = RecentTrades()

    def runs(self, rows: TardisRows) -> Iterator[Run]:
        """One run a trade."""
        prices, sizes = self._context.by_code(rows)
        at, block = rows.layout.columns, rows.block
        safe = np.where(rows.good, rows.code, 0)
        price, price_fault = block.counts(at["price"], prices, safe)
        size, size_fault = block.counts(at["amount"], sizes, safe)
        rows.require(price_fault, "price")
        rows.require(size_fault, "amount")
        rows.refuse((price <= 0) | (size <= 0), "bad_trade", "price and amount must be positive")
        known = np.zeros(block.rows, dtype=np.bool_)
        aggressor = np.zeros(block.rows, dtype=np.int64)
        for word, sign in AGGRESSOR.items():
            same = block.equals(at["side"], word)
            known |= same
            aggressor[same] = sign
        rows.refuse(~known, "unexpected_form", "side is buy, sell or unknown")
        ids, id_fault = block.integers(at["id"])
        good = np.flatnonzero(rows.good)
        columns = (good, rows.code, rows.recv_us, rows.event_us, ids, id_fault, price, size, aggressor)
        lists = (column.tolist() if column is good else column[good].tolist() for column in columns)
        for row, who, recv_us, event_us, number, fault, price_count, size_count, sign in zip(*lists, strict=True):
            trade_id = number if fault == 0 else trade_number(block.field(row, at["id"]))
            instrument = rows.instruments[who]
            if self._recent.repeats(instrument.name, trade_id):
                self._context.skipped["duplicate_trade"] += 1
                continue
            values = {
                "instrument": instrument.name,
                "ts_event": event_us * NANOS_PER_MICRO,
                "trade_id": trade_id,
                "price": price_count,
                "size": size_count,
                "aggressor": sign,
            }
            yield self._numbers.run(Kind.TRADE, recv_us * NANOS_PER_MICRO, instrument.underlying, 1, values)

    def finish(self) -> Iterator[Run]:
        """Nothing waits."""
        return iter(())


class RecentTrades:
    """The newest trade ids of each instrument."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[set[int], deque[int]]] = {}

    def repeats(self, instrument: str, trade_id: int) -> bool:
        """Whether the id is among the instrument's last 10,000; id 0 is none."""
        if trade_id == 0:
            return False
        found = self._seen.get(instrument)
        if found is None:
            found = self._seen[instrument] = set(), deque()
        seen, in_order = found
        if trade_id in seen:
            return True
        seen.add(trade_id)
        in_order.append(trade_id)
        if len(in_order) > REMEMBERED:
            seen.remove(in_order.popleft())
        return False


def trade_number(text: bytes) -> int:
    """An id that is no integer as one: the first 62 bits of its SHA-256; 0 for no id.

    >>> trade_number(b"")
    0
    """
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 2 if text else 0
