"""What a soak runs on: a simulated market as a feed, and models and a portfolio fitted on its beginning."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from features.events import NANO, EventBatch
from hedger.portfolio import demo_portfolio, encode_portfolio
from hedger.training import TrainingConfig
from pipeline.backfill import backfill
from pipeline.edge import Edge
from pipeline.fit import fit_forecast_artifact, fit_regimes_artifact, train_policy_artifact
from pipeline.lake import Lake
from pipeline.log import KafkaLog, MemoryLog
from pipeline.settings import Settings
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig

REFERENCE: Final = {"BTC": "sim:BTC-PERP", "ETH": "sim:ETH-PERP"}
SPOT: Final = {"BTC": 60_000.0, "ETH": 2_600.0}
FITTED_S: Final = 150
"""Seconds of the market that the models are fitted on; decisions begin right after."""

QUICK: Final = TrainingConfig(n_paths=128, n_batches=3, n_pilot_batches=1, n_test_batches=1)


@dataclass(frozen=True)
class Prepared:
    """A market, and the folder where models and portfolio for it lie."""

    folder: Path
    config: SimulationConfig

    @property
    def active_from(self) -> int:
        """First bar at which decisions are made, ns."""
        return self.config.start_ns + (FITTED_S + 5) * NANO

    def settings(self, **changes: Any) -> Settings:
        """Of a system on this market, that checkpoints and commits often so that faults hit between."""
        values: dict[str, Any] = {
            "reference": REFERENCE,
            "models": self.folder / "models",
            "portfolio": self.folder / "portfolio.json",
            "active_from_bar_ts": self.active_from,
            "checkpoint_interval_ms": 300,
            "lake_commit_interval_ms": 500,
            "session_timeout_ms": 6_000,
            "batch_messages": 100,
            "fetch_wait_max_ms": 100,  # Tansu answers nothing when it cannot list a long log in that time
            "member": "a",
        }
        return Settings(**values | changes)


def market(minutes: float, seed: int) -> SimulationConfig:
    """A light market: as many kinds of events as the full one, fewer of them."""
    return SimulationConfig(minutes=minutes, seed=seed, tick_ms=200, depth_levels=10)


def edged_events(config: SimulationConfig, count: int | None = None) -> Iterator[EventBatch]:
    """The market's first ``count`` batches as the edge appends them: what the log holds if nothing goes wrong."""
    out: list[EventBatch] = []
    edge = Edge(MemoryLog(out.append), "soak")
    for batch in islice(SimulatedExchange(config).batches(), count):
        edge.send(batch)
        yield from out
        out.clear()


def prepare(folder: Path, config: SimulationConfig) -> Prepared:
    """Fit models and write a portfolio."""
    prepared = Prepared(folder, config)
    until = config.start_ns + FITTED_S * NANO
    history = prepared.settings(lake=folder / "history")
    beginning = (each for each in edged_events(market(FITTED_S / 60 + 0.1, config.seed)))
    backfill(beginning, Lake(folder / "history"), history, with_signals=False)
    portfolio = demo_portfolio(SPOT, prepared.active_from, REFERENCE)
    (folder / "portfolio.json").write_bytes(encode_portfolio(portfolio))
    fit_regimes_artifact(history, until, 0)
    fit_forecast_artifact(history, until, 0, 20)
    train_policy_artifact(history, portfolio, until, QUICK)
    return prepared


class Feed:
    """Sends the market into the log from a thread of its own, at a pace, until it ends or is told to stop.

    Args:
        settings: of the system.
        config: of the market.
        speed: simulated seconds a second.

    Attributes:
        sent: batches so far.
    """

    def __init__(self, settings: Settings, config: SimulationConfig, speed: float) -> None:
        self._log = KafkaLog(settings)
        self._config = config
        self._speed = speed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")
        self._failure: BaseException | None = None
        self.sent = 0

    def start(self) -> Feed:
        """Begin."""
        self._thread.start()
        return self

    @property
    def done(self) -> bool:
        """Whether the market has ended."""
        return not self._thread.is_alive()

    @property
    def progress(self) -> float:
        """The part of the market that was sent."""
        return self._at_s / self._config.seconds

    def finish(self, timeout_s: float = 600.0) -> int:
        """Send the rest, wait until it is acknowledged; how many batches there were."""
        self._thread.join(timeout_s)
        assert self.done, "the feed does not end"
        self.check()
        self._log.flush()
        return self.sent

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> int:
        """Send no more, wait until what was sent is acknowledged; how many batches there were."""
        self._stopping.set()
        return self.finish()

    _at_s = 0.0

    def _run(self) -> None:
        try:
            self._send_all(Edge(self._log, "soak"))
        except BaseException as error:  # noqa: BLE001 (raised by finish, in the thread that waits)
            self._failure = error

    def _send_all(self, edge: Edge) -> None:
        begin = time.monotonic()
        for batch in SimulatedExchange(self._config).batches():
            self._at_s = (batch.data.column(1)[0].as_py() - self._config.start_ns) / NANO
            while (ahead_s := self._at_s / self._speed - (time.monotonic() - begin)) > 0:
                if self._stopping.wait(min(ahead_s, 0.2)):
                    return
            if self._stopping.is_set():
                return
            edge.send(batch)
            self.sent += 1
