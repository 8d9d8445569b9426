"""Rows that are written into a form are the rows that Arrow makes column by column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import bar_kernels as k
from features.catalog import STANDARD
from features.feature_rows import FORM_ROWS, Room, feature_rows, room_for

NAMES = [feature.name for feature in STANDARD.features if feature.name != "trade_count"]
SLOTS = ["x:A", "x:BB", "ünïcode:C", ""]


def some_room(rows: int, seed: int, unknown: float) -> Room:
    rng, room = np.random.default_rng(seed), room_for(rows, len(NAMES))
    room.integers[:] = rng.integers(-2, 2**60, room.integers.shape)
    room.integers[:, k.I_SLOT] = rng.integers(0, len(SLOTS), rows)
    room.integers[:, [k.I_VALID, k.I_CROSSED]] = rng.integers(0, 2, (rows, 2))
    room.integers[:, k.I_TRADES] = rng.integers(-1, 2, rows)
    values = rng.choice(np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, 1.5]), (rows, len(NAMES)))
    room.floats[:] = np.where(rng.random(values.shape) < unknown, np.nan, values)
    return room


def by_arrow(names: list[str], room: Room) -> pa.RecordBatch:
    """Every value on its own, the slow and obvious way."""
    integers = room.integers.tolist()
    columns = {
        "underlying": ["BTC"] * len(integers),
        "version": ["v1"] * len(integers),
        "instrument": [SLOTS[row[k.I_SLOT]] for row in integers],
        "bar_ts": [row[k.I_BAR_TS] for row in integers],
        "ts_known": [row[k.I_TS_KNOWN] for row in integers],
        "late_rows": [row[k.I_LATE] for row in integers],
        "lost_rows": [row[k.I_LOST] for row in integers],
        "corrected_rows": [row[k.I_CORRECTED] for row in integers],
        "book_valid": [bool(row[k.I_VALID]) for row in integers],
        "book_crossed": [bool(row[k.I_CROSSED]) for row in integers],
        "trade_count": [None if row[k.I_TRADES] < 0 else row[k.I_TRADES] for row in integers],
    }
    for name, values in zip(names, room.floats.T.tolist(), strict=True):
        columns[name] = [None if value != value else value for value in values]
    schema = STANDARD.schema
    return pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


ROWS = st.sampled_from([1, 1, 2, 3, 4, 8, 9, FORM_ROWS, FORM_ROWS + 1])


@given(ROWS, st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]), st.permutations(range(len(NAMES))))
@settings(max_examples=60, deadline=None)
def test_rows_are_what_arrow_makes_of_their_values(rows: int, seed: int, unknown: float, order: list[int]) -> None:
    room = some_room(rows, seed, unknown)
    shuffled = Room(room.integers, room.floats[:, order])
    names = [NAMES[position] for position in order]
    found, expected = feature_rows(STANDARD, "BTC", "v1", SLOTS, names, shuffled), by_arrow(names, shuffled)
    found.validate(full=True)
    assert found.schema.equals(STANDARD.schema, check_metadata=True)
    assert found.equals(expected)
    assert [column.null_count for column in found.columns] == [column.null_count for column in expected.columns]
    assert [repr(value) for column in found.columns for value in column.to_pylist()] == [
        repr(value) for column in expected.columns for value in column.to_pylist()
    ], "the sign of zero, too"


def test_a_form_is_used_again_and_keeps_nothing_of_the_last_rows() -> None:
    full, empty = some_room(3, 1, 0.0), some_room(3, 1, 1.0)
    empty.integers[:, k.I_TRADES] = -1
    first = feature_rows(STANDARD, "BTC", "v1", SLOTS, NAMES, full)
    kept = first.to_pylist()
    second = feature_rows(STANDARD, "BTC", "v1", SLOTS, NAMES, empty)
    assert all(second.column(name).null_count == 3 for name in (*NAMES, "trade_count"))
    full.floats[:] = 7.0
    full.integers[:] = 0
    assert first.to_pylist() == kept, "what was handed out does not change"
    third = feature_rows(STANDARD, "BTC", "v1", SLOTS, NAMES, full)
    assert third.column(NAMES[0]).to_pylist() == [7.0] * 3


def test_columns_that_the_catalogue_does_not_have_are_left_out() -> None:
    room = some_room(2, 5, 0.3)
    wider = Room(room.integers, np.hstack([room.floats, np.ones((2, 1))]))
    data = feature_rows(STANDARD, "BTC", "v1", SLOTS, [*NAMES, "unheard_of"], wider)
    assert data.equals(by_arrow(NAMES, room))


@pytest.mark.parametrize("rows", [1, FORM_ROWS + 1])
def test_a_column_that_is_missing_is_named(rows: int) -> None:
    room = some_room(rows, 5, 0.3)
    with pytest.raises(KeyError, match=NAMES[-1]):
        feature_rows(STANDARD, "BTC", "v1", SLOTS, NAMES[:-1], Room(room.integers, room.floats[:, :-1]))
