"""The recorded headlines and figures: every line parses, and the features that they give are sane."""

from __future__ import annotations

import csv
import statistics
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features.alternative.state import AlternativeState
from features.declared.alternative import FEATURES
from features.errors import BadInputError
from features.events import NANO
from pipeline.edge import Edge
from pipeline.log import MemoryLog
from pipeline.sources.alternative_recorded import HEADLINES, RECORDED, recorded_files

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def folder(recorded_data: Path) -> Path:
    return recorded_data / "altdata"


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no recorded alternative data"):
        recorded_files(tmp_path)


@pytest.mark.data
def test_every_recorded_line_is_usable(folder: Path) -> None:
    files = {file.path.name: file for file in recorded_files(folder)}
    assert files.keys() == RECORDED.keys()
    assert all(not file.rejected for file in files.values())
    assert files[HEADLINES].duplicates == 3
    headlines = {(row.ts_event, row.text) for row in files[HEADLINES].rows}
    assert len(headlines) == len(
        {(row.ts_event, row.text) for row in files[HEADLINES].rows if row.underlying == "BTC"}
        | {(row.ts_event, row.text) for row in files[HEADLINES].rows if row.underlying == "ETH"}
    )
    assert 7_500 < len(headlines) <= 7_521
    assert len(files["coinmetrics.csv"].rows) == 3 * 100
    assert len(files["fear_greed.csv"].rows) == 2 * 2_931


@pytest.mark.data
def test_the_fee_z_score_is_that_of_the_file(folder: Path) -> None:
    """On the morning after each day: the day's fees against those of the 30 days before."""
    with (folder / "coinmetrics.csv").open() as lines:
        days = list(csv.DictReader(lines))
    fees = [float(day["fees_btc"]) for day in days]
    state, at = AlternativeState(None), [feature.name for feature in FEATURES].index("fees_z")
    batches = []
    edge = Edge(MemoryLog(batches.append), "test")
    (source,) = [file for file in recorded_files(folder) if file.path.name == "coinmetrics.csv"]
    for batch in source.batches():
        edge.send(batch)
    for row in (row for batch in batches for row in batch.data.to_pylist()):
        assert state.take(row, row["ts_event"] + row["late_ns"]) is None
        known = state.values(row["ts_available"])[at]
        day = (EPOCH + timedelta(microseconds=row["ts_event"] // 1_000) - timedelta(days=1)).date().isoformat()
        i = [each["date"] for each in days].index(day)
        if i >= 30 and row["name"] == "fees":
            before = fees[i - 30 : i]
            assert known == pytest.approx((fees[i] - statistics.mean(before)) / statistics.stdev(before), abs=1e-9)
    assert state.values(row["ts_available"] + NANO).shape == (len(FEATURES),)
