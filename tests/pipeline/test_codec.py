"""The wire: what is written is read, and nothing else is."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_market import edged, small_market

from features.catalog import STANDARD
from features.events import EventBatch, Kind, record_batch
from features.feature_rows import feature_rows, room_for
from pipeline.codec import MAX_BYTES, ROW_SCHEMAS, UndecodableError, decode_event, decode_rows, encode

LOG = edged(small_market(5, seed=2))
BY_KIND = {batch.kind: batch for batch in LOG}


def rows_of_features(rows: int) -> pa.RecordBatch:
    names = [feature.name for feature in STANDARD.features if feature.name != "trade_count"]
    rng, room = np.random.default_rng(rows), room_for(rows, len(names))
    room.integers[:] = np.arange(rows)[:, None]
    room.floats[:] = np.where(rng.random((rows, len(names))) < 0.3, np.nan, rng.normal(size=(rows, len(names))))
    return feature_rows(STANDARD, "BTC", "v", [f"x:{number}" for number in range(rows)], names, room)


ROWS = [rows_of_features(rows) for rows in (1, 2, 4)]


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_what_is_written_is_read(kind: Kind) -> None:
    batch = BY_KIND[kind]
    again = decode_event(kind.value, batch.underlying, encode(batch.data))
    assert again.data.equals(batch.data)
    assert (again.kind, again.underlying) == (batch.kind, batch.underlying)


def rejected(kind: str, payload: bytes) -> str:
    with pytest.raises(UndecodableError) as caught:
        decode_event(kind, "BTC", payload)
    return caught.value.reason


def test_every_kind_of_damage_has_its_reason() -> None:
    book = encode(BY_KIND[Kind.BOOK].data)
    assert rejected("book", b"") == "undecodable"
    assert rejected("book", b"{not arrow}") == "undecodable"
    assert rejected("book", book[: len(book) // 2]) == "undecodable"
    assert rejected("nonsense", book) == "unknown_kind"
    assert rejected("trade", book) == "schema_mismatch"
    assert rejected("book", b"\0" * (MAX_BYTES + 1)) == "too_large"
    assert rejected("book", encode(BY_KIND[Kind.BOOK].data.slice(0, 0))) == "empty"
    with pytest.raises(UndecodableError, match="unknown_kind"):
        decode_rows("book", book)


def test_a_null_where_none_may_be_is_refused() -> None:
    data = BY_KIND[Kind.TRADE].data
    columns = list(data.columns)
    columns[7] = pa.nulls(data.num_rows, pa.int64())
    assert rejected("trade", encode(pa.RecordBatch.from_arrays(columns, schema=data.schema))) == "null_in_required"


def test_a_negative_lateness_is_refused() -> None:
    data = record_batch(
        Kind.HEARTBEAT, ["x"], {"instrument": [0], "ts_event": [5], "ts_recv": [6], "seq": [0], "late_ns": [-1]}
    )
    assert rejected("heartbeat", encode(data)) == "bad_edge_column"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(BY_KIND)), st.integers(0, 2**32))
def test_mutated_messages_are_read_or_refused_never_anything_else(kind: Kind, seed: int) -> None:
    rng = random.Random(seed)
    payload = bytearray(encode(BY_KIND[kind].data))
    for _ in range(rng.randint(1, 8)):
        payload[rng.randrange(len(payload))] = rng.randrange(256)
    try:
        again = decode_event(kind.value, "BTC", bytes(payload))
    except UndecodableError:
        return
    assert isinstance(again, EventBatch)
    assert again.data.num_rows > 0


def read_by_the_stream(kind: str, payload: bytes) -> pa.RecordBatch | str:
    """The rows, or why there are none: what Arrow's own reader says, and every column looked at."""
    try:
        with pa.ipc.open_stream(payload) as reader:
            if not reader.schema.equals(ROW_SCHEMAS[kind]):
                return "schema_mismatch"
            data = reader.read_next_batch()
        data.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration):
        return "undecodable"
    if data.num_rows == 0:
        return "empty"
    fields = zip(data.schema, data.columns, strict=True)
    return "null_in_required" if any(not f.nullable and c.null_count for f, c in fields) else data


def read_by_us(kind: str, payload: bytes) -> pa.RecordBatch | str:
    try:
        return decode_rows(kind, payload)
    except UndecodableError as error:
        return error.reason


def same(one: pa.RecordBatch | str, other: pa.RecordBatch | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one is other or one == other
    return encode(one) == encode(other)  # NaN, too


def test_rows_of_our_own_topics_are_read() -> None:
    for data in ROWS:
        assert decode_rows("features", encode(data)).equals(data)
        assert read_by_us("features", encode(data.slice(0, 0))) == "empty"
    payload = encode(ROWS[0])
    end = len(bytes(ROWS[0].schema.serialize().to_pybytes()))
    for cut in (0, 7, end, end + 4, end + 8, end + 100, len(payload) - 200):
        assert read_by_us("features", payload[:cut]) == "undecodable" == read_by_the_stream("features", payload[:cut])
    columns = list(ROWS[0].columns)
    columns[2] = pa.nulls(len(columns[2]), pa.int64())
    nulled = pa.RecordBatch.from_arrays(columns, schema=ROWS[0].schema)
    assert read_by_us("features", encode(nulled)) == "null_in_required"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(ROWS) - 1), st.integers(0, 2**32), st.booleans())
def test_mutated_rows_are_read_as_the_stream_reads_them(number: int, seed: int, behind_the_schema: bool) -> None:
    rng = random.Random(seed)
    payload = bytearray(encode(ROWS[number]))
    begin = len(bytes(ROWS[number].schema.serialize().to_pybytes())) if behind_the_schema else 0
    for _ in range(rng.randint(1, 8)):
        payload[rng.randrange(begin, len(payload))] = rng.randrange(256)
    assert same(read_by_us("features", bytes(payload)), read_by_the_stream("features", bytes(payload)))
