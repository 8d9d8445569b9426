"""A simulated market of two underlyings at a steady rate of rows in wall time, and the models that decide on it.

The exchange is simulated with many more book updates than usual, and played at the speed that gives the wanted rate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from features.events import NANO, EventBatch
from hedger.portfolio import demo_portfolio, encode_portfolio
from hedger.training import TrainingConfig
from pipeline.backfill import backfill
from pipeline.codec import KIND_HEADER, encode
from pipeline.edge import Edge
from pipeline.fit import fit_forecast_artifact, fit_regimes_artifact, train_policy_artifact
from pipeline.kafka import make_producer, partition_of
from pipeline.lake import Lake
from pipeline.log import KafkaLog, MemoryLog
from pipeline.settings import Settings
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig
from pipeline.topics import EVENTS

REFERENCE: Final = {"BTC": "sim:BTC-PERP", "ETH": "sim:ETH-PERP"}
DENSER: Final = 20
"""Times as many book updates as the simulation's regimes have: about 3,200 rows/s in two underlyings."""

FIT_S: Final = 265
FROM_S: Final = 270
"""Models are fitted on what lies before ``FIT_S``; decisions start at ``FROM_S``."""

WARM_S: Final = 20
"""So long decisions are made before messages are paced: the first ones load and compile."""

WARM_ECHOES: Final = 5


@dataclass(frozen=True)
class Market:
    """Events as the edge appends them."""

    config: SimulationConfig
    events: list[EventBatch]

    @property
    def active_from(self) -> int:
        """The first bar at which decisions are made."""
        return self.config.start_ns + FROM_S * NANO

    @property
    def paced_from(self) -> int:
        """What was received before is sent at once."""
        return self.active_from + WARM_S * NANO


def simulated(seconds: int, denser: int = DENSER) -> Market:
    """History, then ``seconds`` to be paced."""
    plain = SimulationConfig(minutes=(FROM_S + WARM_S + seconds) / 60, seed=3, tick_ms=20)
    regimes = tuple(replace(each, updates_per_s=each.updates_per_s * denser) for each in plain.regimes)
    config = replace(plain, regimes=regimes)
    events: list[EventBatch] = []
    edge = Edge(MemoryLog(events.append), "benchmark")
    for batch in SimulatedExchange(config).batches():
        edge.send(batch)
    return Market(config, events)


def received(batch: EventBatch) -> int:
    """When the newest row of a batch was received, ns."""
    return int(batch.data.column(2).to_numpy().max())


def prepare(market: Market, folder: Path) -> Settings:
    """Small models of every kind and a portfolio, fitted on the market's history."""
    settings = Settings(
        reference=REFERENCE,
        models=folder / "models",
        portfolio=folder / "portfolio.json",
        lake=folder / "history",
        active_from_bar_ts=market.active_from,
    )
    until = market.config.start_ns + FIT_S * NANO
    history = [batch for batch in market.events if received(batch) < until]
    backfill(history, Lake(folder / "history"), settings, with_signals=False)
    portfolio = demo_portfolio({"BTC": 60_000.0, "ETH": 2_600.0}, market.active_from, REFERENCE)
    settings.portfolio.write_bytes(encode_portfolio(portfolio))
    fit_regimes_artifact(settings, until, 0)
    fit_forecast_artifact(settings, until, 0, 20)
    train_policy_artifact(
        settings, portfolio, until, TrainingConfig(n_paths=128, n_batches=3, n_pilot_batches=1, n_test_batches=1)
    )
    return settings


class Due(NamedTuple):
    """A message and when it is to be sent, ns after the first."""

    after_ns: int
    underlying: str
    kind: str
    payload: bytes
    stream_ns: int


