"""Messages that nobody should send: valid ones of every kind, damaged in every way, each the same for its number."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from features.events import NANO, EventBatch, Kind, record_batch
from pipeline.codec import ROW_SCHEMAS, encode
from pipeline.edge import Edge
from pipeline.log import MemoryLog
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig

EXTREMES: Final = (-1, 0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**62, 2**63 - 1, -(2**63), -(2**31))
"""Lengths, offsets, times and counts that a careless reader trusts."""

RECORDS: Final = {
    "decisions.inputs": b'{"type": "timer", "input_id": "t:1", "bar_ts": 1767571200000000000}',
    "decisions": b'{"portfolio": "desk", "bar_ts": 1767571200000000000, "decision_id": "d", "legs": [{"underlying": '
    b'"BTC", "instrument": "sim:BTC-PERP", "rung": "hold", "position": 0.5, "target": 1.0, "reasons": ["x"]}]}',
    "oms.fills": b'{"bar_ts": 1767571200000000000, "order_id": "o", "decision_id": "d", "underlying": "BTC", '
    b'"instrument": "sim:BTC-PERP", "quantity": 1.0, "price": 100.0, "fee_usd": 0.1}',
    "dead-letter": b"\xff\x00",
}
"""A message of each topic of records."""

_COMMON: Final = {"underlying": "BTC", "instrument": "desk:BTC", "ts_event": 1_723_075_200 * NANO}
_TERMS: Final = {
    "instrument_type": "spot",
    "quote_currency": "USD",
    "settlement_currency": "USD",
    "price_increment_e9": NANO // 10,
    "size_increment_e9": NANO // 1_000,
    "contract_size_e9": NANO,
    "is_inverse": False,
}
_TRADE: Final = {"trade_id": 7, "price": "61800.1", "size": "0.25", "aggressor": 1}
_LEVELS: Final = {"side": [1, -1], "price": ["61800.1", "61800.2"], "size": ["1", "0"], "snapshot": True}
JSON_EVENTS: Final = tuple(
    json.dumps({"kind": kind} | _COMMON | own).encode()
    for kind, own in (
        ("instrument", _TERMS),
        ("trade", _TRADE),
        ("book", {"prev_id": 1, "update_id": 2} | _LEVELS),
    )
)
"""Messages of a user's own topic: :mod:`pipeline.sources.json_events`."""


class Message(NamedTuple):
    """What is sent: the reader it is for, its kind or topic, key and bytes."""

    reader: str
    kind: str
    key: str
    payload: bytes


def good_events() -> list[EventBatch]:
    """A few seconds of a market: every kind, in the order of a log, reference data first."""
    out: list[EventBatch] = []
    edge = Edge(MemoryLog(out.append), "fuzz")
    for batch in SimulatedExchange(SimulationConfig(minutes=0.1, seed=5)).batches():
        edge.send(batch)
        if len(out) > 400:
            break
    trade = next(batch for batch in out if batch.kind is Kind.TRADE)
    name, when = trade.data.column(0)[0].as_py(), int(trade.data.column(1)[0].as_py())
    times = {"instrument": [0], "ts_event": [when], "ts_recv": [when + 1]}
    fix = {"trade_id": [1], "price": [100], "size": [1], "aggressor": [1]}
    words = {"source": pa.array(["news"]), "name": pa.array(["h"]), "text": pa.array(["up"]), "ts_available": [when]}
    for kind, columns in ((Kind.TRADE_CORRECTION, fix), (Kind.ALT, words)):
        edge.send(EventBatch(kind, trade.underlying, record_batch(kind, [name], times | columns)))
    assert {batch.kind for batch in out} == set(Kind), "every kind is damaged"
    return out


def good_rows() -> dict[str, pa.RecordBatch]:
    """Two rows of each topic of our own."""
    return {kind: pa.RecordBatch.from_arrays([_some(f.type) for f in s], schema=s) for kind, s in ROW_SCHEMAS.items()}


def _some(type_: pa.DataType) -> pa.Array:
    if pa.types.is_string(type_):
        return pa.array(["BTC", "ETH"])
    if pa.types.is_boolean(type_):
        return pa.array([True, False])
    if pa.types.is_floating(type_):
        return pa.array([100.5, None], type_)
    return pa.array([1_767_571_200 * NANO, 1_767_571_201 * NANO], type_)


class Mutator:
    """Makes message number ``n`` of a seed: one in sixteen is left as it is, so that state moves on."""

    def __init__(self, seed: int, events: Sequence[EventBatch]) -> None:
        self._seed = seed
        self._events = [Message("event", b.kind.value, b.underlying, encode(b.data)) for b in events]
        self._by_kind = {batch.kind.value: batch.data for batch in events}
        self._rows = {kind: (data, encode(data)) for kind, data in good_rows().items()}
        self._kinds = [kind.value for kind in Kind]

    def message(self, number: int) -> Message:
        """The message and nothing else depends on the seed and the number."""
        rng = random.Random(self._seed << 40 | number)
        good = self._good(rng)
        if rng.randrange(16) == 0:
            return good
        change = rng.choice(CHANGES if good.reader in ("event", "row") else BYTE_CHANGES)
        if change is hostile_values:
            data = self._by_kind[good.kind] if good.reader == "event" else self._rows[good.kind][0]
            return good._replace(payload=hostile_values(rng, data))
        if rng.randrange(64) == 0:
            return good._replace(kind=rng.choice([*self._kinds, *self._rows, "", "\0", "Book"]))
        if change is splice:
            other = rng.choice(self._events).payload
            return good._replace(payload=splice(rng, good.payload, other))
        return good._replace(payload=change(rng, good.payload))

    def _good(self, rng: random.Random) -> Message:
        draw = rng.random()
        if draw < 0.6:
            kind = rng.choice(self._kinds)
            alike = [each for each in rng.sample(self._events, 8) if each.kind == kind]
            return alike[0] if alike else rng.choice(self._events)
        if draw < 0.8:
            kind = rng.choice(list(self._rows))
            return Message("row", kind, "BTC", self._rows[kind][1])
        if draw < 0.9:
            topic = rng.choice(list(RECORDS))
            return Message("record", topic, "desk", RECORDS[topic])
        return Message("json", "", "", rng.choice(JSON_EVENTS))


