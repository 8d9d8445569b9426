"""The book's kernel by itself, under price paths that a market would hardly make."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import LAST, SNAPSHOT
from pipeline.sources import simulated_book as book
from pipeline.sources import simulated_tape as tape

TICK_NS = 100_000_000
START = 1_767_571_200 * 1_000_000_000
LOT = np.array([2_000.0, 80.0])
# A row a regime; columns as simulated_book names them.
QUIET = np.array([0.3e-4, 0.4e-4, 1.0, 90.0, 8.0, 0.3, 1.0])
BUSY = np.array([0.9e-4, 0.6e-4, 0.6, 150.0, 25.0, 0.7, 1.5])
FROZEN = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])


class Run(NamedTuple):
    books: np.ndarray
    trades: np.ndarray
    book_end: np.ndarray
    trade_end: np.ndarray
    first: np.ndarray


def _run(fair: np.ndarray, regime: np.ndarray, levels: int = 10, seed: int = 0, volatility: float = 0.5) -> Run:
    """Whole seconds of ten ticks; the first row of ``fair`` is the price at the start."""
    rng = np.random.Generator(np.random.PCG64(seed))
    state = tape.empty_book(levels, float(fair[0]))
    ticks = len(fair) - 1
    written = tape.empty_tape(levels, ticks)
    book.open_book(rng, state, written, START, regime, LOT, levels)
    first = written.book[: written.written[0]].copy()
    book_end, trade_end = np.empty(ticks, np.int64), np.empty(ticks, np.int64)
    book.trade_and_quote(
        rng, state, written, book_end, trade_end, np.stack([regime] * 3), LOT, fair[1:].astype(float),
        np.full(ticks, volatility), np.zeros(ticks // 10, np.int64), START, TICK_NS, 0, 10_000, levels,
        np.array([1_000_000]), np.empty((ticks // 10, 1), np.int64),
    )  # fmt: skip
    return Run(written.book[: book_end[-1]], written.trade[: trade_end[-1]], book_end, trade_end, first)


def _replayed(run: Run) -> list[tuple[dict[int, int], dict[int, int]]]:
    """Bids and asks after every event, by plain dicts."""
    sides: dict[int, dict[int, int]] = {1: {}, -1: {}}
    after = []
    for rows in (run.first, *np.split(run.books, run.book_end[:-1])):
        for row in _rows(rows):
            if row["size"]:
                sides[row["side"]][row["price"]] = row["size"]
            else:
                del sides[row["side"]][row["price"]]
        after.append((dict(sides[1]), dict(sides[-1])))
    return after


def _rows(rows: np.ndarray) -> list[dict[str, Any]]:
    return [dict(zip(tape.BOOK_COLUMNS, row, strict=True)) for row in rows.tolist()]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_price_path_keeps_the_book_whole(data: st.DataObject) -> None:
    steps = data.draw(
        st.lists(st.sampled_from([0.0, 1e-6, -1e-6, 3e-4, -3e-4, 0.02, -0.02, 0.5, -0.4]), min_size=20, max_size=20)
    )
    price = data.draw(st.sampled_from([2_000.0, 600_000.0, 12_345.678]))
    levels = data.draw(st.sampled_from([5, 10, 50]))
    fair = price * np.exp(np.concatenate([[0.0], np.cumsum(steps)]))
    run = _run(fair, BUSY if data.draw(st.booleans()) else QUIET, levels, seed=data.draw(st.integers(0, 9)))
    for (bids, asks), now in zip(_replayed(run), fair, strict=True):
        assert len(bids) == len(asks) == levels
        assert max(bids) < min(asks)
        assert max(bids) <= now <= min(asks)
        assert min([*bids.values(), *asks.values()]) > 0


def test_a_market_that_stands_still_still_has_its_events() -> None:
    run = _run(np.full(21, 500.5), FROZEN)
    assert np.diff(run.book_end, prepend=0).tolist() == [1] * 20
    assert len(run.trades) == 0
    assert (run.books[:, 7] == LAST).all()


def test_the_first_event_is_a_snapshot_best_levels_first() -> None:
    rows = _rows(_run(np.full(11, 600_000.0), QUIET).first)
    bids = [row["price"] for row in rows if row["side"] == 1]
    asks = [row["price"] for row in rows if row["side"] == -1]
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert all(row["flags"] & SNAPSHOT for row in rows)
    assert [bool(row["flags"] & LAST) for row in rows] == [False] * 19 + [True]


def test_the_update_id_counts_changes() -> None:
    run = _run(600_000.0 * np.exp(np.linspace(0.0, 1e-3, 31)), QUIET)
    for rows in np.split(run.books, run.book_end[:-1]):
        assert (rows[:, 3] - rows[:, 2] == len(rows)).all()
    assert run.books[0, 2] == run.first[0, 3]


def test_takers_follow_the_price_and_cluster_when_it_is_busy() -> None:
    rng = np.random.default_rng(0)
    moves = rng.standard_normal(20_000) * 0.5 * np.sqrt(0.1 / book.YEAR_S)
    fair = 600_000.0 * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
    dispersion = []
    for regime in (QUIET, BUSY):
        run = _run(fair, regime)
        counts = np.diff(run.trade_end, prepend=0)
        assert counts.mean() * 10 == pytest.approx(regime[book.TRADES_PER_S], rel=0.1)
        per_second = counts.reshape(-1, 10).sum(axis=1)
        dispersion.append(per_second.var() / per_second.mean())
        of_tick = np.repeat(np.arange(20_000), counts)
        flow = np.bincount(of_tick, weights=run.trades[:, 5], minlength=20_000)
        assert np.corrcoef(flow, moves)[0, 1] > 0.3
    assert dispersion[0] > 1.1, "more than Poisson"
    assert dispersion[1] > 1.5 * dispersion[0]
