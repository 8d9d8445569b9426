"""Batches that are read from joined bytes are the batches that Arrow makes column by column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInputError
from features.events import EDGE_COLUMNS, MESSAGE_ROWS, SCHEMAS, Kind, record_batch
from features.message_layout import layout_of

NUMBERS = (Kind.BOOK, Kind.TRADE, Kind.TRADE_CORRECTION, Kind.FUNDING, Kind.HEARTBEAT)


def by_arrow(kind: Kind, names: list[str], columns: dict[str, Any]) -> pa.RecordBatch:
    """Every column on its own, the slow and obvious way."""
    rows = len(columns["instrument"])
    codes = pa.array(columns["instrument"], pa.int32())
    arrays = [pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.utf8()))]
    for field in list(SCHEMAS[kind])[1:]:
        values = columns.get(field.name, [0 if field.name in EDGE_COLUMNS else None] * rows)
        values = [values] * rows if isinstance(values, int) else values
        values = values.to_pylist() if isinstance(values, pa.Array) else values
        arrays.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS[kind])


def written(data: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_batch(data)
    return bytes(sink.getvalue().to_pybytes())


def given_as(form: str, values: list[int], type_: pa.DataType) -> Any:
    """The same column in one of the forms that a source may have it in."""
    match form:
        case "shared":
            return values[0] if values else 3
        case "list":
            return values
        case "wide":
            return np.array(values, dtype=np.int64)
        case "strided":
            return np.repeat(np.array(values, dtype=type_.to_pandas_dtype()), 2)[::2]
        case "arrow":
            return pa.array([7, *values], type_)[1:]
        case _:
            return np.array(values, dtype=type_.to_pandas_dtype())


FORMS = st.sampled_from(["exact", "exact", "shared", "list", "wide", "strided", "arrow"])


@st.composite
def some_columns(draw: st.DrawFn) -> tuple[Kind, list[str], dict[str, Any]]:
    kind = draw(st.sampled_from(NUMBERS))
    rows = draw(st.sampled_from([0, 1, 2, 3, 7, 8, 9, MESSAGE_ROWS, MESSAGE_ROWS + 1]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    names = draw(st.sampled_from([["a"], ["a", "b"]]))
    columns: dict[str, Any] = {"instrument": rng.integers(0, len(names), rows).tolist()}
    for field in list(SCHEMAS[kind])[1:]:
        if (field.name in EDGE_COLUMNS or field.nullable) and draw(st.booleans()):
            continue
        values: list[Any] = rng.integers(0, 127, rows).tolist()
        if field.nullable and rows and draw(st.booleans()):
            columns[field.name] = [None, *values[1:]]
        else:
            columns[field.name] = given_as(draw(FORMS), values, field.type)
    return kind, names, columns


@given(some_columns())
@settings(max_examples=200, deadline=None)
def test_a_batch_is_what_arrow_makes_of_its_columns(case: tuple[Kind, list[str], dict[str, Any]]) -> None:
    kind, names, columns = case
    found, expected = record_batch(kind, names, columns), by_arrow(kind, names, columns)
    found.validate(full=True)
    assert found.schema.equals(SCHEMAS[kind], check_metadata=True)
    assert found.equals(expected)
    assert written(found) == written(expected), "no byte of a longer buffer is written"
    assert [column.null_count for column in found.columns] == [column.null_count for column in expected.columns]


def trade(**changed: Any) -> dict[str, Any]:
    columns = {name: [0, 1] for name in SCHEMAS[Kind.TRADE].names if name not in EDGE_COLUMNS}
    return {name: values for name, values in (columns | changed).items() if values is not None}


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"price": None}, BadInputError, "'price' of kind trade is missing"),
        ({"colour": [1, 2]}, BadInputError, r"Unknown column\(s\) \['colour'\]"),
        ({"price": np.arange(3)}, BadInputError, "'price' has 3 rows, 'instrument' has 2"),
        ({"seq": [1]}, BadInputError, "'seq' has 1 rows"),
        ({"aggressor": np.array([1, 200])}, pa.ArrowInvalid, "200"),
        ({"aggressor": 200}, pa.ArrowInvalid, "200"),
        ({"price": np.array([0.5, 1.0])}, pa.ArrowInvalid, "truncated"),
        ({"instrument": [0, 2]}, pa.ArrowIndexError, "out of bounds"),
        ({"price": np.zeros((2, 1), dtype=np.int64)}, pa.ArrowInvalid, "1-dimensional"),
    ],
)
def test_what_is_no_batch_is_refused(changed: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        record_batch(Kind.TRADE, ["a", "b"], trade(**changed))


@pytest.mark.parametrize("rows", [1, 8, 9, 1_000])
def test_columns_lie_where_the_layout_says(rows: int) -> None:
    sample = pa.record_batch(
        {
            "whole": pa.array(range(rows), pa.int64()),
            "some": pa.array([None, *range(1, rows)], pa.float64()),
            "small": pa.array([5] * rows, pa.int8()),
        }
    )
    layout, message = layout_of(sample), bytes(sample.serialize().to_pybytes())
    assert len(message) == layout.size
    assert message.startswith(layout.head)
    assert np.frombuffer(message, np.int64, rows, layout.values[0]).tolist() == list(range(rows))
    assert np.frombuffer(message, np.float64, rows, layout.values[1])[1:].tolist() == list(range(1, rows))
    assert np.frombuffer(message, np.int8, rows, layout.values[2]).tolist() == [5] * rows
    assert [offset >= 0 for offset in layout.validity] == [False, True, False]
    assert message[layout.validity[1]] == (0xFE if rows >= 8 else (1 << rows) - 2)
