"""Verification finds each kind of damage in a real lake, and nothing in a whole one."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pyarrow as pa
import pytest
from written_lake import DAY, START, raw_lake, rows_of, signals_lake

from pipeline import topics
from pipeline.lake import Lake
from pipeline.lake_compact import compact
from pipeline.lake_verify import Finding, verify
from pipeline.tables import TABLES

BOOK, SIGNALS = TABLES["book"], TABLES["signals"]


def found(lake: Lake, **options: object) -> list[tuple[str, str]]:
    return [(each.table, each.check) for each in verify(lake, TABLES, **options)]  # type: ignore[arg-type]


def test_a_whole_lake(tmp_path: Path) -> None:
    for lake in (raw_lake(tmp_path / "raw"), signals_lake(tmp_path / "signals")):
        assert verify(lake, TABLES, full=True) == []
        for table in (BOOK, SIGNALS):
            compact(lake, table)
        assert verify(lake, TABLES, full=True) == []


def test_a_missing_a_cut_and_an_overwritten_file(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    missing, cut, overwritten, other = (Path(file) for file in lake.files(BOOK)[:4])
    missing.unlink()
    os.truncate(cut, 100)
    overwritten.write_bytes(b"x" * overwritten.stat().st_size)
    body = bytearray(other.read_bytes())
    body[60:200] = os.urandom(140)
    other.write_bytes(bytes(body))
    checks = [check for _, check in found(lake, full=True)]
    assert sorted(checks) == ["file missing", "file size", "file unreadable", "file unreadable"]
    details = "\n".join(each.detail for each in verify(lake, TABLES))
    assert missing.name in details
    assert cut.name in details


def test_a_damaged_log(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake", 8)
    entry = sorted((tmp_path / "lake" / "book" / "_delta_log").glob("*.json"))[2]
    entry.write_text("{nonsense")
    assert ("book", "log") in found(Lake(lake.path))


def test_rows_twice(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    lake.append(BOOK, rows_of(BOOK, 4), {})
    assert found(lake) == [("book", "duplicate rows")]


def test_rows_of_another_day(tmp_path: Path) -> None:
    lake = signals_lake(tmp_path / "lake")
    rows = rows_of(SIGNALS, 24, 1)
    wrong = rows.set_column(rows.schema.get_field_index("date"), "date", pa.array(["2020-01-01"]))
    lake.append(SIGNALS, wrong, {(topics.SIGNALS, 0): 25})
    assert found(lake) == [("signals", "date")]


def test_a_bar_that_is_not_beyond_the_one_before(tmp_path: Path) -> None:
    lake = signals_lake(tmp_path / "lake")
    lake.append(SIGNALS, rows_of(SIGNALS, 24, 1, time=START + 3 * 10**9), {(topics.SIGNALS, 0): 25})
    (finding,) = verify(lake, TABLES)
    assert (finding.table, finding.check) == ("signals", "order")
    assert finding.detail.startswith("1 rows of BTC")


def test_keys_twice_in_a_backfilled_lake(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for _ in range(2):
        lake.append(SIGNALS, rows_of(SIGNALS, 0, 3), {})
    assert found(lake) == [("signals", "duplicate keys")]


def test_messages_that_are_nowhere(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    lake.append(
        BOOK, rows_of(BOOK, 30, time=START + DAY + 30 * 10**9), {(topics.EVENTS, 0): 31, ("md.events/from", 0): 27}
    )
    (finding,) = verify(lake, TABLES)
    expected = "3 messages of partition 0, offsets 24 to 26, are in no table and no dead letter"
    assert finding == Finding("md.events", "offsets", expected)


def test_what_lies_beyond_the_newest_commits_begin_is_not_missed_yet(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    lake.append(
        BOOK, rows_of(BOOK, 30, time=START + DAY + 30 * 10**9), {(topics.EVENTS, 0): 31, ("md.events/from", 0): 24}
    )
    assert found(lake) == []


def test_rows_beyond_what_the_commits_say(tmp_path: Path) -> None:
    lake = signals_lake(tmp_path / "lake")
    lake.append(SIGNALS, rows_of(SIGNALS, 99, 1), {})
    assert found(lake) == [("signals", "offsets")]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((0, 24), []),
        ((20, 30), []),
        ((0, 10), ["log", "log"]),
    ],
)
def test_against_the_topics(tmp_path: Path, held: tuple[int, int], expected: list[str]) -> None:
    lake = raw_lake(tmp_path / "lake")
    assert [check for _, check in found(lake, topic_offsets={(topics.EVENTS, 0): held})] == expected


def test_what_the_topic_holds_before_the_lakes_first_row_is_missing(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for offset in (7, 8, 9):
        named = {(topics.EVENTS, 0): offset + 1, (f"{topics.EVENTS}/from", 0): offset}
        lake.append(BOOK, rows_of(BOOK, offset), named)
    assert found(lake) == []
    assert found(lake, topic_offsets={(topics.EVENTS, 0): (5, 10)}) == [("md.events", "offsets")]


def test_some_tables_only(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    only = {"trades": dataclasses.replace(TABLES["trades"])}
    assert verify(lake, only) == []
