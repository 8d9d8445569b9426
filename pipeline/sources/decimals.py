"""Decimal strings of venues become counts of an instrument's increments, exactly: no float on the way.

With increment m 10^-d (d minimal), the string s denotes s / (m 10^-d) increments. A string that is not a whole number
of increments is refused, never rounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from features.errors import ConfigError
from features.kernel import kernel
from pipeline.sources.base import UnusableError

Array = np.ndarray[Any, Any]

BAD_DECIMAL: Final = -1
OFF_INCREMENT: Final = -2
OVERFLOW: Final = -3
MALFORMED: Final = -4

REASONS: Final = {
    BAD_DECIMAL: ("bad_decimal", "not a plain decimal number"),
    OFF_INCREMENT: ("off_increment", "not a whole number of increments"),
    OVERFLOW: ("number_overflow", "more increments than an int64 holds"),
    MALFORMED: ("unexpected_form", "not decimals as strings, in pairs of [price, size]"),
}

_MAX: Final = 2**63 - 1
_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Increment:
    """A price or size increment of ``multiple`` units of 10^-``decimals``."""

    decimals: int
    multiple: int

    @classmethod
    def from_e9(cls, value_e9: int) -> Increment:
        """From a count of 1e-9.

        >>> Increment.from_e9(500_000_000)
        Increment(decimals=1, multiple=5)
        """
        if value_e9 <= 0:
            raise ConfigError(f"An increment of {value_e9} e-9 is not positive.", "Give the venue's tick or lot size.")
        decimals, multiple = 9, value_e9
        while decimals > 0 and multiple % 10 == 0:
            decimals, multiple = decimals - 1, multiple // 10
        return cls(decimals, multiple)

    @property
    def e9(self) -> int:
        """As a count of 1e-9."""
        return self.multiple * int(10 ** (9 - self.decimals))

    def count(self, text: str) -> int:
        """How many increments ``text`` denotes.

        Raises:
            UnusableError: it is no plain decimal, no whole number of increments, or beyond int64.

        >>> Increment.from_e9(10_000_000).count("61800.20")
        6180020
        """
        return self.count_json(b'"%s"' % text.encode())

    def count_json(self, raw: bytes) -> int:
        """The same, of a decimal in its JSON quotes, as bytes or ``msgspec.Raw``."""
        count, end = _number(np.frombuffer(raw, dtype=np.uint8), 0, self.decimals, self.multiple)
        if end < 0:
            raise refusal(end, bytes(raw).decode("utf-8", "replace"))
        if end != len(raw):
            raise refusal(BAD_DECIMAL, bytes(raw).decode("utf-8", "replace"))
        return int(count)


def increment_of_decimals(texts: Sequence[str]) -> Increment:
    """The increment 10^-d, where d is the most decimals that one of ``texts`` prints.

    A venue prints every price with at least the decimals that its increment needs. So counts of this increment are
    exact, though it may be finer than the venue's.

    Raises:
        UnusableError: one is no plain decimal, or has more than nine decimals.
    """
    decimals = 0
    for text in texts:
        match = _DECIMAL.fullmatch(text)
        if match is None:
            raise refusal(BAD_DECIMAL, text)
        decimals = max(decimals, len(match[1] or ""))
    return Increment(decimals, 1)


def refusal(code: int, text: str) -> UnusableError:
    """The error for one of the codes of this module."""
    reason, detail = REASONS[code]
    return UnusableError(reason, f"{text[:60]!r} is {detail}")


@kernel
def _number(text: Array, start: int, decimals: int, multiple: int) -> tuple[int, int]:
    """Count of increments of the quoted decimal that begins at ``start``, and the position behind its quote."""
    at, end = start, len(text)
    if at >= end or text[at] != 34:  # "
        return 0, MALFORMED
    at += 1
    negative = at < end and text[at] == 45  # -
    if negative:
        at += 1
    units, digits, seen, point, left = 0, 0, 0, False, decimals
    while at < end and text[at] != 34:
        digit = int(text[at]) - 48
        if text[at] == 46 and not point and digits > 0:  # .
            point, seen = True, digits
        elif digit < 0 or digit > 9:
            return 0, BAD_DECIMAL
        elif point and left == 0:
            digits += 1
            if digit != 0:
                return 0, OFF_INCREMENT
        else:
            digits += 1
            if point:
                left -= 1
            if units > (_MAX - digit) // 10:
                return 0, OVERFLOW
            units = units * 10 + digit
        at += 1
    if at >= end:
        return 0, MALFORMED
    if digits == 0 or (point and digits == seen):
        return 0, BAD_DECIMAL
    while left > 0:
        if units > _MAX // 10:
            return 0, OVERFLOW
        units *= 10
        left -= 1
    if units % multiple:
        return 0, OFF_INCREMENT
    units //= multiple
    return (-units if negative else units), at + 1


@kernel
def _skip(text: Array, at: int, byte: int) -> int:
    """The position behind ``byte``, with white space before and after it; MALFORMED if it is not there."""
    if at < 0:
        return at
    end = len(text)
    while at < end and (text[at] == 32 or (text[at] >= 9 and text[at] <= 13)):
        at += 1
    if at >= end or text[at] != byte:
        return MALFORMED
    at += 1
    while at < end and (text[at] == 32 or (text[at] >= 9 and text[at] <= 13)):
        at += 1
    return at


@kernel
def parse_levels(
    text: Array, price_decimals: int, price_multiple: int, size_decimals: int, size_multiple: int, out: Array
) -> int:
    """Parse ``[["price","size"],...]`` into ``out[i] = (price, size)`` in counts of increments.

    Args:
        text: the JSON text as bytes.
        price_decimals, price_multiple, size_decimals, size_multiple: the two increments.
        out: room for the levels, shape (n, 2); ``len(text) // 8`` rows always suffice.

    Returns:
        How many levels there are, or one of the negative codes of this module.
    """
    at = _skip(text, 0, 91)  # [
    if at < 0:
        return MALFORMED
    if at < len(text) and text[at] == 93:  # ]
        return 0
    count = 0
    while True:
        at = _skip(text, at, 91)
        if at < 0:
            return MALFORMED
        price, at = _number(text, at, price_decimals, price_multiple)
        if at < 0:
            return at
        at = _skip(text, at, 44)  # ,
        if at < 0:
            return MALFORMED
        size, at = _number(text, at, size_decimals, size_multiple)
        if at < 0:
            return at
        at = _skip(text, at, 93)
        if at < 0 or at >= len(text):
            return MALFORMED
        out[count, 0] = price
        out[count, 1] = size
        count += 1
        if text[at] == 93:
            return count
        at = _skip(text, at, 44)
        if at < 0:
            return MALFORMED


def levels_of(text: bytes, price: Increment, size: Increment) -> Array:
    """The levels of ``[["price","size"],...]`` as counts of increments, shape (n, 2).

    Raises:
        UnusableError: a level cannot be used.
    """
    out = np.empty((len(text) // 8 + 1, 2), dtype=np.int64)
    count = parse_levels(
        np.frombuffer(text, dtype=np.uint8), price.decimals, price.multiple, size.decimals, size.multiple, out
    )
    if count < 0:
        raise refusal(count, text.decode("utf-8", "replace"))
    return out[:count]
