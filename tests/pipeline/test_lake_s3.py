"""A lake at an S3 URL, against a server that speaks the protocol: the same promises as on a disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from object_store import needs_object_store
from written_lake import rows_of

from pipeline import topics
from pipeline.lake import Lake, LakeError, LakeUnavailableError, NoSuchVersionError
from pipeline.lake_compact import compact
from pipeline.lake_describe import describe
from pipeline.lake_location import LakeLocation
from pipeline.lake_vacuum import vacuum
from pipeline.lake_verify import verify
from pipeline.query import open_lake
from pipeline.tables import TABLES

pytestmark = needs_object_store

TRADES = TABLES["trades"]


def test_append_read_compact_and_verify(store: LakeLocation) -> None:
    place = store / "one"
    lake = Lake(place)
    for offset in range(6):
        lake.append(TRADES, rows_of(TRADES, offset), {(topics.EVENTS, 0): offset + 1})
    assert lake.files(TRADES)[0].startswith("s3://lakes/live/one/trades/date=")
    assert compact(lake, TRADES).files_after == 1
    assert lake.dataset(TRADES).to_table()["topic_offset"].to_pylist() == [o for o in range(6) for _ in range(3)]
    assert Lake(place).version(TRADES, topics.EVENTS, 0) == 6
    assert lake.delta(TRADES, 3).count() == 9
    assert lake.dataset(TRADES, datetime.now(UTC) + timedelta(seconds=5)).count_rows() == 18
    with pytest.raises(NoSuchVersionError):
        lake.delta(TRADES, datetime.now(UTC) - timedelta(days=1))
    assert verify(lake, TABLES, full=True) == []
    (state,) = describe(lake, TABLES)
    assert (state.rows, state.files, state.offsets) == (18, 1, {"md.events/0": 6})
    assert len(vacuum(lake, TRADES, 0, delete=True, force=True)) == 6
    assert Lake(place).dataset(TRADES).count_rows() == 18


def test_a_second_writer_of_the_same_partition_fails(store: LakeLocation) -> None:
    first, second = Lake(store / "two"), Lake(store / "two")
    assert first.version(TRADES, topics.EVENTS, 0) == second.version(TRADES, topics.EVENTS, 0) == 0
    first.append(TRADES, rows_of(TRADES, 0), {(topics.EVENTS, 0): 1})
    with pytest.raises(LakeError, match="Another writer"):
        second.append(TRADES, rows_of(TRADES, 0), {(topics.EVENTS, 0): 1})
    assert first.delta(TRADES).count() == 3


def test_commits_at_the_same_time_are_ordered_by_conditional_puts(store: LakeLocation) -> None:
    Lake(store / "three").version(TRADES, topics.EVENTS, 0)

    def write(partition: int) -> None:
        lake = Lake(store / "three")
        for offset in range(5):
            rows = rows_of(TRADES, offset, partition=partition)
            lake.append(TRADES, rows, {(topics.EVENTS, partition): offset + 1})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    found = Lake(store / "three").dataset(TRADES).to_table(["topic_partition", "topic_offset", "topic_row"]).to_pylist()
    assert len({tuple(row.values()) for row in found}) == len(found) == 3 * 5 * 3


def test_a_store_that_does_not_answer_passes(store: LakeLocation) -> None:
    options = {**store.storage_options, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "max_retries": "0"}
    lake = Lake("s3://lakes/gone", {**options, "retry_timeout": "1s"})
    with pytest.raises(LakeUnavailableError) as caught:
        lake.append(TRADES, rows_of(TRADES, 0), {(topics.EVENTS, 0): 1})
    assert "test" not in str(caught.value).replace("latest", "")


def test_views_read_it_without_a_download(store: LakeLocation) -> None:
    place = store / "viewed"
    lake = Lake(place)
    for offset in range(3):
        lake.append(TRADES, rows_of(TRADES, offset), {(topics.EVENTS, 0): offset + 1})
    with open_lake(place) as connection, open_lake(place, as_of={"trades": 1}) as before:
        for snapshot, rows in ((connection, 9), (before, 3)):
            assert snapshot.sql("SELECT count(*) FROM trades WHERE date >= '1970-01-01'").fetchall() == [(rows,)]
        assert connection.sql("SELECT count(*) FROM trades WHERE date > '2999-01-01'").fetchall() == [(0,)]
        assert connection.sql("SELECT count(*) FROM features_at('2026-01-05')").fetchall() == [(0,)]
