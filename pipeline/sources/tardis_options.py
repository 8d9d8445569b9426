"""Tardis ``options_chain``: quotes of options, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from features.events import Kind
from pipeline.sources.csv_kernels import MISSING
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run
from pipeline.sources.tardis_decoder import TardisContext
from pipeline.sources.tardis_rows import MAX_TIME_US, NANOS_PER_MICRO, TardisRows

Array = np.ndarray[Any, Any]


class OptionsChain:
    """Each row is one option's quote; its forward is ``underlying_price``.

    Bad input: an empty bid or ask, or one of zero, is none; empty mark, forward and open interest are unknown. A
    negative bid, ask or mark, and a strike or forward that is not positive (``bad_quote``), a quote after its expiry
    (``expired``), a type other than call and put (``unexpected_form``), and bids and asks that are no whole number of
    increments (``off_increment``) refuse the row. Other decimals are rounded to 1e-9. Crossed quotes pass.
    """

    def __init__(self, context: TardisContext, source: int) -> None:
        self._context = context
        self._numbers = RunNumbers(source)

    def runs(self, rows: TardisRows) -> Iterator[Run]:
        """One run a quote."""
        at, block = rows.layout.columns, rows.block
        prices, _ = self._context.by_code(rows)
        expiry_us, fault = block.integers(at["expiration"])
        rows.require(fault, "expiration")
        rows.refuse((expiry_us <= 0) | (expiry_us > MAX_TIME_US), "bad_time", "expiration is microseconds since 1970")
        rows.refuse(expiry_us <= rows.event_us, "expired", "the option had expired")
        strike, fault = block.e9(at["strike_price"])
        rows.require(fault, "strike_price")
        is_call = block.equals(at["type"], b"call")
        rows.refuse(~is_call & ~block.equals(at["type"], b"put"), "unexpected_form", "type is call or put")
        bid, ask = (self._quote(rows, name, prices) for name in ("bid_price", "ask_price"))
        mark, forward, interest = (_known(rows, name) for name in ("mark_price", "underlying_price", "open_interest"))
        bad = (strike <= 0) | _below(bid, 1) | _below(ask, 1) | _below(mark, 0) | _below(forward, 1)
        rows.refuse(bad | _below(interest, 0), "bad_quote", "a negative price, or a strike or forward that is none")
        good = np.flatnonzero(rows.good)
        whole = (rows.code, rows.recv_us, rows.event_us, expiry_us, strike, is_call)
        known = [_listed(column, good) for column in (bid, ask, mark, forward, interest)]
        for who, recv_us, event_us, until_us, strike_e9, call, *quote in zip(
            *(column[good].tolist() for column in whole), *known, strict=True
        ):
            instrument = rows.instruments[who]
            name, expiry_ns = instrument.name, until_us * NANOS_PER_MICRO
            if name not in self._context.option_terms:
                self._context.option_terms[name] = expiry_ns, strike_e9, call
            columns: dict[str, Any] = {
                "instrument": name,
                "ts_event": [event_us * NANOS_PER_MICRO],
                "expiry_ns": [expiry_ns],
                "strike_e9": [strike_e9],
                "is_call": [call],
                "bid": [quote[0]],
                "ask": [quote[1]],
                "mark_e9": [quote[2]],
                "forward_e9": [quote[3]],
                "open_interest_e9": [quote[4]],
                "volume_e9": [None],
            }
            yield self._numbers.run(Kind.OPTION_QUOTE, recv_us * NANOS_PER_MICRO, instrument.underlying, 1, columns)

    def finish(self) -> Iterator[Run]:
        """Nothing waits."""
        return iter(())

    def _quote(self, rows: TardisRows, name: str, prices: Any) -> tuple[Array, Array]:
        count, fault = rows.block.counts(rows.layout.columns[name], prices, np.where(rows.good, rows.code, 0))
        rows.accept_missing(fault, name)
        return count, (fault == 0) & (count != 0)


def _known(rows: TardisRows, name: str) -> tuple[Array, Array]:
    """A column in 1e-9, and where it is known."""
    value, fault = rows.block.e9(rows.layout.columns[name])
    rows.accept_missing(fault, name)
    return value, fault != MISSING


def _below(column: tuple[Array, Array], least: int) -> Array:
    value, known = column
    below: Array = known & (value < least)
    return below


def _listed(column: tuple[Array, Array], rows: Array) -> list[int | None]:
    """The values of some rows, None where there is none."""
    value, known = column
    return [each if there else None for each, there in zip(value[rows].tolist(), known[rows].tolist(), strict=True)]
