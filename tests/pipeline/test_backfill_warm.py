"""A start inside the data, where nothing is stored: what is read before it, and what is then equal to a whole run."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from raw_lake import write_raw
from small_market import edged

from features.catalog import STANDARD
from features.events import NANO
from pipeline.backfill import backfill
from pipeline.backfill_job import Job
from pipeline.backfill_local import InProcess
from pipeline.backfill_run import lake_origin, run_of
from pipeline.backfill_task import Window
from pipeline.backfill_warm import warm_up_ns
from pipeline.lake import Lake
from pipeline.raw_reader import read_log
from pipeline.settings import Settings
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig
from pipeline.tables import TABLES

EXACT = ["underlying", "instrument", "bar_ts", "ts_known", "book_valid", "lost_rows", "best_bid", "best_ask", "mid"]
WINDOWED = ["realized_variance_10s"]


def rows_of(lake: Lake, after: int) -> pl.DataFrame:
    frame = pl.read_parquet(lake.files(TABLES["features"]), hive_partitioning=True)
    return frame.filter(pl.col("bar_ts") > after).sort("instrument", "bar_ts")


def test_books_and_windows_are_those_of_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    config = SimulationConfig(minutes=0.75, snapshot_interval_s=4, tick_ms=100)
    log = edged(list(SimulatedExchange(config).batches()))
    raw = write_raw(tmp_path / "raw", log)
    whole = Lake(tmp_path / "whole")
    backfill(read_log(tmp_path / "raw"), whole, settings, with_signals=False)
    first = rows_of(whole, 0)["bar_ts"].min()
    assert isinstance(first, int)
    start = first + 30 * NANO
    monkeypatch.setattr("pipeline.backfill_job.warm_up_ns", lambda *_: 10 * NANO)
    target = Lake(tmp_path / "to")
    found = Job(run_of(lake_origin(raw), Window(start, None), ()), target, settings, InProcess()).start()
    assert not found.rejects, "instruments were introduced before the warm-up"
    (note,) = found.notes
    assert note.startswith("warm-up: ")
    assert "began there" in note
    warmed = int(note.split()[1].replace(",", ""))
    total = sum(batch.data.num_rows for batch in log)
    assert 10 / 45 * total < warmed < 20 / 45 * total, "ten seconds, and back to a snapshot"
    here, there = rows_of(target, start), rows_of(whole, start)
    assert here.height == there.height > 20
    assert here["book_valid"].all()
    assert here.select(*EXACT, *WINDOWED).equals(there.select(*EXACT, *WINDOWED), null_equal=True)
    assert here["realized_variance_10s"].null_count() == 0
    # What remembers without end is another matter, and says so: the trades' intensity is a decaying sum.
    assert not here.drop("topic_offset", "topic_row", "topic_partition").equals(
        there.drop("topic_offset", "topic_row", "topic_partition"), null_equal=True
    )


def test_the_longest_window() -> None:
    assert warm_up_ns(STANDARD, with_alternative=False) == 300 * NANO
    assert warm_up_ns(STANDARD, with_alternative=True) == 86_400 * NANO
