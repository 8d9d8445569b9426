"""What an Arrow IPC stream is about to make a reader do, read from its headers before any reader touches it.

A message's flatbuffer says where its body ends and whether it is compressed. A compressed body declares how large it
becomes, and the reader reserves that before it looks: 1 kB can ask for 2^60 bytes, or honestly become gigabytes. Our
writers never compress, so such a message is refused here. The format: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

CONTINUATION: Final = b"\xff\xff\xff\xff"
SCHEMA: Final = 1
DICTIONARY_BATCH: Final = 2
RECORD_BATCH: Final = 3
REMEMBERED_BYTES: Final = 4_096
"""Headers up to this size are remembered: those of one kind and number of rows are the same, byte for byte."""

_U16: Final = struct.Struct("<H").unpack_from
_I32: Final = struct.Struct("<i").unpack_from
_U32: Final = struct.Struct("<I").unpack_from
_I64: Final = struct.Struct("<q").unpack_from


class HostileMessageError(ValueError):
    """A stream that no writer of ours makes and that could cost a reader more than its own size."""


def require_plain(payload: bytes, at: int, dictionaries: int) -> None:
    """Refuse a stream whose first record batch, or a dictionary before it, is compressed.

    Args:
        payload: one stream.
        at: byte at which a message begins.
        dictionaries: how many dictionaries the schema has; more, or parts of one, are refused: to join each part to
            those before costs the square of their number.

    Raises:
        HostileMessageError: it is compressed, or its messages cannot be followed.
    """
    for _ in range(dictionaries + 2):  # the schema, the dictionaries, the batch
        body = at + 8
        if payload[at : at + 4] != CONTINUATION or body > len(payload):
            raise HostileMessageError("no message where one should begin")
        size = _I32(payload, at + 4)[0]
        if size <= 0:
            raise HostileMessageError("a message without a header")
        header = payload[body : body + size]
        kind, length = (_facts if size <= REMEMBERED_BYTES else _facts.__wrapped__)(header)
        if kind == RECORD_BATCH:
            return
        at = body + size + length
    raise HostileMessageError("more dictionaries than columns that have one")


@lru_cache(maxsize=1_024)
def _facts(header: bytes) -> tuple[int, int]:
    """The type of a message and the length of its body.

    Raises:
        HostileMessageError: the body is compressed, a dictionary comes in parts, or this is no such header.
    """
    try:
        message = _table(header, 0)
        kind, batch, length = (_field(header, message, slot) for slot in (1, 2, 3))
        type_, size = header[kind] if kind else 0, _I64(header, length)[0] if length else 0
        if type_ not in (SCHEMA, DICTIONARY_BATCH, RECORD_BATCH) or size < 0:
            raise HostileMessageError(f"a message of type {type_} with {size} bytes")
        table = _table(header, batch)
        if type_ == DICTIONARY_BATCH:
            if (delta := _field(header, table, 2)) and header[delta]:
                raise HostileMessageError("a dictionary that comes in parts")
            table = _table(header, _field(header, table, 1))
        if type_ != SCHEMA and _field(header, table, 3):
            raise HostileMessageError("a compressed body")
    except (struct.error, IndexError) as error:
        raise HostileMessageError("a header that cannot be read") from error
    return type_, size


def _table(header: bytes, at: int) -> int:
    """Where the table lies that the offset at ``at`` points to."""
    return int(at + _U32(header, at)[0])


def _field(header: bytes, table: int, slot: int) -> int:
    """Where a field of a table lies; 0: it is not there."""
    known = table - _I32(header, table)[0]
    if known < 0:  # struct would count it from the end
        raise HostileMessageError("a header that cannot be read")
    position = 4 + 2 * slot
    if position >= _U16(header, known)[0]:
        return 0
    offset = _U16(header, known + position)[0]
    return int(table + offset) if offset else 0
