"""How far the time of a venue with several underlyings has come, and when that is worth a heartbeat."""

from __future__ import annotations

from typing import Final

from features.events import NANO

QUIET_NS: Final = NANO
"""How far the stream time of a quiet underlying stays behind the venue's: its own messages may be on their way."""


class VenueTime:
    """The largest time that each underlying's messages have named, by the venue's clock."""

    def __init__(self) -> None:
        self.largest = 0
        self._reached: dict[str, int] = {}
        self._second: dict[str, int] = {}

    def note(self, ts_event: int) -> None:
        """A time that the venue named apart from any underlying."""
        self.largest = max(self.largest, ts_event)

    def observe(self, underlying: str, ts_event: int) -> None:
        """A time that a message about ``underlying`` named."""
        self.note(ts_event)
        self._reached[underlying] = max(self.reached(underlying), ts_event)

    def reached(self, underlying: str) -> int:
        """The largest time of ``underlying``, 0 before the first."""
        return self._reached.get(underlying, 0)

    def heartbeats(self) -> list[tuple[str, int]]:
        """(underlying, time) for each whose stream time has come into a new second.

        An underlying that is quiet follows the venue's largest time, :data:`QUIET_NS` behind.
        """
        due = []
        for underlying, reached in self._reached.items():
            reached = max(reached, self.largest - QUIET_NS)
            if reached // NANO > self._second.get(underlying, 0):
                self._second[underlying] = reached // NANO
                due.append((underlying, reached))
        return due
