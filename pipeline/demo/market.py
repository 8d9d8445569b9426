"""What the demo plays: the simulated exchange, or the recorded session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from features.events import NANO, EventBatch
from features.stage import Reject
from pipeline.edge import Edge
from pipeline.log import KafkaLog
from pipeline.settings import Settings


@dataclass(slots=True)
class Market:
    """A source with what the demo says about it."""

    name: str
    source: Any
    reference: Mapping[str, str]
    start_ns: int
    duration_ns: int
    notice: str = ""
    on_reject: list[Any] = field(default_factory=list)

    def at(self, share: float) -> int:
        """The bar end (ns) nearest to this share of the way."""
        return (self.start_ns + round(share * self.duration_ns)) // NANO * NANO

    def truth(self) -> pl.DataFrame | None:
        """The true regime by underlying and bar, where a simulator knows it."""
        truth = getattr(self.source, "truth", None)
        return None if truth is None else truth()


def simulated_market(minutes: float, seed: int) -> Market:
    """The simulated exchange: the default, with nothing but the repository."""
    from pipeline.sources.simulated import SimulatedExchange, SimulationConfig

    config = SimulationConfig(minutes=minutes, seed=seed)
    exchange = SimulatedExchange(config)
    reference = {underlying: f"sim:{underlying}-PERP" for underlying in exchange.underlyings}
    return Market("simulated exchange", exchange, reference, config.start_ns, round(minutes * 60 * NANO))


def recorded_market(data: Path, minutes: float) -> Market:
    """The recorded Binance session with Deribit's chains re-timed onto it."""
    from pipeline.sources.recorded import RecordedSession

    rejects: list[Any] = []
    session = RecordedSession(data, minutes, on_reject=rejects.append)
    batches = session.batches()
    first = next(batches)
    start = int(first.data.column(1)[0].as_py())
    return Market(
        "recorded session",
        _Started(session, first, batches),
        session.reference_instruments,
        start,
        round(minutes * 60 * NANO),
        session.notice,
        rejects,
    )


class _Started:
    """A session of which the first batch has been looked at."""

    def __init__(self, session: Any, first: EventBatch, rest: Iterator[EventBatch]) -> None:
        self._session, self._first, self._rest = session, first, rest

    def batches(self) -> Iterator[EventBatch]:
        """All of it."""
        yield self._first
        yield from self._rest


class Player:
    """Plays a market into the log, up to a moment and then on."""

    def __init__(self, market: Market, settings: Settings) -> None:
        self._market = market
        self._log = KafkaLog(settings)
        self._edge = Edge(self._log, market.name)
        self._batches = market.source.batches()
        self._held: EventBatch | None = None

    @property
    def rows(self) -> int:
        """Rows appended so far."""
        return self._edge.rows

    def play(self, until_ns: int | None) -> Iterator[int]:
        """Append everything up to ``until_ns`` (all, if ``None``); yields the time reached."""
        while (batch := self._held or next(self._batches, None)) is not None:
            self._held = None
            when = int(batch.data.column(1)[0].as_py())
            if until_ns is not None and when > until_ns:
                self._held = batch
                break
            self._edge.send(batch)
            for each in self._market.on_reject:
                self._log.reject(each.origin, Reject(each.reason, each.detail), each.payload)
            self._market.on_reject.clear()
            yield when
        self._log.flush()
