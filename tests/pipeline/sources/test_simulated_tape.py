"""What the book writes: the difference of any two books, and times that never run backwards."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.events import LAST, SNAPSHOT
from pipeline.sources import simulated_tape as tape

Side = dict[int, int]
BOOKS = st.tuples(
    st.dictionaries(st.integers(1, 30), st.integers(1, 3), min_size=1, max_size=10),
    st.dictionaries(st.integers(31, 60), st.integers(1, 3), min_size=1, max_size=10),
)


def _hold(state: tape.BookState, book: tuple[Side, Side]) -> None:
    for side, (levels, sign) in enumerate(zip(book, (1, -1), strict=True)):
        ordered = sorted(levels.items(), key=lambda level: sign * level[0])
        state.levels[tape.NOW, side] = len(ordered)
        for i, (price, size) in enumerate(ordered):
            state.key[tape.NOW, side, i] = sign * price
            state.size[tape.NOW, side, i] = size


@given(BOOKS, BOOKS)
def test_changes_lead_from_one_book_to_the_next(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    state, written = tape.empty_book(10, 30.5), tape.empty_tape(10, 2)
    _hold(state, before)
    tape.remember(state)
    _hold(state, after)
    tape.write_changes(rng, state, 1_000, written)
    rows = written.book[: written.written[0]].tolist()
    if before == after:
        best = max(after[0])
        assert [row[4:7] for row in rows] == [[1, best, after[0][best] + 1]], "an event has at least one change"
        return
    book = {1: dict(before[0]), -1: dict(before[1])}
    for row in rows:
        side, price, size = row[4:7]
        assert book[side].get(price, 0) != size, "only what changed"
        book[side][price] = size
    assert tuple({p: q for p, q in book[side].items() if q} for side in (1, -1)) == after
    assert [row[7] for row in rows] == [0] * (len(rows) - 1) + [LAST]
    assert {(row[2], row[3]) for row in rows} == {(0, len(rows))}

    written.written[:] = 0
    tape.write_snapshot(state, 2_000, written)
    snapshot = written.book[: written.written[0]].tolist()
    assert {(side, price): size for _, _, _, _, side, price, size, _ in snapshot} == {
        (side, price): size for side, levels in zip((1, -1), after, strict=True) for price, size in levels.items()
    }
    assert all(row[7] & SNAPSHOT for row in snapshot)
    assert {(row[2], row[3]) for row in snapshot} == {(len(rows), len(rows))}


def test_receive_times_never_run_backwards() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    ids = np.zeros(3, np.int64)
    events = np.cumsum(np.random.default_rng(2).integers(0, 3_000_000, 2_000))
    received = np.array([tape.received(rng, ids, int(ts)) for ts in events])
    assert (np.diff(received) >= 0).all()
    latency = received - events
    assert latency.min() >= tape.MIN_LATENCY_NS
    assert 2_500_000 < latency.mean() < 4_500_000
