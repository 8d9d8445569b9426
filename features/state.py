"""Stage state as bytes: MessagePack of plain values and raw arrays, so that floats come back with the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from features.errors import BadInputError


def pack(state: Mapping[str, Any]) -> bytes:
    """Encode a mapping of numbers, strings, lists and numpy arrays."""
    return msgspec.msgpack.encode({name: _plain(value) for name, value in state.items()})


def unpack(data: bytes) -> dict[str, Any]:
    """The inverse of :func:`pack`; arrays are writable.

    Raises:
        BadInputError: the bytes are not such a state.
    """
    try:
        decoded = msgspec.msgpack.decode(data, type=dict[str, Any])
        return {name: _restored(value) for name, value in decoded.items()}
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise BadInputError(
            f"A checkpoint cannot be read: {error}.", "Delete it; the worker then recomputes from the log's start."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": list(value.shape), "data": np.ascontiguousarray(value).tobytes()}
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"dtype", "shape", "data"}:
        return np.frombuffer(value["data"], dtype=np.dtype(value["dtype"])).reshape(value["shape"]).copy()
    return value
