"""Messages that the lake's writer cannot decode: who tells of them, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from features.stage import Reject
from pipeline import topics
from pipeline.lake_writer_letters import LAKE
from pipeline.log import Outbox, send_dead_letter
from pipeline.processor import Position
from pipeline.settings import Settings

TOLD_BY_A_STAGE: Final = frozenset({topics.EVENTS, topics.DECISION_INPUTS, topics.DEAD_LETTER})
"""Topics whose stage (``features``, ``decisions``) takes every message and sends its letter; a letter that cannot be
read is stored as it is. All others may have no reader but the lake: stages chained in one process hand their rows on in
memory, and a decider need not run. When such a reader is there, its letter and ours are one in the table."""


@dataclass(frozen=True, slots=True)
class Poison:
    """A message that cannot be decoded, and why."""

    position: Position
    offset: int
    reason: str
    detail: str
    kind: str
    key: str
    payload: bytes


class PoisonLetters:
    """Sends the dead letters of the lake's writer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outbox: Outbox | None = None

    def send(self, letters: Sequence[Poison]) -> None:
        """Send the letters and wait until the broker has them.

        Raises:
            BrokerError: it does not take them; they may be sent again, and the table keeps one of each.
        """
        if not letters:
            return
        # A producer that has failed stays so: another attempt takes another one.
        outbox, self._outbox = self._outbox or Outbox(self._settings), None
        for letter in letters:
            where = {
                "stage": LAKE,
                "topic": letter.position[0],
                "partition": str(letter.position[1]),
                "offset": str(letter.offset),
                "source_kind": letter.kind,
                "source_key": letter.key,
            }
            send_dead_letter(outbox, Reject(letter.reason, letter.detail), where, letter.payload)
        outbox.flush()
        self._outbox = outbox
