"""Times as feeds write them, in nanoseconds since the Unix epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from pipeline.sources.base import UnusableError

ISO: Final = "iso"

UNITS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Formats of numbers: the unit, in nanoseconds."""

LATEST_NS: Final = 2**62
"""February 2116: a later time is a mistake."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def parse_time(value: Any, form: str) -> int:
    """A time in nanoseconds, without a float on the way.

    Args:
        value: text, or a number.
        form: ``iso`` (ISO 8601), a unit of a number since the epoch (``s``, ``ms``, ``us``, ``ns``), or a pattern of
            ``datetime.strptime``. A time without a zone is UTC.

    Raises:
        UnusableError: ``bad_time``: it is missing, has another form, or lies before 1970 or after 2116.
    """
    try:
        found = _number(value, UNITS[form]) if form in UNITS else _written(value, form)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UnusableError("bad_time", f"{value!r} is no time of the form {form!r}") from error
    if not 0 <= found < LATEST_NS:
        raise UnusableError("bad_time", f"{value!r} lies before 1970 or after 2116")
    return found


def _number(value: Any, unit_ns: int) -> int:
    if isinstance(value, bool):
        raise TypeError("a truth value")
    number = Decimal(value if isinstance(value, int) else str(value).strip())
    if not number.is_finite() or abs(number) > LATEST_NS:
        raise ValueError("out of range")
    return int(number * unit_ns)


def _written(value: Any, form: str) -> int:
    text = value.strip() if isinstance(value, str) else ""
    moment = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND * 1_000
