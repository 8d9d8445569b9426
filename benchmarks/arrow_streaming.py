"""Arrow from end to end: ``md.events`` in large messages through ``hedgeflow stream run features``.

The part ``arrow`` of :mod:`benchmarks.streaming`, and what :mod:`benchmarks.scaling` varies.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import polars as pl
import pyarrow as pa

from benchmarks.joined_log import Filled, balanced, busier, fill_events, joined_base, log_of
from benchmarks.recorded_like import RECORDINGS, Base, base_log
from benchmarks.stream_runs import arrow_rows, hedgeflow, run_until_committed
from features.bars import FeatureStage
from features.events import NANO, EventBatch
from pipeline.broker import EmbeddedBroker
from pipeline.kafka import create_topics
from pipeline.settings import Settings
from pipeline.topics import FEATURES

BUSIER: Final = 4
"""The recorded market at four times its pace: a second then fills messages of 1,000 to 1,600 rows."""

COMMIT_MS: Final = 500
TIMEOUT_S: Final = 120.0
CHECKED: Final = 150


def market(seconds: int, one_underlying: str | None = "U") -> Base:
    """Two perpetuals in large messages: recorded where the recordings are, and else simulated."""
    found = base_log(RECORDINGS if RECORDINGS.is_dir() else None, seconds, one_underlying)
    return joined_base(busier(found, BUSIER))


def settings_for(broker: EmbeddedBroker, partitions: int) -> Settings:
    """Of the workers that are measured."""
    settings = Settings(
        bootstrap=broker.bootstrap, partitions=partitions, checkpoint_interval_ms=COMMIT_MS, monitor_port=-1
    )
    create_topics(settings)
    return settings


def run_features(
    settings: Settings, broker: EmbeddedBroker, filled: Filled, workers: int, name: str
) -> dict[str, float]:
    """The steady state of a group of workers over a log; rows besides messages."""
    environments = [
        {
            "HEDGEFLOW_APPLICATION": name,
            "HEDGEFLOW_BOOTSTRAP": settings.bootstrap,
            "HEDGEFLOW_PARTITIONS": str(settings.partitions),
            "HEDGEFLOW_CHECKPOINT_INTERVAL_MS": str(COMMIT_MS),
            "HEDGEFLOW_MONITOR_PORT": "-1",
            "HEDGEFLOW_MEMBER": str(number),
        }
        for number in range(workers)
    ]
    command = hedgeflow("stream", "run", "features")
    found = run_until_committed(
        settings, [command] * workers, f"{name}.features", filled.ends, broker.pid, TIMEOUT_S, environments
    )
    rows = filled.rows / sum(filled.ends.values())
    return found | {name: found[name] * rows for name in ("per_s", "per_cpu_s")} | {"rows_per_message": rows}


def check(events: Iterable[EventBatch]) -> int:
    """A worker's feature rows equal those of the stage in this process, to the bit; returns how many.

    Raises:
        AssertionError: they differ, or there are none.
    """
    part = list(islice(events, CHECKED))
    with EmbeddedBroker() as broker:
        settings = settings_for(broker, 1)
        run_features(settings, broker, fill_events(settings, part), 1, "check")
        streamed = arrow_rows(settings, FEATURES)
    stage = FeatureStage(NANO)
    direct = pa.Table.from_batches([rows.data for batch in part for rows in stage.process(batch).rows])
    mine, theirs = (pl.DataFrame(each).sort("instrument", "bar_ts") for each in (streamed, direct))
    assert mine.height == theirs.height > 0, (mine.height, theirs.height)
    assert mine.equals(theirs), "the worker's rows differ from the stage's"
    return mine.height


def measure(quick: bool, rows: int) -> dict[str, Any]:
    """One and two workers over a log of about so many rows."""
    base = market(10 if quick else 120)
    copies = balanced("U", 4, 2)
    checked = check(log_of(base, copies, 1))
    repetitions = max(1, round(rows / len(copies) / base.rows))
    found: dict[str, Any] = {"rows_checked": checked}
    with EmbeddedBroker() as broker:
        settings = settings_for(broker, 2)
        filled = fill_events(settings, log_of(base, copies, repetitions))
        for workers in (1, 2):
            found[f"{workers} worker(s)"] = run_features(settings, broker, filled, workers, f"arrow{workers}")
    return found | {"rows": filled.rows}
