"""Compaction: the same rows in fewer files, in the order of the log, beside a writer, twice, and killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from written_lake import raw_lake, rows_of, signals_lake, sorted_rows, transaction

from pipeline import topics
from pipeline.lake import Lake, LakeError
from pipeline.lake_compact import APPLICATION, _merge, compact
from pipeline.lake_files import TARGET_BYTES, data_files
from pipeline.lake_plan import plan
from pipeline.raw_reader import read_log
from pipeline.tables import TABLES

BOOK, SIGNALS = TABLES["book"], TABLES["signals"]


def test_the_same_rows_in_a_file_a_date(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    before, log = sorted_rows(lake, BOOK), list(read_log(lake.path))
    done = compact(lake, BOOK)
    assert (done.commits, done.files_after) == (2, 2)
    assert done.bytes_after < done.bytes_before
    assert sorted_rows(lake, BOOK).equals(before)
    assert transaction(lake, BOOK, topics.EVENTS) == 23
    assert pa.Table.from_batches([each.data for each in read_log(lake.path) if each.kind.value == "book"]) == (
        pa.Table.from_batches([each.data for each in log if each.kind.value == "book"])
    )


def test_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    compact(lake, BOOK)
    version = lake.delta(BOOK).version()
    assert compact(lake, BOOK).commits == 0
    assert lake.delta(BOOK).version() == version


def test_raw_files_lie_in_the_order_of_the_log_and_computed_ones_by_key(tmp_path: Path) -> None:
    raw, computed = raw_lake(tmp_path / "raw"), signals_lake(tmp_path / "signals")
    compact(raw, BOOK)
    compact(computed, SIGNALS)
    positions = [pq.read_table(file, columns=["topic_offset"])["topic_offset"].to_pylist() for file in raw.files(BOOK)]
    assert all(each == sorted(each) for each in positions)
    (file,) = computed.files(SIGNALS)
    rows = pq.read_table(file, partitioning=None, columns=["underlying", "bar_ts"]).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["underlying"], row["bar_ts"]))


def test_large_files_begin_where_an_offset_begins_and_carry_statistics(tmp_path: Path) -> None:
    lake, table = Lake(tmp_path / "lake"), TABLES["trades"]
    rng = np.random.default_rng(1)
    for part in range(4):
        pieces = []
        for offset in range(part * 50, part * 50 + 50):
            rows = rows_of(table, offset, 900, partition=offset % 2)
            place = rows.schema.get_field_index("price")
            noise = pa.array(rng.integers(1, 2**60, 900))
            pieces.append(rows.set_column(place, rows.schema.field(place), noise))
        lake.append(table, pa.concat_tables(pieces), {(topics.EVENTS, p): part * 50 + 50 for p in (0, 1)})
    before = sorted_rows(lake, table)
    target = 900_000
    done = compact(lake, table, target)
    files = data_files(lake.delta(table))
    assert done.files_after == len(files) > 1
    assert all(file.size >= target for file in files[:-1])
    assert sorted_rows(lake, table).equals(before)
    seen: set[tuple[int, int]] = set()
    for file in files:
        read = pq.read_table(f"{lake.path}/trades/{file.path}", partitioning=None)
        mine = set(zip(read["topic_partition"].to_pylist(), read["topic_offset"].to_pylist(), strict=True))
        assert not mine & seen
        seen |= mine
    actions = pa.table(lake.delta(table).get_add_actions(flatten=True))
    assert pa.compute.max(actions["max.topic_offset"]).as_py() == 199
    assert pa.compute.sum(actions["num_records"]).as_py() == before.num_rows


def test_floats_keep_their_bits(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    strange = np.array([-0.0, 0.0, np.nan, np.inf, 5e-324, np.nextafter(1, 2)])
    for offset, value in enumerate(strange):
        rows = rows_of(SIGNALS, offset, 1)
        place = rows.schema.get_field_index("mid")
        rows = rows.set_column(place, rows.schema.field(place), pa.array([value]))
        lake.append(SIGNALS, rows, {(topics.SIGNALS, 0): offset + 1})
    compact(lake, SIGNALS)
    found = sorted_rows(lake, SIGNALS)["mid"].to_numpy()
    assert found.view(np.int64).tolist() == strange.view(np.int64).tolist()


def test_rows_older_than_a_column_have_nulls_there(tmp_path: Path) -> None:
    import dataclasses

    lake = signals_lake(tmp_path / "lake", 3)
    wider = dataclasses.replace(SIGNALS, columns=SIGNALS.columns.append(pa.field("mine", pa.float64())))
    lake.append(wider, rows_of(wider, 6, 1), {(topics.SIGNALS, 0): 7})
    assert compact(lake, wider).files_after == 1
    assert lake.dataset(wider).to_table()["mine"].null_count == 6


def test_a_second_compaction_from_the_same_snapshot_is_refused(tmp_path: Path) -> None:
    """Both would keep a copy of the rows."""
    lake = raw_lake(tmp_path / "lake")
    stale = lake.delta(BOOK)
    bins = plan(data_files(stale), TARGET_BYTES)
    before = sorted_rows(lake, BOOK)
    compact(lake, BOOK)
    with pytest.raises(LakeError, match="Another compaction"):
        _merge(lake, BOOK, stale, bins[0], TARGET_BYTES)
    assert sorted_rows(lake, BOOK).equals(before)


def test_appends_before_during_and_after(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    snapshot = lake.delta(BOOK)
    writer = Lake(tmp_path / "lake")
    writer.version(BOOK, topics.EVENTS, 0)
    writer.append(BOOK, rows_of(BOOK, 24), {(topics.EVENTS, 0): 25})
    _merge(lake, BOOK, snapshot, plan(data_files(snapshot), TARGET_BYTES)[0], TARGET_BYTES)
    writer.append(BOOK, rows_of(BOOK, 25), {(topics.EVENTS, 0): 26})
    offsets = sorted_rows(lake, BOOK)["topic_offset"].to_pylist()
    assert offsets == [o for o in range(26) for _ in range(3) if (o % 4 != 3 and o != 5) or o > 23]
    assert transaction(lake, BOOK, topics.EVENTS) == 26


def test_a_file_that_lost_rows_is_not_compacted(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    file = lake.files(BOOK)[0]
    pq.write_table(pq.read_table(file, partitioning=None).slice(1), file)
    version = lake.delta(BOOK).version()
    with pytest.raises(LakeError, match="rows, their log says"):
        compact(lake, BOOK)
    assert lake.delta(BOOK).version() == version or compact(lake, TABLES["trades"]).commits == 2


_VICTIM = """
import sys
from pipeline.lake import Lake
from pipeline.lake_compact import compact
from pipeline.tables import TABLES
print("ready", flush=True)
sys.stdin.readline()
compact(Lake(sys.argv[1]), TABLES["book"])
"""


def test_killed_at_any_moment_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake", 40)
    before = sorted_rows(lake, BOOK)
    for wait_s in (0.0, 0.03, 0.08):
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(lake.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        assert victim.stdin is not None
        victim.stdout.readline()
        victim.stdin.write("\n")
        victim.stdin.flush()
        time.sleep(wait_s)
        victim.kill()
        victim.communicate()
        assert sorted_rows(lake, BOOK).equals(before)
    compact(lake, BOOK)
    assert sorted_rows(lake, BOOK).equals(before)
    assert lake.delta(BOOK).transaction_version(APPLICATION) >= 1


def test_an_unwritten_table_is_left_alone(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake", 4)
    assert compact(lake, TABLES["fills"]).commits == 0
    assert not (tmp_path / "lake" / "fills").exists()
