"""One side of a book: a sorted array of levels, worst first.

It lies in a room twice as long as it may get, so it can grow at both ends, and a change moves the shorter part: few
entries near the best level, and far from it at most half.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from features.kernel import row_kernel
from features.memmove import memmove

Array = np.ndarray[Any, Any]

MAX_LEVELS: Final = 8192
"""Levels kept a side; beyond that the worst is forgotten, so memory per instrument is bounded."""

ROOM: Final = 2 * MAX_LEVELS

NEAR: Final = 64
"""Levels from the best within which a change moves those above it, so that the processor can guess it."""


@row_kernel
def _below(key: Array, begin: int, end: int, level_key: int) -> int:
    """Position of the first key that is not below ``level_key``."""
    low, count = begin, end - begin
    while count > 1:
        half = count >> 1
        low += half if key[low + half - 1] < level_key else 0
        count -= half
    return low + 1 if count == 1 and key[low] < level_key else low


@row_kernel
def _move(key: Array, size: Array, to: int, start: int, count: int) -> None:
    memmove(key, to, start, count)
    memmove(size, to, start, count)


@row_kernel
def _nearer_to_worst(begin: int, end: int, at: int) -> bool:
    """Whether to move the levels below a position rather than those above; near the best it makes no difference."""
    return end - at > NEAR and at - begin < end - at


@row_kernel
def _delete(key: Array, size: Array, begin: int, end: int, at: int) -> tuple[int, int]:
    if _nearer_to_worst(begin, end, at):
        _move(key, size, begin + 1, begin, at - begin)
        return begin + 1, end
    _move(key, size, at, at + 1, end - 1 - at)
    return begin, end - 1


@row_kernel
def _insert(key: Array, size: Array, begin: int, end: int, at: int, level_key: int, level_size: int) -> tuple[int, int]:
    """Insert before position ``at``; a side that is full forgets its worst level, or the new one if that is worse."""
    if end - begin == MAX_LEVELS:
        if at == begin:
            return begin, end
        begin += 1
    if begin == 0 or end == ROOM:
        # An end of the room is reached: back into the middle.
        to = (ROOM - (end - begin)) // 2
        _move(key, size, to, begin, end - begin)
        begin, end, at = to, to + end - begin, at + to - begin
    if _nearer_to_worst(begin, end, at):
        _move(key, size, begin - 1, begin, at - begin)
        begin -= 1
        at -= 1
    else:
        _move(key, size, at + 1, at, end - at)
        end += 1
    key[at] = level_key
    size[at] = level_size
    return begin, end


@row_kernel
def set_level(key: Array, size: Array, begin: int, end: int, level_key: int, level_size: int) -> tuple[int, int]:
    """Set one level of a side; return its new begin and end. Size 0 deletes; deleting nothing is nothing.

    Args:
        key, size: (ROOM,), of the side: a tuple of all arrays would cost more to pass on than the work.
        begin, end: of the side.
        level_key: side times price.
        level_size: in increments.
    """
    at = _below(key, begin, end, level_key)
    if at < end and key[at] == level_key:
        if level_size > 0:
            size[at] = level_size
            return begin, end
        return _delete(key, size, begin, end, at)
    if level_size > 0:
        return _insert(key, size, begin, end, at, level_key, level_size)
    return begin, end
