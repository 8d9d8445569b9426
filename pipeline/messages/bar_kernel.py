"""Bars a key, row by row: floats are summed in the order of the log."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from features.kernel import kernel

Array = np.ndarray[Any, Any]

OPEN, HIGH, LOW, CLOSE, VOLUME, NOTIONAL = range(6)
FLOATS: Final = 6
END, COUNT, LATE = range(3)
INTEGERS: Final = 3


@kernel
def advance(
    code: Array,
    ts: Array,
    price: Array,
    size: Array,
    interval: int,
    integers: Array,
    floats: Array,
    out_code: Array,
    out_integers: Array,
    out_floats: Array,
) -> int:
    """Take rows; write the bars that they close, and return how many.

    A bar (t - interval, t] of a key closes at its first row beyond t. A row that comes after its bar was closed is
    late: it is counted, in the bar that is open then, and left out.
    """
    closed = 0
    for i in range(len(code)):
        k = code[i]
        end = -((-ts[i]) // interval) * interval
        if integers[k, END] > end:
            integers[k, LATE] += 1
            continue
        if integers[k, END] < end:
            if integers[k, COUNT] > 0:
                out_code[closed] = k
                for j in range(INTEGERS):
                    out_integers[closed, j] = integers[k, j]
                for j in range(FLOATS):
                    out_floats[closed, j] = floats[k, j]
                closed += 1
                integers[k, LATE] = 0
            integers[k, END] = end
            integers[k, COUNT] = 0
            floats[k, OPEN] = price[i]
            floats[k, HIGH] = price[i]
            floats[k, LOW] = price[i]
            floats[k, VOLUME] = 0.0
            floats[k, NOTIONAL] = 0.0
        floats[k, HIGH] = max(floats[k, HIGH], price[i])
        floats[k, LOW] = min(floats[k, LOW], price[i])
        floats[k, CLOSE] = price[i]
        floats[k, VOLUME] += size[i]
        floats[k, NOTIONAL] += price[i] * size[i]
        integers[k, COUNT] += 1
    return closed
