"""Whole option chains from Kafka to features: how long one takes, at ten updates a second of four underlyings.

``python -m benchmarks.chain_streaming [--quick] [--seconds N] [--broker mock|embedded]``. Each of four underlyings has
800 coin-settled options in 10 expiries, all quoted anew ten times a second in one message. A chain is fitted where a
bar ends, and a bar has a second at least: so the market is played at ten times its pace, a bar every 100 ms, and every
update is cleaned, inverted, fitted and read off. One ``hedgeflow stream run features`` on one core does all four. A
quote message is followed by the heartbeat that closes its bar; the latency is from the moment that the quotes are
handed to the producer until the bar's row is (Kafka's timestamps have whole milliseconds: half of one is added), and so
holds two trips through the broker's queue and every wait behind another chain. Before anything is reported the rows of
the topic are compared with those that the stage gives in this process: not a bit may differ. The last line is one JSON
object; the goal is a p99 below 60 ms without lag. There is no peer: none fits a surface in a stream.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from confluent_kafka import TopicPartition

from benchmarks.mock_cluster import MockCluster
from benchmarks.paced_market import percentiles, send_history
from benchmarks.stream_runs import cpu_s
from benchmarks.where import where
from features.bars import FeatureStage
from features.events import NANO, EventBatch, Kind, record_batch
from pipeline.broker import EmbeddedBroker
from pipeline.codec import KIND_HEADER, decode_rows, encode
from pipeline.edge import Edge
from pipeline.kafka import create_topics, make_producer, make_reader, partition_of
from pipeline.log import MemoryLog
from pipeline.processes import Workers, environment_of
from pipeline.settings import Settings
from pipeline.sources.simulated_instruments import LISTED, Underlying, instrument_event
from pipeline.sources.simulated_market import O_PRICE, O_VARIANCE, O_WIDTH, OPENING
from pipeline.sources.simulated_options import DAY_NS, Chain, quote_chains
from pipeline.topics import EVENTS, FEATURES

Array = np.ndarray[Any, Any]

UNDERLYINGS: Final = ("AAA", "BBB", "CCC", "DDD")
EXPIRIES_D: Final = (1, 2, 3, 7, 14, 30, 60, 90, 180, 360)
STRIKES: Final = 40
INTERVAL_NS: Final = NANO
PACE_S: Final = 0.1
"""Between two updates of an underlying, on the clock on the wall."""
BEFORE_END_NS: Final = 5_000_000
"""A chain is quoted so long before its bar ends; the heartbeat as long after."""

START_NS: Final = 1_770_000_000 * NANO
WARM: Final = 20
"""Updates of each underlying that are sent at once: what they need is loaded, and the surface is warm."""

AT_ONCE: Final = 64
"""Messages of history that are sent before they are waited for: the mock cluster keeps 5 MB a partition."""

GOAL_P99_MS: Final = 60.0
VARIANCES: Final = (0.2, 0.8, 0.4)
HALF_SPREAD: Final = 0.01
"""Of a quote, in volatility."""

FETCH_WAIT_MS: Final = {"mock": 2, "embedded": 20}
DRAIN_S: Final = 120.0
BROKERS: Final = {"mock": MockCluster, "embedded": EmbeddedBroker}


class Update(NamedTuple):
    """A chain's quotes and the heartbeat behind them, as the edge appends them."""

    bar_ts: int
    events: tuple[EventBatch, EventBatch]


def listed(number: int) -> tuple[Underlying, Chain]:
    """An underlying and its 800 options."""
    name = UNDERLYINGS[number]
    spot = 60_000.0 / (1 + number)
    names: list[str] = []
    rows: list[tuple[int, float, bool]] = []
    for days in EXPIRIES_D:
        expiry = START_NS + days * DAY_NS
        deviation = np.sqrt(VARIANCES[2] * days / 365.0)
        for strike in np.rint(spot * np.exp(np.linspace(-2.0, 2.0, STRIKES) * deviation) * 10.0) / 10.0:
            for is_call in (True, False):
                names.append(f"sim:{name}-{days}D-{strike:.1f}-{'C' if is_call else 'P'}")
                rows.append((expiry, float(strike), is_call))
    expiry_ns, strikes, calls = (np.array(column) for column in zip(*rows, strict=True))
    terms = LISTED["BTC"]
    underlying = Underlying(
        name, spot, terms.price_increment_e9, terms.size_increment_e9, terms.level_size, terms.trade_size,
        terms.strike_step_usd, terms.option_size_increment_e9, terms.open_interest,
    )  # fmt: skip
    return underlying, Chain(names, expiry_ns, strikes, calls)


