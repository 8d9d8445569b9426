"""Compressed bodies and dictionaries in parts are refused before a reader reserves memory for them."""

from __future__ import annotations

import struct
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_market import edged, small_market

from features.events import SCHEMAS, Kind
from pipeline.codec import UndecodableError, decode_event, encode
from pipeline.ipc_messages import HostileMessageError, require_plain

BOOK = {batch.kind: batch.data for batch in edged(small_market(5, seed=2))}[Kind.BOOK]


def compressed(data: pa.RecordBatch, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_compressed_body_is_refused(codec: str) -> None:
    zeros = pa.RecordBatch.from_arrays(
        [column.take(pa.array([0] * 100_000)) for column in BOOK.columns], schema=BOOK.schema
    )
    bomb = compressed(zeros, codec)
    assert len(bomb) < zeros.nbytes / 10
    with pytest.raises(UndecodableError, match="compressed body"):
        decode_event("book", "BTC", bomb)


def test_a_declared_size_of_2_to_the_60_reserves_nothing() -> None:
    """In a process that may have 4 GiB more than it has: Arrow's own reader would ask for all of it."""
    payload = bytearray(compressed(BOOK, "lz4"))
    at = payload.find(struct.pack("<q", BOOK.num_rows * 8), len(BOOK.schema.serialize()))
    payload[at : at + 8] = struct.pack("<q", 2**60)
    code = """
import resource, sys
from pipeline.codec import UndecodableError, decode_event
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**32, resource.getrlimit(resource.RLIMIT_AS)[1]))
try:
    decode_event("book", "BTC", sys.stdin.buffer.read())
except UndecodableError as error:
    print(error.reason, error.detail)
"""
    done = subprocess.run([sys.executable, "-c", code], input=bytes(payload), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-600:]
    assert b"compressed body" in done.stdout


def test_a_dictionary_that_comes_in_parts_is_refused() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, BOOK.schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as writer:
        for names in (["a"], ["a", "b"]):
            instrument = pa.DictionaryArray.from_arrays(pa.array([0] * BOOK.num_rows, pa.int32()), pa.array(names))
            writer.write_batch(BOOK.set_column(0, BOOK.schema.field(0), instrument))
    payload = bytes(sink.getvalue())
    require_plain(payload, 0, 1)  # the first batch alone is plain
    head, first = len(BOOK.schema.serialize()), encode(BOOK)
    with pytest.raises(HostileMessageError):
        require_plain(payload + first[head:], len(payload) - 8, 1)  # an end mark stands where a message should
    second = payload.rindex(b"b\0\0\0\0\0\0\0")
    begin = max(at for at in range(head, second, 8) if payload[at : at + 4] == b"\xff\xff\xff\xff")
    with pytest.raises(HostileMessageError, match="in parts"):
        require_plain(payload, begin, 1)


def test_more_dictionaries_than_columns_are_refused() -> None:
    payload = encode(BOOK)
    head = len(BOOK.schema.serialize())
    batch = max(at for at in range(head, len(payload) - 8, 8) if payload[at : at + 4] == b"\xff\xff\xff\xff")
    dictionary = payload[head:batch]
    require_plain(payload, head, 1)
    with pytest.raises(UndecodableError, match="more dictionaries"):
        decode_event("book", "BTC", payload[:head] + dictionary * 3 + payload[batch:])


def test_an_instrument_without_a_name_is_refused() -> None:
    nameless = pa.DictionaryArray.from_arrays(pa.array([0] * BOOK.num_rows, pa.int32()), pa.array([None], pa.utf8()))
    with pytest.raises(UndecodableError, match="null_in_required"):
        decode_event("book", "BTC", encode(BOOK.set_column(0, SCHEMAS[Kind.BOOK].field(0), nameless)))


@given(st.binary(max_size=300), st.integers(0, 3))
def test_any_bytes_are_refused_or_plain(payload: bytes, dictionaries: int) -> None:
    for stream in (payload, b"\xff\xff\xff\xff" + struct.pack("<i", len(payload)) + payload):
        try:
            require_plain(stream, 0, dictionaries)
        except HostileMessageError:
            continue


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("ts_event", -(2**63), "bad_time"), ("ts_event", 2**62, "bad_time"), ("seq", 2**62, "bad_edge_column")],
)
def test_a_time_that_would_overflow_in_a_kernel_is_refused(column: str, value: int, reason: str) -> None:
    """The clock once wrapped around: a kernel then wrote more bars than there was room for."""
    at = BOOK.schema.get_field_index(column)
    values = pa.array([value, *BOOK.column(at).to_pylist()[1:]], pa.int64())
    with pytest.raises(UndecodableError, match=reason):
        decode_event("book", "BTC", encode(BOOK.set_column(at, BOOK.schema.field(at), values)))
