from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from features.book_side import MAX_LEVELS
from features.events import LAST, SNAPSHOT
from pipeline.sources import venue_book
from pipeline.sources.base import UnusableError
from pipeline.sources.venue_book import BookEvent, VenueBook


def levels(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def diff(prev: int, last: int, bids: np.ndarray | None = None, at: int = 0) -> BookEvent:
    return BookEvent(at, at + 5, prev, last, levels() if bids is None else bids, levels(), False)


def snapshot(last: int, at: int = 0) -> BookEvent:
    return BookEvent(at, at + 5, last, last, levels((10, 1), (9, 2)), levels((11, 3)), True)


def ids(events: list[BookEvent]) -> list[tuple[int, int, bool]]:
    return [(event.prev_id, event.update_id, event.is_snapshot) for event in events]


def test_diffs_before_the_snapshot_follow_it_and_are_available_when_it_is() -> None:
    book = VenueBook(10**12, Counter())
    for event in (diff(0, 3, at=1), diff(3, 6, at=2), diff(6, 9, at=3)):
        assert book.diff(event) == []
    events = book.snapshot(snapshot(5, at=100))
    assert ids(events) == [(5, 5, True), (3, 6, False), (6, 9, False)]
    assert [event.ts_recv for event in events] == [105, 105, 105]
    assert [event.ts_event for event in events] == [100, 2, 3]
    assert book.held == 0


def test_after_a_gap_only_the_break_is_let_through_until_a_snapshot_bridges_it() -> None:
    counts: Counter[str] = Counter()
    book = VenueBook(0, counts)
    book.snapshot(snapshot(5))
    assert ids(book.diff(diff(8, 9))) == [(8, 9, False)]
    assert book.diff(diff(9, 12)) == []
    with pytest.raises(UnusableError, match="snapshot_too_old"):
        book.snapshot(snapshot(7))
    assert ids(book.snapshot(snapshot(10))) == [(10, 10, True), (9, 12, False), (12, 12, True)]
    assert counts == {"gap": 1}


def test_a_gap_among_the_held_is_seen_too() -> None:
    book = VenueBook(10**12, Counter())
    book.diff(diff(4, 6))
    book.diff(diff(8, 9))
    assert ids(book.snapshot(snapshot(5))) == [(5, 5, True), (4, 6, False), (8, 9, False)]
    assert book.held == 1


def test_stale_messages_are_left_out_and_counted() -> None:
    counts: Counter[str] = Counter()
    book = VenueBook(10**12, counts)
    book.snapshot(snapshot(5))
    assert book.diff(diff(3, 5)) == []
    assert book.snapshot(snapshot(5)) == []
    assert counts == {"stale_diff": 1, "snapshot_behind": 1}
    assert ids(book.snapshot(snapshot(8))) == [(8, 8, True)]
    assert ids(book.diff(diff(6, 9))) == [(6, 9, False)]


def test_the_whole_book_is_sent_again_by_event_time() -> None:
    book = VenueBook(100, Counter())
    book.snapshot(snapshot(5, at=1_000))
    assert len(book.diff(diff(5, 6, levels((10, 0), (8, 4)), at=1_099))) == 1
    again = book.diff(diff(6, 7, levels((7, 1)), at=1_100))[1]
    assert (again.prev_id, again.update_id, again.is_snapshot, again.ts_recv) == (7, 7, True, 1_105)
    assert again.bids.tolist() == [[9, 2], [8, 4], [7, 1]]
    assert again.asks.tolist() == [[11, 3]]
    assert len(book.diff(diff(7, 8, at=1_199))) == 1
    assert len(book.diff(diff(8, 9, at=1_200))) == 2


def test_a_snapshot_fits_into_a_readers_book() -> None:
    book = VenueBook(0, Counter())
    book.snapshot(snapshot(5))
    many = np.column_stack([np.arange(20, 20 + 2 * MAX_LEVELS), np.ones(2 * MAX_LEVELS, int)])
    again = book.diff(diff(5, 6, many))[1]
    assert again.bids[:, 0].tolist() == list(range(19 + 2 * MAX_LEVELS, 19 + MAX_LEVELS, -1))


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue_book, "MAX_HELD", 3)
    counts: Counter[str] = Counter()
    book = VenueBook(0, counts)
    for i in range(5):
        book.diff(diff(i, i + 1))
    assert book.held == 3
    assert counts == {"held_overflow": 2}


def test_columns_end_with_last_and_an_empty_event_still_has_a_row() -> None:
    columns = snapshot(5).columns("x")
    assert columns["side"].tolist() == [1, 1, -1]
    assert columns["price"].tolist() == [10, 9, 11]
    assert columns["flags"].tolist() == [SNAPSHOT, SNAPSHOT, SNAPSHOT | LAST]
    empty = diff(5, 6).columns("x")
    assert (empty["price"].tolist(), empty["size"].tolist(), empty["flags"].tolist()) == ([0], [0], [LAST])
