"""The lake: exactly once through one handle, errors that pass and errors that do not, travel in time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from written_lake import START, raw_lake, rows_of, signals_lake

from pipeline import topics
from pipeline.lake import Lake, LakeError, LakeUnavailableError, NoSuchVersionError, require_lake, statistics_columns
from pipeline.tables import TABLES

BOOK, SIGNALS = TABLES["book"], TABLES["signals"]
POSITION = (topics.SIGNALS, 0)


def test_a_second_writer_fails_and_its_retry_too(tmp_path: Path) -> None:
    first, second = Lake(tmp_path), Lake(tmp_path)
    first.append(SIGNALS, rows_of(SIGNALS, 0, 1), {POSITION: 1})
    assert second.version(SIGNALS, *POSITION) == 1
    first.append(SIGNALS, rows_of(SIGNALS, 1, 1), {POSITION: 2})
    for _ in range(2):
        with pytest.raises(LakeError, match="Another writer") as caught:
            second.append(SIGNALS, rows_of(SIGNALS, 1, 1), {POSITION: 2})
        assert not isinstance(caught.value, LakeUnavailableError)
    assert first.delta(SIGNALS).count() == 2


def test_writers_of_different_partitions_do_not_meet(tmp_path: Path) -> None:
    first, second = Lake(tmp_path), Lake(tmp_path)
    for offset in range(3):
        for partition, lake in enumerate((first, second)):
            rows = rows_of(BOOK, offset, 2, partition=partition)
            lake.append(BOOK, rows, {(topics.EVENTS, partition): offset + 1})
    assert first.delta(BOOK).count() == 12
    assert [Lake(tmp_path).version(BOOK, topics.EVENTS, p) for p in (0, 1, 2)] == [3, 3, 0]


_FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from written_lake import rows_of
from pipeline.lake import Lake, LakeUnavailableError
from pipeline.tables import TABLES
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lake, table = Lake(sys.argv[1]), TABLES["signals"]
lake.append(table, rows_of(table, 0, 1), {("signals", 0): 1})
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
try:
    lake.append(table, rows_of(table, 1, 1), {("signals", 0): 2})
except LakeUnavailableError as error:
    print("unavailable:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
lake.append(table, rows_of(table, 1, 1), {("signals", 0): 2})
print("rows", lake.delta(table).count(), "next", Lake(sys.argv[1]).version(table, "signals", 0))
"""


def test_a_full_disk_passes(tmp_path: Path) -> None:
    """Files may not grow beyond 200 bytes; when they may again, the same append succeeds, once."""
    fixtures = str(Path(__file__).parents[1] / "fixtures")
    command = [sys.executable, "-c", _FULL_DISK, str(tmp_path / "lake"), fixtures]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "unavailable:" in done.stdout
    assert "rows 2 next 2" in done.stdout


def test_a_folder_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeUnavailableError):
        Lake(tmp_path / "file" / "lake").append(SIGNALS, rows_of(SIGNALS, 0, 1), {})


def test_a_changed_setting_refuses_once_and_no_more(tmp_path: Path) -> None:
    lake = signals_lake(tmp_path, 2)
    DeltaTable(tmp_path / "signals").alter.set_table_properties({"delta.checkpointInterval": "7"})
    try:
        lake.append(SIGNALS, rows_of(SIGNALS, 4, 1), {POSITION: 5})
    except LakeUnavailableError:
        lake.append(SIGNALS, rows_of(SIGNALS, 4, 1), {POSITION: 5})
    assert lake.delta(SIGNALS).count() == 5


def test_an_append_whose_answer_was_lost_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit lands, then the call fails: as when the connection breaks after the store has taken it."""
    import pipeline.lake as module

    lake = signals_lake(tmp_path, 1)
    real = module.write_deltalake

    def broken(*positional: object, **named: object) -> None:
        real(*positional, **named)
        raise OSError("connection reset")

    monkeypatch.setattr(module, "write_deltalake", broken)
    lake.append(SIGNALS, rows_of(SIGNALS, 2, 1), {POSITION: 3})
    monkeypatch.setattr(module, "write_deltalake", real)
    lake.append(SIGNALS, rows_of(SIGNALS, 3, 1), {POSITION: 4})
    assert (lake.delta(SIGNALS).count(), Lake(tmp_path).version(SIGNALS, *POSITION)) == (4, 4)


def test_a_column_of_another_type_does_not_pass(tmp_path: Path) -> None:
    import dataclasses

    import pyarrow as pa

    lake = signals_lake(tmp_path, 1)
    place = SIGNALS.columns.get_field_index("mid")
    other = dataclasses.replace(SIGNALS, columns=SIGNALS.columns.set(place, pa.field("mid", pa.utf8())))
    rows = rows_of(other, 2, 1)
    with pytest.raises(LakeError) as caught:
        lake.append(other, rows, {POSITION: 3})
    assert not isinstance(caught.value, LakeUnavailableError)


def test_snapshots_by_version_and_time(tmp_path: Path) -> None:
    lake = signals_lake(tmp_path, 2)
    time.sleep(0.05)
    between = datetime.now(UTC)
    time.sleep(0.05)
    lake.append(SIGNALS, rows_of(SIGNALS, 4, 1, time=START + 9 * 10**9), {POSITION: 5})
    assert [lake.delta(SIGNALS, version).count() for version in (0, 2, 5)] == [0, 2, 5]
    assert lake.dataset(SIGNALS, between).count_rows() == 4
    assert lake.dataset(SIGNALS, between.replace(tzinfo=None)).count_rows() == 4
    assert len(lake.files(SIGNALS, 3)) == 3
    for as_of in (6, -1, between - timedelta(days=1)):
        with pytest.raises(NoSuchVersionError):
            lake.delta(SIGNALS, as_of)
        assert lake.files(SIGNALS, as_of) == []


def test_what_is_not_there(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path, 2)
    assert not lake.exists(TABLES["fills"])
    assert lake.files(TABLES["fills"]) == []
    with pytest.raises(LakeError, match="There is no table"):
        lake.delta(TABLES["fills"])
    with pytest.raises(LakeError, match="There is no lake"):
        require_lake(tmp_path / "none")


def test_statistics_are_those_that_filters_need(tmp_path: Path) -> None:
    lake = signals_lake(tmp_path, 1)
    names = {name for name in lake.delta(SIGNALS).get_add_actions(flatten=True).schema.names if name.startswith("min.")}
    assert names == {f"min.{name}" for name in statistics_columns(SIGNALS)}
    assert len(statistics_columns(TABLES["features"])) < 10


def test_old_entries_of_the_log_go_at_a_checkpoint(tmp_path: Path) -> None:
    """Months of commits do not pile up: a folder of 40,000 entries made each commit 15 times slower."""
    lake = signals_lake(tmp_path, 24)
    log = tmp_path / "signals" / "_delta_log"
    lake.delta(SIGNALS).create_checkpoint()
    day_ago = time.time() - 86_400
    for entry in log.glob("*.json"):
        os.utime(entry, (day_ago, day_ago))
    for offset in range(48, 52):
        lake.append(SIGNALS, rows_of(SIGNALS, offset, 1), {POSITION: offset + 1})
    assert len(list(log.glob("*.json"))) < 10
    assert Lake(tmp_path).delta(SIGNALS).count() == 52
    assert Lake(tmp_path).version(SIGNALS, *POSITION) == 52