def history_and_schedule(market: Market, rows_per_s: int) -> tuple[list[EventBatch], list[Due], float]:
    """What is sent at once, what is paced, and how many seconds of the market pass in one."""
    start = market.paced_from
    history = [batch for batch in market.events if received(batch) < start]
    rest = [batch for batch in market.events if received(batch) >= start]
    rows = sum(batch.data.num_rows for batch in rest)
    seconds = (received(rest[-1]) - received(rest[0])) / NANO
    speed = rows_per_s / (rows / seconds)
    first = received(rest[0])
    due = []
    for batch in rest:
        times = batch.data.column(1).to_numpy() + batch.data.column(4).to_numpy()
        payload = encode(batch.data)
        after = round((received(batch) - first) / speed)
        due.append(Due(after, batch.underlying, batch.kind.value, payload, int(times.max())))
    return history, due, speed


class Pace:
    """Sends messages when they are due, from a thread, and remembers when each bar was complete.

    Args:
        settings: of the broker.
        schedule: in order.
        interval_ns: of a bar.
        linger_ms: of the producer.
    """

    def __init__(self, settings: Settings, schedule: Sequence[Due], interval_ns: int, linger_ms: float) -> None:
        self._settings = settings
        self._schedule = schedule
        self._interval = interval_ns
        self._producer = make_producer(settings, linger_ms)
        self._bar: dict[str, int] = {}
        self.completed: dict[int, float] = {}
        """Bar -> seconds since 1970 at which the message that completed it for the last underlying was produced."""
        self.began = 0.0
        self.late_ms: list[float] = []

    def run(self) -> None:
        """Send all."""
        self.began = begin = time.time()
        for each in self._schedule:
            at = begin + each.after_ns / NANO
            while (wait := at - time.time()) > 0:
                self._producer.poll(0)
                time.sleep(min(wait, 0.002))
            now = time.time()
            self.late_ms.append((now - at) * 1e3)
            self._note(each, now)
            self._producer.produce(
                EVENTS,
                each.payload,
                each.underlying.encode(),
                partition_of(each.underlying, self._settings.partitions),
                headers={KIND_HEADER: each.kind.encode()},
            )
        self._producer.flush()

    def _note(self, due: Due, now: float) -> None:
        """Bars (t - interval, t] close at the first stream time beyond t."""
        bar = (due.stream_ns - 1) // self._interval * self._interval
        before = self._bar.get(due.underlying)
        self._bar[due.underlying] = bar
        for each in range((bar if before is None else before) + self._interval, bar + 1, self._interval):
            self.completed[each] = now  # the last underlying's overwrites


class Echo:
    """The broker's own round trip under the same load: produced, acknowledged by nobody, and seen by a consumer."""

    def __init__(self, settings: Settings, topic: str, every_s: float = 0.05) -> None:
        from confluent_kafka import TopicPartition

        from pipeline.kafka import make_consumer

        self._topic = topic
        self._every_s = every_s
        self._producer = make_producer(settings, linger_ms=0)
        self._consumer = make_consumer(settings, "echo")
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)]
        self.ms: list[float] = []

    def __enter__(self) -> Echo:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopping.set()
        for each in self._threads:
            each.join()
        self._consumer.close()

    def _send(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._producer.produce(self._topic, str(time.monotonic_ns()).encode(), partition=0)
            self._producer.flush(1.0)

    def _receive(self) -> None:
        seen: list[float] = []
        while not self._stopping.is_set():
            messages = self._consumer.consume(1, timeout=0.1)
            now = time.monotonic_ns()
            seen += [(now - int(each.value() or b"0")) / 1e6 for each in messages if each.error() is None]
        self.ms.extend(seen[WARM_ECHOES:])


def send_history(settings: Settings, history: Sequence[EventBatch]) -> None:
    """All at once."""
    log = KafkaLog(settings)
    for batch in history:
        log.append(batch)
    log.flush()


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the largest."""
    if not values:
        return {"samples": 0}
    quantiles = np.percentile(np.array(values), [50, 90, 99, 100]).round(2).tolist()
    return {"samples": len(values), **dict(zip(("p50", "p90", "p99", "max"), quantiles, strict=True))}
