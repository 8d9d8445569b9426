"""From an event to a decision at 20,000 rows a second: with the stages in one process, and in one process each.

``python -m benchmarks.latency [--quick] [--seconds N] [--linger MS]``. Two underlyings with options, all features,
models and a portfolio; history is streamed first and taken to the end, so that everything is loaded, compiled and warm.
It runs on librdkafka's mock cluster, a broker that answers in milliseconds, and on the embedded one, whose fetches slow
down with every batch that it keeps: what is ours shows on the first.
Then messages are paced, and for each bar it takes the time from

- the message that completes the bar for the last underlying, handed to the producer, or
- the end of the bar itself (event time; the market is played faster than life, which is printed)

until the decision is handed to the producer. Both clocks are this host's; Kafka's timestamps have whole milliseconds,
so half of one is added. Beside it the broker's own round trip under the same load: produce to consume, one message.
The steps in between show where the time goes. The last line is one JSON object; the goal is p99 < 25 ms in one process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from confluent_kafka import TopicPartition

from benchmarks.mock_cluster import MockCluster
from benchmarks.paced_market import (
    Echo,
    Market,
    Pace,
    history_and_schedule,
    percentiles,
    prepare,
    send_history,
    simulated,
)
from benchmarks.stream_runs import cpu_s
from benchmarks.where import where
from features.events import NANO
from hedger.decision import decode_decision
from pipeline.broker import EmbeddedBroker
from pipeline.codec import decode_rows
from pipeline.kafka import create_topics, end_offsets, make_reader, read_to_end
from pipeline.processes import Workers, environment_of
from pipeline.settings import Settings
from pipeline.topics import DECISION_INPUTS, DECISIONS, FEATURES, SIGNALS, TOPICS, UNIVERSE, TopicSpec

ROWS_PER_S: Final = 20_000
GOAL_P99_MS: Final = 25.0
STAGES: Final = ("features", "universe", "signals", "decisions")
TOPOLOGIES: Final = {"one process": ("-".join(STAGES),), "one process a stage": STAGES}
STEPS: Final = (FEATURES, UNIVERSE, SIGNALS)
ECHO: Final = "echo"
DRAIN_S: Final = 400.0
AT_ONCE: Final = 2_500
"""Messages of history that are sent before they are waited for: the mock cluster keeps 5 MB a partition."""
BROKERS: Final = {"mock": MockCluster, "embedded": EmbeddedBroker}
FETCH_WAIT_MS: Final = {"mock": 2, "embedded": 20}
"""Neither wakes a waiting fetch, as Kafka does: each hop takes up to this. The embedded one lists a partition meanwhile
and answers nothing when it has not finished."""


def waiting(what: str) -> None:
    """Say what is being waited for."""
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def run(
    market: Market, prepared: Settings, stages: tuple[str, ...], linger_ms: float, folder: Path, broker_name: str
) -> dict[str, Any]:
    """Latencies of one way to run the stages, on one broker."""
    history, schedule, speed = history_and_schedule(market, ROWS_PER_S)
    with BROKERS[broker_name]() as broker:
        settings = prepared.model_copy(
            update={"bootstrap": broker.bootstrap, "fetch_wait_max_ms": FETCH_WAIT_MS[broker_name]}
        )
        specs = (*TOPICS.values(), TopicSpec(ECHO, key="none"))
        if isinstance(broker, MockCluster):
            broker.create_topics(settings, specs)
        else:
            create_topics(settings, specs)
        with Workers(settings, environment_of(settings), folder) as workers:
            began = time.monotonic()
            workers.start(*stages)
            waiting(f"{len(stages)} process(es): taking {len(history):,} messages of history")
            for start in range(0, len(history), AT_ONCE):
                send_history(settings, history[start : start + AT_ONCE])
                workers.drain(DRAIN_S)
            start_up_s = time.monotonic() - began
            starts = end_offsets(settings, (*STEPS, DECISION_INPUTS, DECISIONS))
            waiting(f"{len(schedule):,} messages in {schedule[-1].after_ns / NANO:.0f} s, {speed:.1f} x life")
            pids = [workers[stage].pid for stage in stages]
            used, pace = cpu_s(pids), Pace(settings, schedule, settings.interval_ns, linger_ms)
            with Echo(settings, ECHO) as echo:
                pace.run()
            cores = (cpu_s(pids) - used) / (time.time() - pace.began)
            workers.drain(DRAIN_S)
        seen = produced(settings, starts)
    return figures(market, pace, seen, speed) | {
        "broker_round_trip_ms": percentiles(echo.ms),
        "sent_late_ms": percentiles(pace.late_ms),
        "cores": round(cores, 2),
        "speed": round(speed, 2),
        "start_up_s": round(start_up_s, 1),
        "messages": len(schedule),
    }


def produced(settings: Settings, starts: dict[tuple[str, int], int]) -> dict[str, dict[int, float]]:
    """Topic -> bar -> seconds since 1970 at which its last row was handed to the producer."""
    found: dict[str, dict[int, float]] = {}
    reader = make_reader(settings)
    try:
        positions = [TopicPartition(topic, partition, at) for (topic, partition), at in starts.items()]
        for message in read_to_end(reader, positions):
            topic, at = message.topic(), message.timestamp()[1] / 1e3 + 0.0005
            bars = found.setdefault(topic, {})
            for bar in _bars(topic, message.value() or b""):
                bars[bar] = max(at, bars.get(bar, 0.0))
    finally:
        reader.close()
    return found


def _bars(topic: str, payload: bytes) -> list[int]:
    if topic == DECISIONS:
        return [decode_decision(payload).bar_ts]
    if topic == DECISION_INPUTS:
        document = json.loads(payload)
        return [document["bar_ts"]] if "bar_ts" in document else []
    return [int(bar) for bar in decode_rows(topic, payload).column("bar_ts").unique().to_pylist()]


def figures(market: Market, pace: Pace, seen: dict[str, dict[int, float]], speed: float) -> dict[str, Any]:
    """Milliseconds from completion and from the bar's end to the decision, and to each topic on the way."""
    decided = seen.get(DECISIONS, {})
    bars = sorted(set(decided) & set(pace.completed))
    first = market.paced_from

    def after(times: dict[int, float]) -> dict[str, float]:
        return percentiles([(times[bar] - pace.completed[bar]) * 1e3 for bar in bars if bar in times])

    ends = {bar: pace.began + (bar - first) / NANO / speed for bar in bars}
    return {
        "decision_ms": after(decided),
        "bar_end_to_decision_ms": percentiles([(decided[bar] - ends[bar]) * 1e3 for bar in bars]),
        "steps_ms": {topic: after(seen.get(topic, {})) for topic in (*STEPS, DECISION_INPUTS)},
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    """The table."""
    print(f"{'ms at 20,000 rows/s':>30}{'samples':>9}{'p50':>8}{'p90':>8}{'p99':>8}{'max':>8}")
    for name, result in results.items():
        lines = {
            f"{name}: decision": result["decision_ms"],
            "from the bar's end": result["bar_end_to_decision_ms"],
            **{f"... {topic}": found for topic, found in result["steps_ms"].items()},
            "broker's round trip": result["broker_round_trip_ms"],
        }
        for line, found in lines.items():
            if found["samples"]:
                print(f"{line:>30}{found['samples']:>9}" + "".join(f"{found[q]:>8.1f}" for q in QUANTILES))
        print(
            f"{'':>30} {result['cores']} cores, start-up and history {result['start_up_s']} s, {result['speed']} x life"
        )


QUANTILES: Final = ("p50", "p90", "p99", "max")


def main() -> None:
    """Print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few bars")
    parser.add_argument("--seconds", type=int, default=150, help="of the market, paced")
    parser.add_argument("--linger", type=float, default=1.0, help="ms that the source's producer waits for company")
    parser.add_argument("--only", choices=list(TOPOLOGIES), help="one way")
    parser.add_argument("--broker", choices=list(BROKERS), help="one broker")
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder:
        waiting("simulating, and fitting small models")
        market = simulated(24, denser=2) if options.quick else simulated(options.seconds)
        prepared = prepare(market, Path(folder))
        for broker, (name, stages) in product(BROKERS, TOPOLOGIES.items()):
            if options.only in (None, name) and options.broker in (None, broker):
                logs = Path(folder) / f"{broker}-{name}".replace(" ", "-")
                results[f"{broker}, {name}"] = run(market, prepared, stages, options.linger, logs, broker)
    show(results)
    print(
        json.dumps(
            {
                "benchmark": "latency",
                "rows_per_s": ROWS_PER_S,
                "goal_p99_ms": GOAL_P99_MS,
                "fetch_wait_max_ms": FETCH_WAIT_MS,
                "linger_ms": options.linger,
                "results": results,
                **where(("numpy", "numba", "polars", "pyarrow", "confluent-kafka", "torch")),
            }
        )
    )


if __name__ == "__main__":
    main()
