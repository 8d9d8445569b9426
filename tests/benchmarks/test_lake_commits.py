"""The commit benchmark measures what it says: rows and offsets are checked inside, the figures by hand here."""

from __future__ import annotations

from pathlib import Path

from benchmarks import lake_commits


def test_a_few_commits_with_a_compaction(tmp_path: Path) -> None:
    found = lake_commits.measure(tmp_path, 4, lake_commits.prepared, 2)
    assert found["first_median_ms"] > 0
    assert found["maintenance_s"] > 0


def test_the_figures() -> None:
    found = lake_commits.figures([1.0, 1.0, 3.0, 3.0], [0.001, 1.001, 2.001, 3.001])
    assert (found["first_median_ms"], found["last_median_ms"], found["cpu_slope_us_per_commit"]) == (1.0, 3.0, 1000.0)
