"""Loops over the bytes of CSV rows: fields, exact numbers, comparisons.

Field c of row r is ``text[bounds[r, c] : bounds[r, c + 1] - 1]``, less a carriage return.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from features.kernel import kernel
from pipeline.sources.decimals import BAD_DECIMAL, OFF_INCREMENT, OVERFLOW

Array = np.ndarray[Any, Any]

MISSING: Final = 1
"""Fault of a number whose field is empty; the codes of :mod:`.decimals` are negative."""

_MAX: Final = 2**63 - 1


@kernel
def find_fields(text: Array, columns: int, bounds: Array, torn: Array) -> None:
    """Where the fields of rows begin: ``bounds`` (rows, columns + 1), zero inside torn rows."""
    row, column, start = 0, 0, 0
    for i in range(len(text)):
        byte = text[i]
        if byte == 44:  # ,
            column += 1
            if column < columns:
                bounds[row, column] = i + 1
        elif byte == 10:
            if column != columns - 1:
                torn[row] = True
                for c in range(columns):
                    bounds[row, c] = 0
            bounds[row, 0] = start
            bounds[row, columns] = i + 1
            row, column, start = row + 1, 0, i + 1


@kernel
def _span(text: Array, bounds: Array, row: int, column: int) -> tuple[int, int]:
    start, end = bounds[row, column], bounds[row, column + 1] - 1
    if end > start and text[end - 1] == 13:  # \r
        end -= 1
    return start, end


@kernel
def _power(units: int, exponent: int) -> int:
    """``units * 10**exponent``, or -1 when that is beyond int64."""
    while exponent > 0 and units != 0:
        if units > _MAX // 10:
            return -1
        units *= 10
        exponent -= 1
    return units


@kernel
def _mantissa(text: Array, start: int, end: int) -> tuple[int, int, int, int]:
    """Digits as one integer, how many of them stand behind the point, where they end, and a fault.

    Digits beyond what an int64 holds are dropped behind the point; the fault is OFF_INCREMENT if one was not zero.
    """
    units, decimals, digits, point, fault, at = 0, 0, 0, False, 0, start
    while at < end:
        byte = text[at]
        if byte == 46 and not point and digits > 0:
            point = True
        elif byte >= 48 and byte <= 57:
            digit = int(byte) - 48
            digits += 1
            if units <= (_MAX - digit) // 10:
                units = units * 10 + digit
                decimals += 1 if point else 0
            elif not point:
                return 0, 0, at, OVERFLOW
            elif digit:
                fault = OFF_INCREMENT
        else:
            break
        at += 1
    if digits == 0 or text[at - 1] == 46:
        return 0, 0, at, BAD_DECIMAL
    return units, decimals, at, fault


@kernel
def _exponent(text: Array, at: int, end: int) -> tuple[int, bool]:
    """The exponent that begins at ``at`` (0 at the end), and whether it is one."""
    if at == end:
        return 0, True
    if text[at] != 69 and text[at] != 101:  # E e
        return 0, False
    at += 1
    negative = at < end and text[at] == 45
    if at < end and (text[at] == 45 or text[at] == 43):
        at += 1
    if at == end or end - at > 3:
        return 0, False
    value = 0
    while at < end:
        if text[at] < 48 or text[at] > 57:
            return 0, False
        value = value * 10 + int(text[at]) - 48
        at += 1
    return (-value if negative else value), True


@kernel
def _decimal(text: Array, start: int, end: int, decimals: int, multiple: int, exact: bool) -> tuple[int, int]:
    """Count of increments of the number in ``text[start:end]``, and its fault."""
    negative = start < end and text[start] == 45
    units, printed, at, fault = _mantissa(text, start + 1 if negative else start, end)
    if fault in (BAD_DECIMAL, OVERFLOW) or (fault and exact):
        return 0, fault
    exponent, good = _exponent(text, at, end)
    if not good:
        return 0, BAD_DECIMAL
    shift = decimals - printed + exponent
    if shift >= 0:
        units = _power(units, shift)
        if units < 0:
            return 0, OVERFLOW
    elif exact:
        while shift < 0 and units != 0:
            if units % 10:
                return 0, OFF_INCREMENT
            units //= 10
            shift += 1
    else:
        last = 0
        while shift < 0 and (units != 0 or last != 0):
            last = units % 10
            units //= 10
            shift += 1
        if last >= 5:
            units += 1
    if units % multiple:
        return 0, OFF_INCREMENT
    units //= multiple
    return (-units if negative else units), 0


@kernel
def parse_column(
    text: Array,
    bounds: Array,
    torn: Array,
    column: int,
    code: Array,
    form: Array,
    exact: bool,
    out: Array,
    fault: Array,
) -> None:
    """Counts of the increments ``form[code[row]] = (decimals, multiple)``, and 0 or the fault of each row."""
    for row in range(len(bounds)):
        out[row] = 0
        start, end = _span(text, bounds, row, column)
        if torn[row]:
            fault[row] = BAD_DECIMAL
        elif start >= end:
            fault[row] = MISSING
        else:
            out[row], fault[row] = _decimal(text, start, end, form[code[row], 0], form[code[row], 1], exact)


@kernel
def count_decimals(text: Array, bounds: Array, column: int, out: Array) -> None:
    """How many decimals each field of a column prints."""
    for row in range(len(bounds)):
        out[row] = 0
        start, end = _span(text, bounds, row, column)
        if start >= end:
            continue
        _, printed, at, fault = _mantissa(text, start + 1 if text[start] == 45 else start, end)
        exponent, good = _exponent(text, at, end)
        if good and (fault == 0 or fault == OFF_INCREMENT):
            out[row] = min(9, max(0, printed - exponent))


@kernel
def mark_changes(text: Array, bounds: Array, column: int, out: Array) -> None:
    """Set where a field differs from that of the row before."""
    for row in range(len(bounds)):
        start, end = _span(text, bounds, row, column)
        if row == 0:
            out[row] = True
            continue
        before, before_end = _span(text, bounds, row - 1, column)
        if end - start != before_end - before:
            out[row] = True
            continue
        for i in range(end - start):
            if text[start + i] != text[before + i]:
                out[row] = True
                break


@kernel
def mark_equal(text: Array, bounds: Array, column: int, word: Array, out: Array) -> None:
    """Whether each field equals ``word``."""
    for row in range(len(bounds)):
        start, end = _span(text, bounds, row, column)
        out[row] = end - start == len(word)
        if out[row]:
            for i in range(len(word)):
                if text[start + i] != word[i]:
                    out[row] = False
                    break