def _nullable(counts: Array) -> pa.Array:
    """A bid below one increment is none."""
    return pa.array(counts, mask=counts < 1)


def feed(number: int, updates: int) -> Iterator[EventBatch | Update]:
    """Reference data, then the updates of one underlying; its forward and its variance wander."""
    underlying, chain = listed(number)
    appended: list[EventBatch] = []
    edge = Edge(MemoryLog(appended.append), "benchmark")
    edge.send(instrument_event(underlying, chain, START_NS, START_NS))
    yield appended.pop()
    random = np.random.default_rng(number)
    walk = np.cumsum(random.standard_normal((updates, 2)) * (2e-4, 2e-3), axis=0)
    for i in range(updates):
        bar_ts = START_NS + (i + 2) * INTERVAL_NS
        quoted = bar_ts - BEFORE_END_NS
        opening = np.zeros((1, OPENING))
        price, variance = underlying.price_usd * np.exp(walk[i, 0]), VARIANCES[2] * np.exp(walk[i, 1])
        opening[0, [O_PRICE, O_VARIANCE, O_WIDTH]] = price, variance, HALF_SPREAD
        quotes = quote_chains(chain, opening, np.array([quoted]), VARIANCES)
        n = len(chain.names)
        columns = {
            "instrument": np.arange(n, dtype=np.int32),
            "ts_event": np.full(n, quoted),
            "ts_recv": np.full(n, quoted),
            "expiry_ns": chain.expiry_ns,
            "strike_e9": np.rint(chain.strike * NANO).astype(np.int64),
            "is_call": chain.is_call,
            "bid": _nullable(quotes.bid[0]),
            "ask": _nullable(quotes.ask[0]),
            "mark_e9": quotes.mark_e9[0],
            "forward_e9": quotes.forward_e9[0],
        }
        edge.send(EventBatch(Kind.OPTION_QUOTE, underlying.name, record_batch(Kind.OPTION_QUOTE, chain.names, columns)))
        beat = np.full(1, bar_ts + BEFORE_END_NS)
        columns = {"instrument": np.zeros(1, dtype=np.int32), "ts_event": beat, "ts_recv": beat}
        edge.send(
            EventBatch(Kind.HEARTBEAT, underlying.name, record_batch(Kind.HEARTBEAT, [underlying.perpetual], columns))
        )
        first, second = appended
        appended.clear()
        yield Update(bar_ts, (first, second))


def expected(feeds: list[list[EventBatch | Update]]) -> tuple[pl.DataFrame, float]:
    """The rows that the stage gives in this process, and milliseconds of CPU that an update takes it."""
    stage, rows = FeatureStage(INTERVAL_NS), []
    updates, used = 0, 0.0
    for each in (item for one in feeds for item in one):
        began = time.process_time()
        events = each.events if isinstance(each, Update) else (each,)
        for batch in events:
            rows += [keyed.data for keyed in stage.process(batch).rows]
        if isinstance(each, Update):
            updates += 1
            used += time.process_time() - began if updates > WARM else 0.0
    return _sorted(rows), 1e3 * used / (updates - WARM)


def _sorted(rows: list[pa.RecordBatch]) -> pl.DataFrame:
    frame = pl.DataFrame(pa.Table.from_batches(rows))
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).sort("instrument", "bar_ts")


def played(settings: Settings, feeds: list[list[EventBatch | Update]]) -> dict[tuple[str, int], float]:
    """Send what is not history at its pace; when the quotes of each (underlying, bar) left, s since 1970."""
    producer = make_producer(settings, linger_ms=0)
    began = time.time() + 0.05
    handed = {}
    for i in range(WARM + 1, len(feeds[0])):
        for number, one in enumerate(feeds):
            update = one[i]
            assert isinstance(update, Update)
            at = began + (i - WARM - 1 + number / len(feeds)) * PACE_S
            while (wait := at - time.time()) > 0:
                producer.poll(0)
                time.sleep(min(wait, 0.001))
            underlying = update.events[0].underlying
            payloads = [encode(batch.data) for batch in update.events]
            handed[underlying, update.bar_ts] = time.time()
            for batch, payload in zip(update.events, payloads, strict=True):
                producer.produce(
                    EVENTS, payload, underlying.encode(), partition_of(underlying, settings.partitions),
                    headers={KIND_HEADER: batch.kind.encode()},
                )  # fmt: skip
    producer.flush()
    return handed


