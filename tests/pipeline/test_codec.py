"""The wire: what is written is read, and nothing else is."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_market import edged, small_market

from features.events import EventBatch, Kind, record_batch
from pipeline.codec import MAX_BYTES, UndecodableError, decode_event, decode_rows, encode

LOG = edged(small_market(5, seed=2))
BY_KIND = {batch.kind: batch for batch in LOG}


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