def flip(rng: random.Random, payload: bytes) -> bytes:
    """A few bytes."""
    damaged = bytearray(payload)
    for _ in range(rng.randint(1, 8)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def extreme(rng: random.Random, payload: bytes) -> bytes:
    """An aligned word becomes a length, an offset, an index or a time that is out of bounds."""
    damaged = bytearray(payload)
    for _ in range(rng.randint(1, 3)):
        size = rng.choice((4, 8))
        at = rng.randrange(max(1, len(damaged) // 4)) * 4
        word = (rng.choice(EXTREMES) & (2 ** (8 * size) - 1)).to_bytes(size, "little")
        damaged[at : at + size] = word[: len(damaged) - at]
    return bytes(damaged)


def cut(rng: random.Random, payload: bytes) -> bytes:
    """The end is missing, or more follows."""
    at = rng.randrange(len(payload))
    return payload[:at] if rng.random() < 0.7 else payload + payload[at:]


def repeat(rng: random.Random, payload: bytes) -> bytes:
    """A piece stands twice, or nowhere."""
    begin = rng.randrange(len(payload))
    end = min(len(payload), begin + rng.randint(1, 256))
    return payload[:end] + payload[begin:] if rng.random() < 0.5 else payload[:begin] + payload[end:]


def noise(rng: random.Random, payload: bytes) -> bytes:
    """Nothing of it is left; sometimes what follows a message's mark, or deep JSON."""
    draw = rng.randrange(8)
    if draw == 0:
        return b'{"kind": ' + b"[" * rng.randrange(1, 50_000)
    if draw == 1:
        return b""
    random_bytes = rng.randbytes(rng.randrange(1, 600))
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(random_bytes)) + random_bytes if draw == 2 else random_bytes


def splice(rng: random.Random, payload: bytes, other: bytes = b"") -> bytes:
    """The beginning of one message and the end of another."""
    return payload[: rng.randrange(len(payload))] + other[rng.randrange(max(1, len(other))) :]


def compress(rng: random.Random, payload: bytes) -> bytes:
    """The same rows with compressed bodies, whose declared sizes may then be damaged."""
    try:
        data = pa.ipc.open_stream(payload).read_next_batch()
    except (pa.ArrowException, OSError, StopIteration):
        return payload
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=rng.choice(("lz4", "zstd")))
    with pa.ipc.new_stream(sink, data.schema, options=options) as writer:
        writer.write_batch(data)
    packed = bytes(sink.getvalue())
    return extreme(rng, packed) if rng.random() < 0.5 else packed


def hostile_values(rng: random.Random, data: pa.RecordBatch) -> bytes:
    """Well formed, with values that nobody measured: extremes, nulls, codes and names that lead nowhere."""
    columns = list(data.columns)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(columns))
        columns[at] = _hostile(rng, data.schema.field(at), columns[at])
    return encode(pa.RecordBatch.from_arrays(columns, schema=data.schema))


def _hostile(rng: random.Random, field: pa.Field, column: pa.Array) -> pa.Array:
    rows = len(column)
    if field.nullable and rng.random() < 0.3:
        return pa.nulls(rows, field.type)
    if pa.types.is_dictionary(field.type):
        names = rng.choice((["a", "a"], ["", "\0"], ["x" * 70_000, "é"], [None, "a"], ["sim:BTC-PERP", "b"]))
        codes = pa.array([rng.randrange(2) for _ in range(rows)], pa.int32())
        return pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.utf8()))
    if pa.types.is_string(field.type):
        return pa.array([rng.choice(("", "\0", "BTC", "é" * 999)) for _ in range(rows)])
    if pa.types.is_floating(field.type):
        return pa.array([rng.choice((np.nan, np.inf, -np.inf, 1e308, -0.0)) for _ in range(rows)])
    if pa.types.is_boolean(field.type):
        return pa.array([rng.random() < 0.5 for _ in range(rows)])
    return _hostile_integers(rng, field, column)


def _hostile_integers(rng: random.Random, field: pa.Field, column: pa.Array) -> pa.Array:
    kind = np.dtype(field.type.to_pandas_dtype())
    bounds = np.iinfo(kind)
    values = column.fill_null(0).to_numpy(zero_copy_only=False).astype(kind, copy=True)
    for row in range(len(values)):
        if rng.random() < 0.5:
            # Near the truth, or far from it.
            near = int(values[row]) + rng.choice((-1, 1, NANO, 3_600 * NANO, -NANO, 2**34))
            values[row] = min(max(rng.choice((near, *EXTREMES)), int(bounds.min)), int(bounds.max))
    return pa.array(values, field.type)


Change = Callable[..., bytes]
BYTE_CHANGES: Final[Sequence[Change]] = (flip, extreme, cut, repeat, noise)
CHANGES: Final[Sequence[Change]] = (*BYTE_CHANGES, splice, compress, hostile_values, hostile_values, hostile_values)
