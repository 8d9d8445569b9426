"""Raw rows come back from the lake in the order of the log, however their files lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from small_market import small_market

from features.bars import FeatureStage
from features.events import EventBatch
from pipeline import raw_reader
from pipeline.edge import Edge
from pipeline.lake import Lake, LakeError, positioned
from pipeline.lake_writer_rows import stored_columns
from pipeline.log import MemoryLog
from pipeline.raw_files import logs_of
from pipeline.raw_reader import connected, read_log, read_underlying
from pipeline.tables import TABLES

PARTITION = {"BTC": 0, "ETH": 1}
BY_KIND = {table.kind: table for table in TABLES.values() if table.topic == "md.events"}


def log_of(seconds: int) -> list[EventBatch]:
    log: list[EventBatch] = []
    edge = Edge(MemoryLog(log.append), "test")
    for batch in small_market(seconds, seed=3):
        edge.send(batch)
    return log


LOG = log_of(15)


def write(path: Path, log: Sequence[EventBatch], commit_every: int, reverse: bool = False) -> Lake:
    """A lake of the log's messages, a commit every so many; offsets of the partitions far apart, as in a real topic."""
    lake, offsets, commits = Lake(path), {0: 0, 1: 5_000_000}, []
    waiting: dict[str, list[pa.Table]] = {}
    for number, batch in enumerate(log, 1):
        partition = PARTITION[batch.underlying]
        table = BY_KIND[batch.kind.value]
        rows = positioned(table, stored_columns(batch), partition, offsets[partition], range(batch.data.num_rows))
        waiting.setdefault(table.name, []).append(rows)
        offsets[partition] += 1
        if number % commit_every == 0 or number == len(log):
            commits.append(waiting)
            waiting = {}
    for commit in reversed(commits) if reverse else commits:
        for name, pieces in commit.items():
            lake.append(TABLES[name], pa.concat_tables(pieces), {})
    return lake


def rows_of(log: Sequence[EventBatch], underlying: str) -> list[tuple[str, dict[str, object]]]:
    return [(b.kind.value, row) for b in log if b.underlying == underlying for row in b.data.to_pylist()]


def assert_same_log(read: Sequence[EventBatch]) -> None:
    for underlying in PARTITION:
        assert rows_of(read, underlying) == rows_of(LOG, underlying)


@pytest.mark.parametrize("commit_every", [7, 100, 10_000])
def test_the_log_comes_back(tmp_path: Path, commit_every: int) -> None:
    write(tmp_path, LOG, commit_every)
    assert_same_log(list(read_log(tmp_path)))


def test_files_that_were_written_in_another_order(tmp_path: Path) -> None:
    write(tmp_path, LOG, 50, reverse=True)
    assert_same_log(list(read_log(tmp_path)))


def test_files_that_were_compacted(tmp_path: Path) -> None:
    lake = write(tmp_path, LOG, 20)
    before = len(lake.files(TABLES["book"]))
    DeltaTable(tmp_path / "book").optimize.compact()
    assert len(lake.files(TABLES["book"])) < before
    assert_same_log(list(read_log(tmp_path)))


def test_small_reads_give_the_same_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, LOG, 50)
    found = []
    for rows in (10, 65_536):
        monkeypatch.setattr(raw_reader, "BATCH_ROWS", rows)
        stage = FeatureStage()
        bars = [
            row for batch in read_log(tmp_path) for each in stage.process(batch).rows for row in each.data.to_pylist()
        ]
        found.append(sorted(bars, key=lambda row: (row["instrument"], row["bar_ts"])))
    assert found[0] == found[1] != []


def test_files_are_read_one_after_another(tmp_path: Path) -> None:
    lake = write(tmp_path, LOG, 50)
    with connected(lake) as connection:
        groups = {name: log.groups["book"] for name, log in logs_of(connection, lake).items()}
    assert {name: {len(group) for group in found} for name, found in groups.items()} == {"BTC": {1}, "ETH": {1}}
    assert all(len(found) > 3 for found in groups.values())


def test_one_underlying_from_any_row_on(tmp_path: Path) -> None:
    lake = write(tmp_path, LOG, 50)
    assert rows_of(list(read_log(tmp_path, underlyings=["ETH"])), "ETH") == rows_of(LOG, "ETH")
    assert {batch.underlying for batch in read_log(tmp_path, underlyings=["ETH"])} == {"ETH"}
    with connected(lake, threads=1) as connection:
        log = logs_of(connection, lake)["ETH"]
        whole = list(read_underlying(connection, log))
        assert log.rows == sum(len(each.rows) for each in whole)
        for number in (0, len(whole) // 2, len(whole) - 1):
            offsets, rows = whole[number].offsets, whole[number].rows
            position = (int(offsets[-1]), int(rows[-1]))  # the last row of the piece
            rest = logs_of(connection, lake, {"ETH": position})["ETH"]
            found = [each.batch for each in read_underlying(connection, rest, position)]
            last = whole[number].batch
            expected = [EventBatch(last.kind, "ETH", last.data.slice(len(rows) - 1))]
            expected += [each.batch for each in whole[number + 1 :]]
            assert rows_of(found, "ETH") == rows_of(expected, "ETH")
            assert rest.rows <= log.rows


def test_an_underlying_in_two_partitions_has_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, LOG, 50)
    monkeypatch.setitem(PARTITION, "ETH", 0)
    write(tmp_path, LOG, 50)
    with pytest.raises(LakeError, match="ETH lies in partitions"):
        list(read_log(tmp_path))


def test_no_lake_is_an_error_and_an_empty_one_an_empty_log(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="There is no lake"):
        list(read_log(tmp_path))
    write(tmp_path, [], 1)
    Lake(tmp_path).version(TABLES["book"], "md.events", 0)
    assert list(read_log(tmp_path)) == []