class Reader:
    """Takes the rows of the topic as they come, in a thread: the mock cluster keeps only the last 5 MB."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = make_reader(settings)
        self._consumer.assign([TopicPartition(FEATURES, partition, 0) for partition in range(settings.partitions)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.rows: list[pa.RecordBatch] = []
        self.seen: dict[tuple[str, int], float] = {}
        """When each (underlying, bar) was handed to the producer, s since 1970."""

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def wait_for(self, bars: int) -> None:
        """Until so many rows have come."""
        until = time.monotonic() + DRAIN_S
        while len(self.seen) < bars and time.monotonic() < until:
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(100, timeout=0.1):
                if message.error() is not None:
                    continue
                data = decode_rows(FEATURES, message.value() or b"")
                self.rows.append(data)
                keys = zip(*(data.column(name).to_pylist() for name in ("underlying", "bar_ts")), strict=True)
                for key in keys:
                    self.seen[key] = message.timestamp()[1] / 1e3 + 0.0005


def measure(seconds: float, broker_name: str, folder: Path) -> dict[str, Any]:
    """One worker on one core over the paced chains."""
    updates = WARM + round(seconds / PACE_S)
    feeds = [list(feed(number, updates)) for number in range(len(UNDERLYINGS))]
    correct, stage_ms = expected(feeds)
    cores = sorted(os.sched_getaffinity(0))
    with BROKERS[broker_name]() as broker:
        settings = Settings(
            bootstrap=broker.bootstrap,
            interval_ns=INTERVAL_NS,
            partitions=1,
            fetch_wait_max_ms=FETCH_WAIT_MS[broker_name],
            reference={name: f"sim:{name}-PERP" for name in UNDERLYINGS},
            monitor_port=-1,
        )
        if isinstance(broker, MockCluster):
            broker.create_topics(settings)
        else:
            create_topics(settings)
        with Workers(settings, environment_of(settings), folder) as workers:
            os.sched_setaffinity(0, cores[-1:])  # what is started now inherits it
            workers.start("features")
            os.sched_setaffinity(0, cores)
            warm = [item for i in range(WARM + 1) for one in feeds for item in [one[i]]]
            events = [batch for each in warm for batch in (each.events if isinstance(each, Update) else (each,))]
            with Reader(settings) as reader:
                for at in range(0, len(events), AT_ONCE):
                    send_history(settings, events[at : at + AT_ONCE])
                    workers.drain(DRAIN_S)
                pid = workers["features"].pid
                used, began = cpu_s([pid]), time.time()
                handed = played(settings, feeds)
                ended = time.time()
                busy = (cpu_s([pid]) - used) / (ended - began)
                reader.wait_for(len(correct))
    seen = reader.seen
    assert _sorted(reader.rows).equals(correct), "rows of the topic differ from those of the stage"
    assert correct["atm_iv_30d"].null_count() < len(correct) / 10
    ordered = sorted(handed, key=lambda key: handed[key])
    ms = [(seen[key] - handed[key]) * 1e3 for key in ordered]
    third = len(ms) // 3
    return {
        "latency_ms": percentiles(ms),
        "first_third_p50_ms": percentiles(ms[:third])["p50"],
        "last_third_p50_ms": percentiles(ms[-third:])["p50"],
        "updates": len(ms),
        "updates_per_s": round(len(ms) / (ended - began), 1),
        "quotes": len(listed(0)[1].names),
        "quotes_used": float(correct["option_quotes"].median() or 0.0),
        "stage_ms_per_update": round(stage_ms, 2),
        "worker_cores": round(busy, 2),
    }


def main() -> None:
    """Print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three seconds")
    parser.add_argument("--seconds", type=float, default=60.0, help="that are paced")
    parser.add_argument("--broker", choices=list(BROKERS), default="mock")
    options = parser.parse_args()
    print(f"simulating {len(UNDERLYINGS)} chains", file=sys.stderr, flush=True)
    with TemporaryDirectory() as folder:
        found = measure(3.0 if options.quick else options.seconds, options.broker, Path(folder))
    ms = found["latency_ms"]
    print(
        f"{found['quotes']} quotes from Kafka to features, {found['updates_per_s']} chains a second, one core: "
        f"p50 {ms['p50']} ms, p90 {ms['p90']}, p99 {ms['p99']}, worst {ms['max']} of {found['updates']}"
    )
    print(
        f"lag: p50 {found['first_third_p50_ms']} ms in the first third, {found['last_third_p50_ms']} in the last; "
        f"the worker used {found['worker_cores']} cores; the stage alone takes {found['stage_ms_per_update']} ms each"
    )
    named = {"benchmark": "chain_streaming", "broker": options.broker, "goal_p99_ms": GOAL_P99_MS, "ratio": None}
    print(json.dumps(named | found | where(("numpy", "numba", "polars", "pyarrow", "confluent-kafka"))))


if __name__ == "__main__":
    main()
