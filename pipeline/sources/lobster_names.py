"""What the name of a LOBSTER file tells: symbol, day, levels; and when its seconds begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from features.errors import BadInputError
from features.events import NANO

_NAME: Final = re.compile(
    r"(?P<symbol>[A-Za-z0-9.\-]+)_(?P<day>\d{4}-\d\d-\d\d)_\d+_\d+_(?P<what>message|orderbook)_(?P<levels>\d+)"
    r"(?P<rest>\.csv(?:\.gz)?)"
)


@dataclass(frozen=True, slots=True)
class LobsterPair:
    """The two files of one symbol and day."""

    symbol: str
    day: date
    levels: int
    message: Path
    orderbook: Path

    @property
    def name(self) -> str:
        """As in the log."""
        return f"nasdaq:{self.symbol}"

    @property
    def midnight_ns(self) -> int:
        """The beginning of the day in New York, from which the files count seconds."""
        return midnight_ns(self.day)


def is_lobster(path: Path) -> bool:
    """Whether the name is that of a LOBSTER file."""
    return _NAME.fullmatch(path.name) is not None


def pairs_of(paths: list[Path]) -> list[LobsterPair]:
    """The pairs that ``paths`` belong to, by symbol and day; the other file of a pair is looked for beside it.

    Raises:
        BadInputError: a name does not tell what the file holds, or a file's partner is missing.
    """
    found: dict[tuple[str, date], LobsterPair] = {}
    given = {path.name: path for path in paths}
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise BadInputError(
                f"The name {path.name} does not tell symbol, day and levels.",
                "Keep LOBSTER's names, such as AAPL_2012-06-21_34200000_57600000_message_10.csv.",
            )
        both = [_partner(path, match, what, given) for what in ("message", "orderbook")]
        try:
            day = date.fromisoformat(match["day"])
        except ValueError as error:
            raise BadInputError(f"{path.name} names no day: {error}.", "Keep LOBSTER's names.") from error
        found.setdefault((match["symbol"], day), LobsterPair(match["symbol"], day, int(match["levels"]), *both))
    return [found[key] for key in sorted(found)]


def _partner(path: Path, match: re.Match[str], what: str, given: dict[str, Path]) -> Path:
    name = path.name[: match.start("what")] + what + path.name[match.end("what") :]
    for each in (name, name.removesuffix(".gz"), name.removesuffix(".gz") + ".gz"):
        if each in given:
            return given[each]
        if (path.parent / each).exists():
            return path.parent / each
    raise BadInputError(
        f"{path.name} lies there without {name}.", "A book needs both files: the messages and the order book."
    )


def midnight_ns(day: date) -> int:
    """00:00 in New York, in ns of UTC; by the United States' rule since 2007, when LOBSTER's data begin.

    >>> midnight_ns(date(2012, 6, 21)) == 1_340_251_200 * 10**9
    True
    """
    march, november = date(day.year, 3, 1), date(day.year, 11, 1)
    begins = march + timedelta(days=(6 - march.weekday()) % 7 + 7)
    ends = november + timedelta(days=(6 - november.weekday()) % 7)
    hours = 4 if begins < day <= ends else 5
    return int(datetime(day.year, day.month, day.day, hours, tzinfo=UTC).timestamp()) * NANO
