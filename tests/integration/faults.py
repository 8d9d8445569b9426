"""The fault harness: what goes wrong between a source and a lake, on purpose and repeatably.

Workers are killed and paused through ``pipeline.processes``; messages are lost and repeated here, on their way into
the log.
"""

from __future__ import annotations

from collections.abc import Collection

from features.events import EventBatch
from features.stage import Reject
from pipeline.edge import Log


class FaultyLog:
    """A log that loses and repeats the messages with the given numbers."""

    def __init__(self, log: Log, lose: Collection[int] = (), repeat: Collection[int] = ()) -> None:
        self._log = log
        self._lose = frozenset(lose)
        self._repeat = frozenset(repeat)
        self._number = 0

    def append(self, batch: EventBatch) -> None:
        """Append once, twice, or not at all."""
        number, self._number = self._number, self._number + 1
        if number in self._lose:
            return
        self._log.append(batch)
        if number in self._repeat:
            self._log.append(batch)

    def reject(self, origin: str, reject: Reject) -> None:
        """Pass on."""
        self._log.reject(origin, reject)
