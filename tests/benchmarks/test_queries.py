"""The benchmark of queries in its shortest form: both sides answer the same, and it says so if they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from benchmarks import peers, queries
from benchmarks.query_set import QUERIES

pytestmark = pytest.mark.xdist_group("benchmarks")  # they measure: not beside each other


def test_both_sides_answer_every_query(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.queries", "--rows", "40000", "--files", "20", "--work", str(tmp_path)],
        cwd=peers.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == 40_000
    assert found["queries"].keys() == QUERIES.keys()
    assert len(QUERIES) == 10
    assert found["ratio"] > 0
    assert found["opening"]["files_a_table"] == 20
    assert list(tmp_path.iterdir()) == []


def test_days_are_made_again_to_the_bit() -> None:
    first, again = queries.day_table(1, 2_000), queries.day_table(1, 2_000)
    assert first.equals(again)
    assert not first.equals(queries.day_table(2, 2_000))
    assert set(first["date"].to_pylist()) == {"2026-01-06"}


def test_answers_that_differ_are_no_result(tmp_path: Path) -> None:
    sides = [("lake", lambda: duckdb.connect(config={"threads": 1})), ("plain", duckdb.connect)]
    with pytest.raises(AssertionError):
        queries.measure(tmp_path, "SELECT current_setting('threads') AS threads, random() AS other", sides)
