"""One commit of the lake's writer: tried in the background until all its tables have it, however long that takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
from polars.exceptions import PolarsError

from pipeline.kafka import BrokerError
from pipeline.lake import LakeUnavailableError
from pipeline.lake_writer_poison import Poison, PoisonLetters
from pipeline.lake_writer_rows import Piece
from pipeline.lake_writer_tables import LakeTables
from pipeline.processor import Position

if TYPE_CHECKING:
    from pipeline.metrics import WorkerMetrics

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 15.0

PASSING: Final = (LakeUnavailableError, BrokerError, PolarsError, OSError)
"""Errors that may pass: of the store, of the broker that takes dead letters, and of a file that compaction removed
while we read which bars the lake has."""


@dataclass(slots=True)
class Waiting:
    """What was taken and is not committed: rows by table, letters of poison, and the offsets that both reach.

    ``begin`` and ``end`` are next offsets, by position.
    """

    begin: dict[Position, int] = field(default_factory=dict)
    end: dict[Position, int] = field(default_factory=dict)
    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    poison: list[Poison] = field(default_factory=list)
    rows: int = 0
    size: int = 0

    def add(self, table: str, piece: Piece) -> None:
        """One message's rows."""
        self.pieces.setdefault(table, []).append(piece)
        self.rows += piece.data.num_rows
        self.size += piece.size

    def without(self, positions: Collection[Position]) -> Waiting:
        """What remains when partitions are taken away."""
        rest = Waiting(
            {position: at for position, at in self.begin.items() if position not in positions},
            {position: at for position, at in self.end.items() if position not in positions},
            poison=[each for each in self.poison if each.position not in positions],
        )
        for table, pieces in self.pieces.items():
            for piece in pieces:
                if piece.position not in positions:
                    rest.add(table, piece)
        return rest


class LakeCommit:
    """Brings the lake from ``waiting.begin`` to ``waiting.end``.

    An attempt runs in a thread of its own, so that the worker's loop goes on; the loop starts the next one when the
    last has failed and its pause is over. Attempts may be repeated at any point: each table is asked where it stands.
    """

    def __init__(self, waiting: Waiting, letters: PoisonLetters, metrics: WorkerMetrics) -> None:
        self.waiting = waiting
        self.done = not waiting.pieces and not waiting.poison
        self.failures = 0
        self._letters = letters
        self._metrics = metrics
        self._log = structlog.get_logger().bind(stage="lake")
        self._thread: threading.Thread | None = None
        self._lasting: BaseException | None = None
        self._failing = ""
        self._in_a_row = 0
        self._not_before = 0.0

    @property
    def running(self) -> bool:
        """Whether an attempt is on its way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, tables: LakeTables, *, at_once: bool = False) -> None:
        """Begin an attempt, unless one runs, or the pause after the last failure is not over.

        Raises:
            HedgeflowError: the last attempt ended with an error that will not pass.
        """
        if self._lasting is not None:
            raise self._lasting
        if self.done or self.running or (not at_once and time.monotonic() < self._not_before):
            return
        # A daemon: a store that hangs must not keep the process from ending. What a commit left half done nobody sees.
        self._thread = threading.Thread(target=self._attempt, args=(tables, self.waiting), name="lake", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Until the attempt that runs has ended, or the time is over."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def give_up(self, positions: Collection[Position]) -> None:
        """Leave partitions to their next owner; an attempt that runs still includes them, and is refused if late."""
        self.waiting = self.waiting.without(positions)

    def _attempt(self, tables: LakeTables, waiting: Waiting) -> None:
        doing = "dead_letters"
        try:
            self._letters.send(waiting.poison)
            for doing, pieces in waiting.pieces.items():
                tables.write(doing, pieces, waiting.begin, waiting.end)
            self.done = True
        except PASSING as error:
            self._failed(doing, error)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the loop raises it; a panic of delta-rs is one)
            if type(error).__name__ == "PanicException":
                self._failed(doing, error)
            else:
                self._lasting = error

    def _failed(self, table: str, error: BaseException) -> None:
        # Another table than the last time: there was progress.
        self._in_a_row = self._in_a_row + 1 if table == self._failing else 0
        self._failing = table
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._in_a_row)
        self.failures += 1
        self._not_before = time.monotonic() + pause_s
        self._metrics.lake_failure(table)
        self._log.warning("commit failed", table=table, error=str(error), failures=self.failures, again_in_s=pause_s)
