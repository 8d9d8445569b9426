"""The views of a lake: one snapshot each, at any time; columns from Delta; comments; stores that DuckDB cannot read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest
from tiny_lake import NAME, START, append_rows, bar, instrument, trade

from features.catalog import Catalogue
from features.errors import BadInputError
from features.feature import Feature
from features.user_feature import UserFeature
from pipeline.lake import Lake, LakeError
from pipeline.query import open_lake
from pipeline.query_views import dataset_of
from pipeline.tables import TABLES, tables_of

OWN = UserFeature(Feature("own", "USD", "twice the mid", "mid is null", ("mid",), "test"), lambda inputs, state: 0.0)


def count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


class Grown(NamedTuple):
    """A lake, and the times after each of its commits, ns."""

    path: Path
    times: list[int]


@pytest.fixture(scope="module")
def growth(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """Three commits of features, then trades."""
    grown = Grown(tmp_path_factory.mktemp("grown"), [])
    for second in range(3):
        append_rows(grown.path, "features", [bar(second, 100.0 + second)])
        grown.times.append(time.time_ns())
        time.sleep(0.02)
    append_rows(grown.path, "trades", [trade(0.5, 1_000), trade(0.7, 1_001)])
    return grown


@pytest.fixture
def grown(growth: Grown) -> Path:
    return growth.path


def test_every_table_is_a_view_and_one_without_rows_is_empty(grown: Path) -> None:
    with open_lake(grown) as lake:
        assert {name: count(lake, name) for name in TABLES} == dict.fromkeys(TABLES, 0) | {"features": 3, "trades": 2}
        for name, table in TABLES.items():
            assert lake.execute(f"SELECT * FROM {name} LIMIT 0").description is not None
            assert {column[0] for column in lake.description} == set(table.schema.names)
        types = dict(
            lake.execute("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'fills'").fetchall()
        )
    assert types["quantity"] == "DOUBLE"
    assert types["date"] == "DATE"


def test_a_time_shows_what_was_committed_by_then(growth: Grown) -> None:
    for rows, at in enumerate(growth.times, 1):
        with open_lake(growth.path, as_of=at) as lake:
            assert (count(lake, "features"), count(lake, "trades")) == (rows, 0)
    when = datetime.fromtimestamp(growth.times[1] / 1e9, UTC)
    for as_of in (when, when.replace(tzinfo=None), when.isoformat(), str(growth.times[1])):
        with open_lake(growth.path, as_of=as_of) as lake:
            assert lake.execute("SELECT max(mid) FROM features").fetchall() == [(101.0,)]
    for as_of, rows in (("2020-01-01", 0), ("2999-01-01T00:00:00+01:00", 3)):
        with open_lake(growth.path, as_of=as_of) as lake:
            assert count(lake, "features") == rows


def test_versions_by_table(grown: Path) -> None:
    with open_lake(grown, as_of={"features": 2}) as lake:
        assert (count(lake, "features"), count(lake, "trades")) == (2, 2)
    with pytest.raises(LakeError, match="no version 99"):
        open_lake(grown, as_of={"features": 99})
    with pytest.raises(BadInputError, match="There is no table 'feature'"):
        open_lake(grown, as_of={"feature": 1})


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", 10**30])
def test_no_time_says_how_to_write_one(grown: Path, text: str | int) -> None:
    with pytest.raises(BadInputError, match=r"is no time\. Such as 2026-"):
        open_lake(grown, as_of=text)


def test_the_views_do_not_move_with_the_lake(tmp_path: Path) -> None:
    append_rows(tmp_path, "features", [bar(0, 100.0)])
    with open_lake(tmp_path) as lake:
        append_rows(tmp_path, "features", [bar(1, 101.0)])
        assert count(lake, "features") == 1
    with open_lake(tmp_path) as lake:
        assert count(lake, "features") == 2


def test_a_column_that_came_later_is_null_before(tmp_path: Path) -> None:
    append_rows(tmp_path, "features", [bar(0, 100.0)])
    append_rows(tmp_path, "features", [bar(1, 101.0, own=202.0)], Catalogue((OWN,)))
    with open_lake(tmp_path) as lake:
        assert lake.execute("SELECT own FROM features ORDER BY bar_ts").fetchall() == [(None,), (202.0,)]
        assert lake.execute("SELECT count(*) FROM features WHERE date = '2026-01-05'").fetchall() == [(2,)]
    with open_lake(tmp_path, as_of={"features": 1}) as lake, pytest.raises(duckdb.BinderException, match="own"):
        lake.execute("SELECT own FROM features")


def test_a_condition_on_the_date_leaves_files_unread(tmp_path: Path) -> None:
    append_rows(tmp_path, "features", [bar(0, 100.0)])
    append_rows(tmp_path, "features", [bar(86_400, 101.0)])
    (first,) = (tmp_path / "features").glob("date=2026-01-05/*.parquet")
    first.write_bytes(b"whoever reads this fails")
    with open_lake(tmp_path) as lake:
        assert lake.execute("SELECT mid FROM features WHERE date > '2026-01-05'").fetchall() == [(101.0,)]
        assert lake.execute("SELECT mid FROM features WHERE date = DATE '2026-01-06'").fetchall() == [(101.0,)]


def test_names_with_quotes_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "it's a lake"
    append_rows(path, "features", [bar(0, 100.0)])
    with open_lake(path) as lake:
        assert count(lake, "features") == 1


def test_every_column_says_what_it_means(grown: Path) -> None:
    with open_lake(grown) as lake:
        silent = lake.execute(
            "SELECT table_name, column_name FROM duckdb_columns() "
            "WHERE NOT internal AND schema_name = 'main' AND comment IS NULL"
        ).fetchall()
        said = dict(
            lake.execute("SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'features'").fetchall()
        )
        views = dict(lake.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall())
        macros = lake.execute(
            "SELECT count(*) FROM duckdb_functions() WHERE NOT internal AND comment IS NULL"
        ).fetchall()
    assert silent == []
    assert macros == [(0,)]
    assert said["spread_bps"].startswith("[basis points of mid] 1e4 (a_1 - b_1) / m; null when the book is invalid")
    assert said["ts_known"].startswith("[ns since 1970, UTC] when all of the row was known")
    assert views["features"] == TABLES["features"].doc


def test_own_features_say_what_they_mean(tmp_path: Path) -> None:
    catalogue = Catalogue((OWN,))
    append_rows(tmp_path, "features", [bar(1, 101.0, own=202.0)], catalogue)
    said = "SELECT DISTINCT comment FROM duckdb_columns() WHERE schema_name = 'main' AND column_name = 'own'"
    with open_lake(tmp_path, catalogue=catalogue) as lake:
        assert lake.execute(said).fetchall() == [("[USD] twice the mid; null when mid is null",)]
    with open_lake(tmp_path) as lake:
        assert lake.execute(f"{said} AND table_name = 'features'").fetchall() == [(None,)]


def test_a_store_of_objects_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a URL, over the same files: pyarrow reads, with the date as a condition on files."""
    append_rows(tmp_path, "instruments", [instrument()])
    append_rows(tmp_path, "features", [bar(0, 100.0)])
    append_rows(tmp_path, "features", [bar(86_400, 101.0, own=1.0)], Catalogue((OWN,)))
    ask = "SELECT bar_ts, mid, own, date FROM features WHERE date >= '2026-01-06' OR mid = 100 ORDER BY bar_ts"
    with open_lake(tmp_path) as lake:
        expected = lake.execute(ask).fetchall()
    monkeypatch.setattr(type(Lake(tmp_path).path), "remote", True)
    with open_lake(tmp_path) as lake:
        assert lake.execute(ask).fetchall() == expected
        assert len(expected) == 2
        assert lake.execute("SELECT mid FROM quote_at(?, ?)", [NAME, START + 10**10]).fetchall() == [(100.0,)]
    dataset = dataset_of(Lake(tmp_path).delta(tables_of(Catalogue((OWN,)))["features"]))
    import pyarrow.compute as pc

    day = pc.field("date") == datetime(2026, 1, 6, tzinfo=UTC).date()
    assert len(list(dataset.get_fragments(filter=day))) == 1


def test_there_is_no_lake(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="There is no lake"):
        open_lake(tmp_path)
