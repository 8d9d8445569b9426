"""The simulated exchange: a whole market from a seed, as a stream of events in log order.

Two underlyings move through calm, stressed and illiquid regimes (:mod:`pipeline.sources.simulated_market`). Each has
a perpetual with an order book and trades (:mod:`pipeline.sources.simulated_book`), a coin-settled option chain
(:mod:`pipeline.sources.simulated_options`), funding and heartbeats. The true regime is kept beside the stream, for
evaluation only.

The log of an underlying, by time of event:

==========================  ====================================================================
start + 1 ms                all instruments; a full snapshot of the book
whole second + 2 ms         the option chain
whole second + 3 ms         funding, every ``funding_interval_s``
whole second + 4 ms         heartbeat; the last one stands just beyond the end and closes the last bar
tick + 5 ms ... tick end    trades of the tick, against the book as it stood
tick end                    the tick's depth event, every ``snapshot_interval_s`` followed by a full snapshot
==========================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from features.events import NANO, EventBatch, Kind
from pipeline.sources.simulated_config import SimulationConfig
from pipeline.sources.simulated_instruments import LISTED
from pipeline.sources.simulated_market import Market, MarketBlock
from pipeline.sources.simulated_venue import Block, Venue

__all__ = ["SimulatedExchange", "SimulationConfig"]

Array = np.ndarray[Any, Any]

TRUTH_SCHEMA: Final = {"underlying": pl.String, "bar_ts": pl.Int64, "regime": pl.Int8, "volatility": pl.Float64}


class SimulatedExchange:
    """A source of events (``pipeline.sources.base.Source``), deterministic by seed.

    >>> exchange = SimulatedExchange(SimulationConfig(minutes=1, seed=7))
    >>> next(exchange.batches()).kind.value
    'instrument'
    """

    name = "simulated"

    def __init__(self, config: SimulationConfig) -> None:
        self._config = config
        shape = (config.seconds, len(config.underlyings))
        self._regime = np.zeros(shape, dtype=np.int8)
        self._volatility = np.zeros(shape)
        self._generated_s = 0

    @property
    def underlyings(self) -> tuple[str, ...]:
        """Names of the underlyings, the keys of the log."""
        return self._config.underlyings

    def batches(self) -> Iterator[EventBatch]:
        """All events from the start, a batch an underlying, kind and tick. Memory does not grow with the length."""
        config = self._config
        self._generated_s = 0
        market, venues = _exchange(config)
        for venue in venues:
            yield from venue.open()
        while self._generated_s < config.seconds:
            start_s = self._generated_s
            moves = market.advance(min(config.block_s, config.seconds - start_s))
            self._note_truth(moves)
            blocks = [
                venue.advance(
                    moves.price[:, u].copy(),
                    moves.volatility[:, u].copy(),
                    moves.regime[:, u].copy(),
                    moves.opening[:, u].copy(),
                )
                for u, venue in enumerate(venues)
            ]
            for second in range(len(moves.regime)):
                with_funding = (start_s + second) % config.funding_interval_s == 0
                yield from self._second(venues, blocks, second, with_funding)
        for venue in venues:
            yield venue.close()

    def truth(self) -> pl.DataFrame:
        """The true regime of every bar of one second that has been generated.

        Returns:
            ``underlying``, ``bar_ts`` (end of the bar, ns), ``regime`` (0 calm, 1 stressed, 2 illiquid) and
            ``volatility`` (of the diffusion, root mean square over the bar, per sqrt(year)), by underlying and time.
        """
        seconds, names = self._generated_s, self._config.underlyings
        bar_ts = self._config.start_ns + np.arange(1, seconds + 1) * NANO
        return pl.DataFrame(
            {
                "underlying": np.repeat(np.array(names, dtype=object), seconds).tolist(),
                "bar_ts": np.tile(bar_ts, len(names)),
                "regime": self._regime[:seconds].T.ravel(),
                "volatility": self._volatility[:seconds].T.ravel(),
            },
            schema=TRUTH_SCHEMA,
        )

    def _note_truth(self, moves: MarketBlock) -> None:
        start, stop = self._generated_s, self._generated_s + len(moves.regime)
        self._regime[start:stop] = moves.regime
        squares = moves.volatility.reshape(stop - start, -1, moves.volatility.shape[1]) ** 2
        self._volatility[start:stop] = np.sqrt(squares.mean(axis=1))
        self._generated_s = stop

    def _second(
        self, venues: list[Venue], blocks: list[Block], second: int, with_funding: bool
    ) -> Iterator[EventBatch]:
        """The events of one second; underlyings take turns tick by tick."""
        for venue, block in zip(venues, blocks, strict=True):
            name, options = venue.underlying.name, venue.options
            yield EventBatch(Kind.OPTION_QUOTE, name, block.option_quote.slice(second * options, options))
            if with_funding:
                yield EventBatch(Kind.FUNDING, name, block.funding.slice(second, 1))
            yield EventBatch(Kind.HEARTBEAT, name, block.heartbeat.slice(second, 1))
        ticks = self._config.ticks_per_s
        for tick in range(second * ticks, (second + 1) * ticks):
            for venue, block in zip(venues, blocks, strict=True):
                name = venue.underlying.name
                first, last = block.trade_end[tick - 1] if tick else 0, block.trade_end[tick]
                if last > first:
                    yield EventBatch(Kind.TRADE, name, block.trade.slice(first, last - first))
                first, last = block.book_end[tick - 1] if tick else 0, block.book_end[tick]
                yield EventBatch(Kind.BOOK, name, block.book.slice(first, last - first))


def _exchange(config: SimulationConfig) -> tuple[Market, list[Venue]]:
    """Every underlying has a generator of its own, so that one book's draws never shift another's."""
    listed = [LISTED[name] for name in config.underlyings]
    seeds = np.random.SeedSequence(config.seed).spawn(1 + len(listed))
    first, *others = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
    market = Market(first, config.regimes, [each.price_usd for each in listed], config.ticks_per_s)
    return market, [Venue(config, each, rng) for each, rng in zip(listed, others, strict=True)]
