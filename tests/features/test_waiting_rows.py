"""Rows that wait: none is lost or moved, and they stay few pieces however they came."""

from __future__ import annotations

import random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features.waiting_rows import LOOSE_PARTS, WaitingRows, one_batch, rows_at


def batch(values: list[int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"value": pa.array(values, pa.int64())})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(1, 4), max_size=200), st.integers(0, 150), st.randoms()), max_size=5))
def test_what_is_taken_is_what_a_list_would_give(rounds: list[tuple[list[int], int, random.Random]]) -> None:
    waiting, model, sent = WaitingRows(), [], 0
    for sizes, count, rng in rounds:
        for size in sizes:
            new = list(range(sent, sent + size))
            sent += size
            waiting.append(batch(new), new)
            model += new
        count = min(count, len(model))
        keep = sorted(rng.sample(range(count), rng.randint(0, count)))
        found = [value for part in waiting.take(count, keep) for value in part.column("value").to_pylist()]
        assert found == [model[i] for i in keep]
        model = model[count:]
        left = [value for part in waiting.parts for value in part.column("value").to_pylist()]
        assert left == model
        assert len(waiting.parts) <= LOOSE_PARTS + len(model) // LOOSE_PARTS + 1


def test_rows_that_are_neighbours_are_not_copied() -> None:
    rows = batch(list(range(8)))
    assert rows_at(rows, list(range(8))) is rows
    assert rows_at(rows, [2, 3]).column("value").buffers()[1].address == rows.column("value").buffers()[1].address
    assert rows_at(rows, [0, 3, 7]).column("value").to_pylist() == [0, 3, 7]
    assert rows_at(rows, []).num_rows == 0
    assert one_batch([rows]) is rows
