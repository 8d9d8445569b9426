"""The writing side of the lake: what each table holds of the log, and the appends that bring it further."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import structlog

from pipeline.lake import Lake, LakeError, LakeSchemaError, LakeUnavailableError
from pipeline.lake_location import Place
from pipeline.lake_writer_letters import DeadLetters
from pipeline.lake_writer_repeats import LastBars, Repeats
from pipeline.lake_writer_rows import Piece, stacked
from pipeline.processor import Offsets, Position
from pipeline.tables import Table
from pipeline.topics import DEAD_LETTER

if TYPE_CHECKING:
    from pipeline.metrics import WorkerMetrics

LOG_ID: Final = ("log.id", 0)
"""Where a table's transactions say which log it was written from."""

MOST_TAKEOVERS: Final = 3
"""Times that another writer may have been before us. A worker that was thought dead and is not explains one."""

MOST_TRIES: Final = 5


class LakeConflictError(LakeError):
    """The lake cannot be written by us, now or later."""


class LakeTables:
    """One assignment's view of the tables; a later one makes its own.

    Each append carries beside the rows the next offset of every partition that it covers, the offset at which this
    commit (which may touch several tables) began, who wrote, and the identity of the log. The greatest beginning that
    any table names is where the log has to be read again: what lies before it is in all tables.
    """

    def __init__(self, place: Place, tables: Iterable[Table], log_id: str, metrics: WorkerMetrics) -> None:
        self._place = place
        self._lake = Lake(place)
        self._tables = {table.name: table for table in tables}
        self._log_id = _number(log_id)
        self._metrics = metrics
        self._repeats: dict[str, Repeats] = {}
        self._takeovers = 0
        self._writer = secrets.randbits(62) | 1

    def require_log(self, log_id: str) -> None:
        """Refuse a log that is not the one that the tables were written from.

        Raises:
            LakeError: it is another one.
            LakeUnavailableError: the store failed.
        """
        for table in self._tables.values():
            known = self._lake.version(table, *LOG_ID)
            if known not in (0, self._log_id):
                raise LakeConflictError(
                    f"{self._lake.path / table.name} was written from another log than the broker's ({log_id}).",
                    "The embedded broker keeps nothing when it stops: use another --lake for a new log, and another "
                    "`application` for the workers; `hedgeflow backfill` reads the old lake's raw tables.",
                )

    def require_end(self, position: Position, end: int) -> None:
        """Refuse a log that is shorter than what the tables hold of it.

        Raises:
            LakeError: it is.
            LakeUnavailableError: the store failed.
        """
        topic, partition = position
        known = max(self._lake.version(table, *position) for table in self._tables.values() if table.topic == topic)
        if known > end:
            raise LakeConflictError(
                f"The lake holds {topic}/{partition} up to offset {known}, the broker only up to {end}.",
                "The embedded broker keeps nothing when it stops: use another --lake for a new log.",
            )

    def begin(self, position: Position) -> int:
        """The offset before which all tables hold everything.

        Raises:
            LakeUnavailableError: the store failed.
        """
        topic, partition = position
        tables = [table for table in self._tables.values() if table.topic == topic]
        return max(self._lake.version(table, *_beginning((topic, partition))) for table in tables)

    def write(self, name: str, pieces: Sequence[Piece], begin: Offsets, end: Offsets) -> int:
        """Bring a table to ``end``, from wherever it stands; how many rows were new.

        Args:
            name: of the table.
            pieces: in the order of each partition.
            begin: where the commit that this belongs to began.
            end: the next offsets after it.

        Raises:
            LakeUnavailableError: the store failed or is full: call again, with the same or more.
            LakeError: another writer keeps writing the same partitions, or the columns contradict the table's.
        """
        table = self._tables[name]
        started = time.monotonic()
        for _ in range(MOST_TRIES):
            held = {position: self._lake.version(table, *position) for position in end if position[0] == table.topic}
            rows = self._new_rows(table, [piece for piece in pieces if piece.offset >= held.get(piece.position, 0)])
            if not len(rows):
                return 0
            ahead = {position: end[position] for position, at in held.items() if end[position] > at}
            if self._appended(table, rows, begin, ahead, held):
                self._repeats_of(table).committed(rows)
                self._metrics.lake_commit(name, len(rows), time.monotonic() - started)
                return len(rows)
        raise LakeUnavailableError(f"{self._lake.path / name} is written by others all the time.", "It is tried again.")

    def _appended(self, table: Table, rows: pa.Table, begin: Offsets, ahead: Offsets, held: Offsets) -> bool:
        """Whether the append succeeded; if not, the table is to be asked again where it stands."""
        try:
            self._lake.append(table, rows, self._transactions(table, begin, ahead))
        except LakeUnavailableError:
            raise
        except LakeSchemaError as error:
            raise LakeConflictError(error.problem, error.remedy) from error
        except LakeError as error:
            self._overtaken(table, held, error)
            return False
        return True

    def _new_rows(self, table: Table, pieces: Sequence[Piece]) -> pa.Table:
        rows = stacked(table, pieces) if pieces else table.schema.empty_table()
        return self._repeats_of(table).fresh(rows)

    def _transactions(self, table: Table, begin: Offsets, ahead: Offsets) -> Mapping[Position, int]:
        named = dict(ahead)
        for position in ahead:
            named[_beginning(position)] = begin[position]
            named[_writer(position)] = self._writer
        if not self._lake.version(table, *LOG_ID):
            named[LOG_ID] = self._log_id
        return named

    def _overtaken(self, table: Table, held: Offsets, error: LakeError) -> None:
        """Somebody wrote the same transactions: ourselves, if an append succeeded whose answer was lost, or another.

        Raises:
            LakeError: another did, time and again.
        """
        self._lake = Lake(self._place)
        self._repeats.clear()
        moved = [position for position in held if self._lake.version(table, *position) != held[position]]
        if any(self._lake.version(table, *_writer(position)) != self._writer for position in moved):
            self._takeovers += 1
            structlog.get_logger().bind(stage="lake").warning("overtaken", table=table.name, by="another writer")
            if self._takeovers > MOST_TAKEOVERS:
                raise LakeConflictError(error.problem, error.remedy) from error

    def _repeats_of(self, table: Table) -> Repeats:
        if table.name not in self._repeats:
            self._repeats[table.name] = self._fresh_repeats(table)
        return self._repeats[table.name]

    def _fresh_repeats(self, table: Table) -> Repeats:
        if table.key:
            return LastBars(self._lake, table)
        return DeadLetters(self._lake, table) if table.topic == DEAD_LETTER else _None()


class _None:
    """Rows that their position in the log identifies."""

    def fresh(self, rows: pa.Table) -> pa.Table:
        return rows

    def committed(self, rows: pa.Table) -> None:
        pass


def _beginning(position: Position) -> Position:
    return f"{position[0]}/from", position[1]


def _writer(position: Position) -> Position:
    return f"{position[0]}/writer", position[1]


def _number(log_id: str) -> int:
    """An identity as Delta's transactions hold one: a positive number."""
    return int.from_bytes(hashlib.blake2b(log_id.encode(), digest_size=8).digest()) >> 1 or 1
