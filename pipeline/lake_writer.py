"""The ``lake`` worker: every topic into its tables, each row exactly once.

Offsets are committed to Kafka only after all tables hold what lies before them; where the log has to be read again
after a crash, the tables say themselves, and each drops what lies below the offset that its own last commit names. Rows
and dead letters of our own stages may also come twice under new offsets (their worker crashed and sent them again):
computed rows carry (key, bar), and what is not beyond the last bar of its key is dropped; letters name the message that
they are about.

Commits run in the background. A lake that fails is tried again while rows wait, up to ``lake_waiting_bytes``; then the
worker pauses.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from pipeline import topics
from pipeline.codec import KIND_HEADER, UndecodableError, decode_event, decode_rows, row_schemas
from pipeline.kafka import end_offsets, header
from pipeline.lake import LakeUnavailableError
from pipeline.lake_writer_commit import LakeCommit, Waiting
from pipeline.lake_writer_poison import TOLD_BY_A_STAGE, Poison, PoisonLetters
from pipeline.lake_writer_repeats import last_times
from pipeline.lake_writer_rows import Piece, stored_columns
from pipeline.lake_writer_tables import LakeTables
from pipeline.log_identity import read_log_id
from pipeline.processor import GroupMetadata, Offsets, Position
from pipeline.records import record_batch
from pipeline.settings import Settings
from pipeline.tables import TABLES, tables_of
from pipeline.user_features import catalogue_of

if TYPE_CHECKING:
    from pipeline.metrics import WorkerMetrics

__all__ = ["GROUP", "SOURCES", "LakeWriter", "last_times", "stored_columns"]

GROUP: Final = "lake"

SOURCES: Final = tuple(sorted({table.topic for table in TABLES.values()}))

FINAL_S: Final = 12.0
"""How long the last commit may take when partitions are handed over: less than a supervisor waits for us to stop."""

FINAL_ATTEMPTS: Final = 3
OPEN_ATTEMPTS: Final = 5

LARGEST_COMMIT: Final = 4
"""In ``lake_commit_rows``, and as a part of ``lake_waiting_bytes``: to build one takes memory beside what waits."""


class LakeWriter:
    """A processor whose sink is the lake."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics) -> None:
        self.name = GROUP
        self.sources: Sequence[str] = SOURCES
        self.alone = False
        self._settings = settings
        self._metrics = metrics
        catalogue = catalogue_of(settings)
        self._schemas = row_schemas(catalogue)
        self._all = tuple(tables_of(catalogue).values())
        self._by_kind = {(table.topic, table.kind): table for table in self._all}
        self._letters = PoisonLetters(settings)
        self._log = structlog.get_logger().bind(stage=GROUP)
        self._tables: LakeTables | None = None
        self._next: dict[Position, int] = {}
        self._waiting = Waiting()
        self._sealed: deque[Waiting] = deque()
        self._commit: LakeCommit | None = None
        self._durable: dict[Position, int] = {}
        self._last_commit = time.monotonic()

    # -- ownership ------------------------------------------------------------------------------------------------

    def assigned(self, partitions: Collection[Position]) -> Offsets:
        """Go on where the tables say; another writer may have had these partitions meanwhile, so they are read anew.

        Raises:
            LakeError: the log is not the one that the lake was written from, or the lake cannot be read.
            BrokerError: the broker does not answer.
        """
        if self._commit is not None:
            self._commit.wait(FINAL_S)
        log_id = read_log_id(self._settings)
        ends = end_offsets(self._settings, sorted({topic for topic, _ in partitions}))
        for attempt in range(OPEN_ATTEMPTS):
            try:
                begins = self._opened(partitions, log_id, ends)
            except LakeUnavailableError as error:
                if attempt == OPEN_ATTEMPTS - 1:
                    raise
                self._log.warning("lake cannot be read", error=str(error))
                time.sleep(2.0**attempt)
            else:
                break
        self._next.update(begins)
        self._waiting.begin.update(begins)
        # A crash between the tables' commit and the group's leaves the group behind.
        self._durable.update({position: at for position, at in begins.items() if at})
        return begins

    def _opened(self, partitions: Collection[Position], log_id: str, ends: Offsets) -> dict[Position, int]:
        tables = LakeTables(self._settings.lake, self._all, log_id, self._metrics)
        tables.require_log(log_id)
        for position in partitions:
            tables.require_end(position, ends[position])
        self._tables = tables
        return {position: tables.begin(position) for position in partitions}

    def released(self, partitions: Collection[Position]) -> None:
        """Forget these partitions, and what of theirs is not committed."""
        for position in partitions:
            self._next.pop(position, None)
            self._durable.pop(position, None)
        self._waiting = self._waiting.without(partitions)
        self._sealed = deque(each.without(partitions) for each in self._sealed)
        if self._commit is not None:
            self._commit.give_up(partitions)

    # -- messages -------------------------------------------------------------------------------------------------

    def take(self, messages: Sequence[Any]) -> None:
        """Decode messages, to wait for the next commit."""
        sizes: dict[str, list[int]] = defaultdict(list)
        before = self._waiting.rows
        for message in messages:
            position, offset = (message.topic(), message.partition()), message.offset()
            if offset < self._next.get(position, offset + 1):
                continue
            self._next[position] = self._waiting.end[position] = offset + 1
            payload = message.value() or b""
            sizes[position[0]].append(len(payload))
            try:
                self._keep(message, position, offset, payload)
            except UndecodableError as error:
                self._leave_out(message, position, offset, error)
        for topic, each in sizes.items():
            self._metrics.took(topic, len(each), sum(each))
        if self._waiting.rows > before:
            self._tell_waiting()
        if (
            self._waiting.rows >= LARGEST_COMMIT * self._settings.lake_commit_rows
            or self._waiting.size >= self._settings.lake_waiting_bytes // LARGEST_COMMIT
        ):
            self._seal()

    def _keep(self, message: Any, position: Position, offset: int, payload: bytes) -> None:
        topic, kind = position[0], header(message, KIND_HEADER) or ""
        table = self._by_kind.get((topic, kind)) or self._by_kind.get((topic, ""))
        if table is None:
            raise UndecodableError("unknown_kind", f"kind {kind!r}")
        underlying = ""
        if topic == topics.EVENTS:
            batch = decode_event(kind, _key(message), payload)
            data, underlying = batch.data, batch.underlying
        elif kind in self._schemas:
            data = decode_rows(kind, payload, self._schemas)
        else:
            data = record_batch(table, message)
        self._metrics.rows(topic, data.num_rows)
        if data.num_rows:
            self._waiting.add(table.name, Piece(position, offset, data, underlying, len(payload)))

    def _leave_out(self, message: Any, position: Position, offset: int, error: UndecodableError) -> None:
        self._metrics.dead_letter(error.reason)
        self._log.warning("left out", reason=error.reason, topic=position[0], partition=position[1], offset=offset)
        if position[0] in TOLD_BY_A_STAGE:
            return
        kind, key = header(message, KIND_HEADER) or "", (message.key() or b"").decode(errors="replace")
        poison = Poison(position, offset, error.reason, error.detail, kind, key, message.value() or b"")
        self._waiting.poison.append(poison)
        self._waiting.size += len(poison.payload)

    # -- commits --------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """See what became of the commit that runs, and start the next when it is time.

        Raises:
            HedgeflowError: the lake cannot be written, now or later.
        """
        self._settle()
        if self._commit is not None:
            self._commit.start(self._opened_tables())
        elif self._sealed or (self._waiting.end and self._is_time()):
            self._begin_commit()

    @property
    def waiting_bytes(self) -> int:
        """What is kept in memory for the lake, the commit that runs included."""
        return sum(each.size for each in self._all_waiting())

    def full(self) -> bool:
        """Whether more waits than may."""
        return self.waiting_bytes >= self._settings.lake_waiting_bytes

    def due(self) -> bool:
        """Never: commits have their own times."""
        return False

    def checkpoint(self, group: GroupMetadata, *, patience_s: float | None) -> None:
        """With patience, commit what waits, within reason."""
        if patience_s is not None:
            self._finish(min(patience_s, FINAL_S))

    def durable(self) -> Offsets:
        """The offsets of the commits that have ended."""
        self._settle()
        durable, self._durable = self._durable, {}
        return durable

    def close(self) -> None:
        """Nothing is open between commits."""

    def _finish(self, patience_s: float) -> None:
        """Commit what waits. A lake that fails now leaves it to the next owner: the log has it."""
        deadline = time.monotonic() + patience_s
        attempts = 0
        while self._commit is not None or self._sealed or self._waiting.end:
            if self._commit is None:
                self._begin_commit()
            elif not self._commit.running:
                self._commit.start(self._opened_tables(), at_once=True)
            commit = self._commit
            if commit is not None:
                failures = commit.failures
                commit.wait(max(0.0, deadline - time.monotonic()))
                attempts += commit.failures - failures
            self._settle()
            if self._commit is not None and (attempts >= FINAL_ATTEMPTS or time.monotonic() >= deadline):
                self._log.warning("left to the next owner", rows=sum(each.rows for each in self._all_waiting()))
                return

    def _is_time(self) -> bool:
        waited_ms = (time.monotonic() - self._last_commit) * 1_000
        return (
            self._waiting.rows >= self._settings.lake_commit_rows or waited_ms >= self._settings.lake_commit_interval_ms
        )

    def _seal(self) -> None:
        """What was taken up to here goes into one commit."""
        self._sealed.append(self._waiting)
        self._waiting = Waiting(begin=dict(self._next))

    def _all_waiting(self) -> Iterator[Waiting]:
        if self._commit is not None:
            yield self._commit.waiting
        yield from self._sealed
        yield self._waiting

    def _begin_commit(self) -> None:
        self._last_commit = time.monotonic()
        if not self._sealed:
            self._seal()
        self._commit = LakeCommit(self._sealed.popleft(), self._letters, self._metrics)
        self._commit.start(self._opened_tables())

    def _settle(self) -> None:
        commit = self._commit
        if commit is None or commit.running or not commit.done:
            return
        self._commit = None
        self._durable.update({position: at for position, at in commit.waiting.end.items() if position in self._next})
        if commit.failures:
            self._log.info("commit succeeded", failures=commit.failures)
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        self._metrics.lake_waiting(sum(each.rows for each in self._all_waiting()))

    def _opened_tables(self) -> LakeTables:
        assert self._tables is not None  # nothing is taken before partitions are assigned
        return self._tables


def _key(message: Any) -> str:
    try:
        return bytes(message.key() or b"").decode()
    except UnicodeDecodeError:
        raise UndecodableError("undecodable", "the key is no text") from None
