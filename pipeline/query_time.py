"""As of when a lake is read: a commit time for all tables, or a version a table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from features.errors import BadInputError
from pipeline.tables import TABLES

AsOf = str | int | datetime | Mapping[str, int]
"""ISO 8601 text, ns since 1970 (UTC) or a datetime (without a zone: UTC): every table as committed by then. Or a
version by table; tables that it does not name are the newest."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE = "Such as 2026-01-05T14:30:00Z, or ns since 1970."


def moment(text: str | int | datetime) -> datetime:
    """The time that a text, a number of ns or a datetime names, in UTC.

    Raises:
        BadInputError: it names none.
    """
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=UTC)
    try:
        if isinstance(text, int) or text.strip().isdecimal():
            # Commits are stamped in ms: to round down to µs never shows one that came later.
            return _EPOCH + timedelta(microseconds=int(text) // 1_000)
        return moment(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise BadInputError(f"{text!r} is no time.", _EXAMPLE) from None


def versions(by_table: Mapping[str, int]) -> Mapping[str, int]:
    """The same, once its tables are known.

    Raises:
        BadInputError: one is unknown.
    """
    for name in by_table:
        if name not in TABLES:
            raise BadInputError(f"There is no table {name!r}.", f"There are {', '.join(TABLES)}.")
    return by_table
