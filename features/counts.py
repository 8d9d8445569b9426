"""Counts of increments as decimal numbers."""

from __future__ import annotations

from typing import Final

from features.events import NANO
from features.kernel import row_kernel

MAX_COUNT: Final = 2**46
"""Of a price or a size, in increments: beyond it is garbage, and sums over a book or basis points could wrap."""

_EXACT: Final = float(2**62)


@row_kernel
def decimal(count: int, increment_e9: int) -> float:
    """``count`` increments: exact up to the one division, as far as the product fits into an int64."""
    if abs(float(count)) * float(increment_e9) < _EXACT:
        return (count * increment_e9) / NANO
    return float(count) * (increment_e9 / NANO)
