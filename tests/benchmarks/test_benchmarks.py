"""Every benchmark in its shortest form: its results are right, and what it prints last is one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import backfill_bounded, book, edge, peers
from benchmarks.book_deltas import BookDeltas, simulated_deltas
from benchmarks.feature_files import read_files, write_files
from benchmarks.features import check, together
from benchmarks.recorded_like import Base, base_log
from features.book import replay_l2
from features.events import LAST, SNAPSHOT, Kind

pytestmark = pytest.mark.xdist_group("benchmarks")  # they measure: not beside each other


@pytest.fixture(scope="module")
def deltas() -> BookDeltas:
    return simulated_deltas(4_000)


@pytest.fixture(scope="module")
def base() -> Base:
    return base_log(None, 3, one_underlying="U")


def best_by_dictionary(deltas: BookDeltas) -> list[tuple[int, int, int, int]]:
    """The slow and obvious book."""
    books: list[dict[int, dict[int, int]]] = [{1: {}, -1: {}} for _ in deltas.names]
    found = []
    for slot, clear, side, price, size in zip(*(column.tolist() for column in deltas[3:]), strict=True):
        if clear:
            books[slot] = {1: {}, -1: {}}
        if size:
            books[slot][side][price] = size
        else:
            books[slot][side].pop(price, None)
        bids, asks = books[slot][1], books[slot][-1]
        bid, ask = max(bids, default=-1), min(asks, default=-1)
        found.append((bid, bids.get(bid, -1), ask, asks.get(ask, -1)))
    return found


def test_best_after_every_delta_is_that_of_a_dictionary(deltas: BookDeltas) -> None:
    for best, _ in (book.by_kernel(deltas), book.by_replay(deltas)):
        assert [tuple(row) for row in best().tolist()] == best_by_dictionary(deltas)


def test_both_ways_give_the_same_imbalance(deltas: BookDeltas) -> None:
    kernel, replay = (ways(deltas)[1]() for ways in (book.by_kernel, book.by_replay))
    np.testing.assert_array_equal(kernel, replay)
    assert len(np.unique(kernel)) > 100
    assert (np.abs(kernel) <= 1).all()


def test_every_delta_is_an_event_and_snapshots_clear(deltas: BookDeltas) -> None:
    *_, flags = deltas.columns()
    assert ((flags & LAST) != 0).all()
    np.testing.assert_array_equal((flags & SNAPSHOT) != 0, deltas.clear)
    assert deltas.clear.sum() >= len(deltas.names)


def test_deltas_come_back_from_their_file(deltas: BookDeltas, tmp_path: Path) -> None:
    deltas.save(tmp_path / "deltas.npz")
    for one, other in zip(deltas, BookDeltas.load(tmp_path / "deltas.npz"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_book_without_the_peer_has_no_ratio(
    deltas: BookDeltas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENT", tmp_path / "absent")
    data = tmp_path / "deltas.npz"
    deltas.save(data)
    assert not book.check(data, tmp_path)
    result = book.compare(data, 1)
    for measured in book.MEASURES:
        assert result[measured]["peer"] is None
        assert result[measured]["kernel_ratio"] is None
        assert result[measured]["kernel"]["median"] > 0


def test_repetitions_continue_each_other(base: Base) -> None:
    batches = [batch for number in range(3) for batch in base.repetition(number, 2, rename=True)]
    books = [batch for batch in batches if batch.kind is Kind.BOOK]
    frame = replay_l2(books)
    assert frame["valid"].all()
    assert frame["instrument"].n_unique() == 2
    assert frame["instrument"].str.ends_with(".2").all()
    for name in frame["instrument"].unique():
        assert frame.filter(instrument=name)["ts_event"].is_sorted()
    stream = np.concatenate([batch.data.column(1).to_numpy() + batch.data.column(4).to_numpy() for batch in batches])
    assert (np.diff(stream) >= 0).all()
    seconds = np.unique(stream // 10**9)
    assert (np.diff(seconds) == 1).all(), "no bar is missing"
    assert sum(batch.kind is Kind.INSTRUMENT for batch in batches) == 2


def test_files_hold_the_log(base: Base, tmp_path: Path) -> None:
    write_files(tmp_path, base, 1, 2)
    written = [batch for number in range(2) for batch in base.repetition(number, 0, rename=True)]
    read = list(read_files(tmp_path, 0, 2))
    rows = [(batch.kind, row) for batch in written for row in batch.data.to_pylist()]
    assert [(batch.kind, row) for batch in read for row in batch.data.to_pylist()] == rows


def test_features_in_two_processes(base: Base, tmp_path: Path) -> None:
    write_files(tmp_path, base, 2, 1)
    assert check(tmp_path, 300) > 0
    found = together(tmp_path, 2, 1)
    assert found["events"] == 2 * base.rows
    assert found["feature_rows"] > 0
    assert all(each > 0 for each in found["peak_rss_mb"])


def test_backfill_reads_every_row(tmp_path: Path) -> None:
    base = base_log(None, 3)
    lake = backfill_bounded.LogLake(tmp_path / "raw", base)
    lake.extend(base.rows + 1)
    assert lake.rows < 2 * base.rows, "instruments are introduced once"
    source, target = tmp_path / "raw", tmp_path / "computed"
    found = backfill_bounded.backfill_once(source, target, backfill_bounded.reference_of(base), 1)
    backfill_bounded.check(found, lake.rows, target)
    assert found["rows"]["features"] == found["rows"]["universe"] >= 12, "two underlyings, six seconds and more"
    with pytest.raises(AssertionError, match="were written"):
        backfill_bounded.check(found, lake.rows + 1, target)


def test_costs_of_a_batch_are_measured_once_it_is_right() -> None:
    for rows in edge.ROWS:
        assert all(each > 0 for each in edge.event_costs(rows, 0.0001).values())
    assert set(edge.feature_costs(4, 0.0001)) == {"feature_rows", "encode", "decode_rows"}
    rows = edge.book_batch(3)
    with pytest.raises(AssertionError):
        edge.check_events(edge.book_columns(4), rows, [rows])


def test_the_last_line_is_one_json_object() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulated", "--one", "0.1"],
        cwd=peers.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1])["events_per_s"] > 0
