"""One underlying of the simulated exchange: its book, trades, chain and funding, as record batches of a block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from features.events import NANO, EventBatch, Kind, record_batch
from pipeline.sources import simulated_book as book
from pipeline.sources import simulated_tape as tape
from pipeline.sources.simulated_config import SimulationConfig
from pipeline.sources.simulated_instruments import Underlying, instrument_event
from pipeline.sources.simulated_market import O_FUNDING, O_OPEN_INTEREST, O_PRICE
from pipeline.sources.simulated_options import list_chain, quote_chains
from pipeline.sources.simulated_regimes import long_run_variance

Array = np.ndarray[Any, Any]

MILLI: Final = 1_000_000

LISTING_NS: Final = 1 * MILLI
"""After the start: instruments and the first snapshot."""

OPENING_NS: Final = np.array([2 * MILLI, 3 * MILLI, 4 * MILLI], dtype=np.int64)
"""After the beginning of a second: its option quotes, funding and heartbeat, all before its first trade."""

_CHAIN, _FUNDING, _HEARTBEAT = range(3)


class Block(NamedTuple):
    """The events of N seconds and T ticks, one batch a kind; ``*_end`` (T,) says where the rows of a tick end."""

    book: pa.RecordBatch
    book_end: list[int]
    trade: pa.RecordBatch
    trade_end: list[int]
    option_quote: pa.RecordBatch
    funding: pa.RecordBatch
    heartbeat: pa.RecordBatch


class Venue:
    """The market of one underlying; its draws come from ``rng`` alone, in order of time."""

    def __init__(self, config: SimulationConfig, underlying: Underlying, rng: np.random.Generator) -> None:
        self.underlying = underlying
        self._config = config
        self._rng = rng
        self._seconds = 0
        lots = np.array([underlying.level_size, underlying.trade_size])
        self._lot = lots / (underlying.size_increment_e9 / NANO)
        self._table = _table(config)
        fair = float(underlying.fair_increments(np.array(underlying.price_usd)))
        self._book = tape.empty_book(config.depth_levels, fair)
        ticks = config.block_s * config.ticks_per_s
        self._tape = tape.empty_tape(config.depth_levels, ticks)
        calm, _, stormy = (regime.volatility**2 for regime in config.regimes)
        self._variances = (calm, stormy, long_run_variance(config.regimes))
        self._chain = list_chain(
            underlying.name, underlying.price_usd, underlying.strike_step_usd, config.start_ns, self._variances[2]
        )

    @property
    def options(self) -> int:
        """Rows of one chain."""
        return len(self._chain.names)

    def open(self) -> Iterator[EventBatch]:
        """Instruments, and the first snapshot of the book."""
        ts_event = self._config.start_ns + LISTING_NS
        yield instrument_event(self.underlying, self._chain, ts_event, ts_event + tape.MIN_LATENCY_NS)
        book.open_book(
            self._rng, self._book, self._tape, ts_event, self._table[0], self._lot, self._config.depth_levels
        )
        yield EventBatch(Kind.BOOK, self.underlying.name, self._taped(Kind.BOOK))

    def close(self) -> EventBatch:
        """A last heartbeat, just beyond the last second: it closes the last bar."""
        ts_event = self._config.start_ns + self._seconds * NANO + int(OPENING_NS[_HEARTBEAT])
        ts_recv = int(tape.received(self._rng, self._book.ids, ts_event))
        columns = {"instrument": [0], "ts_event": [ts_event], "ts_recv": [ts_recv]}
        data = record_batch(Kind.HEARTBEAT, [self.underlying.perpetual], columns)
        return EventBatch(Kind.HEARTBEAT, self.underlying.name, data)

    def advance(self, price_usd: Array, volatility: Array, regime: Array, opening: Array) -> Block:
        """The next N seconds.

        Args:
            price_usd, volatility: at the end of each tick, (T,). regime: of each second, (N,).
            opening: what is known when each second begins, (N, simulated_market.OPENING).
        """
        config, ticks = self._config, len(price_usd)
        first_ns = config.start_ns + self._seconds * NANO
        received = np.empty((len(regime), len(OPENING_NS)), dtype=np.int64)
        book_end, trade_end = np.empty(ticks, dtype=np.int64), np.empty(ticks, dtype=np.int64)
        book.trade_and_quote(
            self._rng, self._book, self._tape, book_end, trade_end, self._table, self._lot,
            self.underlying.fair_increments(price_usd), volatility, regime, first_ns, config.tick_ms * MILLI,
            self._seconds * config.ticks_per_s, config.snapshot_interval_s * config.ticks_per_s, config.depth_levels,
            OPENING_NS, received,
        )  # fmt: skip
        begins = first_ns + np.arange(len(regime)) * NANO
        block = Block(
            book=self._taped(Kind.BOOK),
            book_end=book_end.tolist(),
            trade=self._taped(Kind.TRADE),
            trade_end=trade_end.tolist(),
            option_quote=self._quotes(begins, received[:, _CHAIN], opening),
            funding=self._funding(begins, received[:, _FUNDING], opening),
            heartbeat=self._of_perpetual(
                Kind.HEARTBEAT, {"ts_event": begins + OPENING_NS[_HEARTBEAT], "ts_recv": received[:, _HEARTBEAT]}
            ),
        )
        self._seconds += len(regime)
        return block

    def _taped(self, kind: Kind) -> pa.RecordBatch:
        """The rows that the book has written, copied: the tape is used again."""
        books, trades = self._tape.written
        if kind is Kind.BOOK:
            columns = dict(zip(tape.BOOK_COLUMNS, self._tape.book[:books].T, strict=True))
            columns["side"], columns["flags"] = columns["side"].astype(np.int8), columns["flags"].astype(np.uint8)
        else:
            columns = dict(zip(tape.TRADE_COLUMNS, self._tape.trade[:trades].T, strict=True))
            columns["aggressor"] = columns["aggressor"].astype(np.int8)
        return self._of_perpetual(kind, {name: column.copy() for name, column in columns.items()})

    def _of_perpetual(self, kind: Kind, columns: dict[str, Array]) -> pa.RecordBatch:
        codes = np.zeros(len(columns["ts_event"]), dtype=np.int32)
        return record_batch(kind, [self.underlying.perpetual], {"instrument": codes, **columns})

    def _quotes(self, begins: Array, ts_recv: Array, opening: Array) -> pa.RecordBatch:
        chain, seconds, options = self._chain, len(begins), self.options
        ts_event = begins + OPENING_NS[_CHAIN]
        quotes = quote_chains(chain, opening, ts_event, self._variances)
        bid = quotes.bid.ravel()
        columns = {
            "instrument": np.tile(np.arange(options, dtype=np.int32), seconds),
            "ts_event": np.repeat(ts_event, options),
            "ts_recv": np.repeat(ts_recv, options),
            "expiry_ns": np.tile(chain.expiry_ns, seconds),
            "strike_e9": np.tile(np.rint(chain.strike * NANO).astype(np.int64), seconds),
            "is_call": np.tile(chain.is_call, seconds),
            "bid": pa.array(bid, mask=bid < 1),
            "ask": quotes.ask.ravel(),
            "mark_e9": quotes.mark_e9.ravel(),
            "forward_e9": quotes.forward_e9.ravel(),
        }
        return record_batch(Kind.OPTION_QUOTE, chain.names, columns)

    def _funding(self, begins: Array, ts_recv: Array, opening: Array) -> pa.RecordBatch:
        """A row a second; the exchange publishes one in ``funding_interval_s``."""
        mark, rate = opening[:, O_PRICE], opening[:, O_FUNDING]
        open_interest = self.underlying.open_interest * opening[:, O_OPEN_INTEREST]
        columns = {
            "ts_event": begins + OPENING_NS[_FUNDING],
            "ts_recv": ts_recv,
            "rate_e9": _e9(rate),
            # The rate is the perpetual's premium over the index.
            "index_e9": _e9(mark / (1.0 + rate)),
            "mark_e9": _e9(mark),
            "open_interest_e9": _e9(open_interest),
        }
        return self._of_perpetual(Kind.FUNDING, columns)


def _e9(values: Array) -> Array:
    rounded: Array = np.rint(values * NANO).astype(np.int64)
    return rounded


def _table(config: SimulationConfig) -> Array:
    """What the book's kernel needs of the regimes: a row each, columns as ``simulated_book`` names them."""
    table = np.empty((len(config.regimes), 7))
    for row, regime in zip(table, config.regimes, strict=True):
        row[book.SPREAD] = regime.spread_bps * 1e-4
        row[book.GAP] = regime.level_gap_bps * 1e-4
        row[book.LEVEL_SIZE] = regime.level_size
        row[book.UPDATES_PER_S] = regime.updates_per_s
        row[book.TRADES_PER_S] = regime.trades_per_s
        row[book.CLUSTERING] = regime.trade_clustering
        row[book.TRADE_SIZE] = regime.trade_size
    return table
