"""Times as an operator writes and reads them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from features.errors import ConfigError

_NANO = 1_000_000_000
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def since_ns(text: str | None) -> int:
    """The time that ``--since`` means, ns since the epoch; 0 without it.

    Raises:
        ConfigError: it is neither a duration nor a time.
    """
    if text is None:
        return 0
    if match := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return time.time_ns() - int(match[1]) * _SECONDS[match[2]] * _NANO
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--since {text} is no time.", "Write 30m, 6h, 2d, or 2026-01-31T12:00.") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1_000) * 1_000_000


def utc(nanoseconds: int) -> str:
    """Date and time to the second.

    >>> utc(1_767_571_200_000_000_000)
    '2026-01-05 00:00:00'
    """
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(nanoseconds // _NANO))
