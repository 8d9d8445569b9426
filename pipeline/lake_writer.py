"""The ``lake`` worker: every topic into its tables, each row exactly once.

Offsets are committed to Kafka only after all tables hold what lies before them. After a crash the worker therefore
reads some messages again; each table drops those below the offset that its own last commit names. Rows of our own
stages may also come twice under new offsets (their worker crashed and sent them again): they carry (key, bar), and
what is not beyond the last bar of its key is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import polars as pl
import pyarrow as pa
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from features.events import EventBatch
from pipeline import topics
from pipeline.codec import KIND_HEADER, UndecodableError, decode_event, decode_rows, row_schemas
from pipeline.kafka import (
    CONNECT_TIMEOUT_S,
    commit,
    end_offsets,
    header,
    make_consumer,
    require_broker,
    static_member,
    take,
)
from pipeline.lake import Lake, LakeError, positioned
from pipeline.records import record_columns
from pipeline.settings import Settings
from pipeline.tables import TABLES, Table, tables_of
from pipeline.user_features import catalogue_of

GROUP: Final = "lake"

SOURCES: Final = tuple(sorted({table.topic for table in TABLES.values()}))


class LakeWriter:
    """Consumes every topic that has a table, until :meth:`stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake = Lake(settings.lake)
        catalogue = catalogue_of(settings)
        self._schemas = row_schemas(catalogue)
        self._tables = tables_of(catalogue)
        self._by_kind = {(table.topic, table.kind): table for table in self._tables.values()}
        self._log = structlog.get_logger().bind(stage=GROUP)
        self._waiting: dict[str, list[pa.Table]] = {}
        self._rows = 0
        self._next: dict[tuple[str, int], int] = {}
        self._last: dict[str, dict[tuple[Any, ...], int]] = {}
        self._last_commit = time.monotonic()
        self._stopping = False

    def stop(self) -> None:
        """Commit what is at hand and leave."""
        self._stopping = True

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            LakeError: the lake cannot be written, or is ahead of the log.
            BrokerError: the broker is gone or refuses.
        """
        require_broker(self._settings)
        consumer = make_consumer(self._settings, GROUP, static_member(self._settings, GROUP))
        try:
            consumer.subscribe(list(SOURCES), on_assign=self._assigned, on_revoke=self._revoked)
            self._log.info("started", lake=str(self._settings.lake))
            while not self._stopping:
                for message in take(consumer, self._settings.batch_messages):
                    self._take(message)
                self._commit_if_due(consumer)
            self._commit(consumer)
        finally:
            consumer.close()
            self._log.info("stopped")

    def _take(self, message: Any) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if offset < self._next.get((topic, partition), 0):
            return
        self._next[topic, partition] = offset + 1
        kind = header(message, KIND_HEADER) or ""
        table = self._by_kind.get((topic, kind)) or self._by_kind.get((topic, ""))
        if table is None or offset < self._lake.version(table, topic, partition):
            return
        try:
            rows = self._decoded(table, kind, message)
        except UndecodableError as error:
            # The stage that reads this topic sends the dead letter; here it is only left out.
            self._log.warning("left out", reason=error.reason, topic=topic, partition=partition, offset=offset)
            return
        if rows is not None and rows.num_rows:
            self._waiting.setdefault(table.name, []).append(rows)
            self._rows += rows.num_rows

    def _decoded(self, table: Table, kind: str, message: Any) -> pa.Table | None:
        partition, offset, payload = message.partition(), message.offset(), message.value() or b""
        if table.topic == topics.EVENTS:
            batch = decode_event(kind, (message.key() or b"").decode(errors="replace"), payload)
            return positioned(table, stored_columns(batch), partition, offset, range(batch.data.num_rows))
        if kind in self._schemas:
            data = decode_rows(kind, payload, self._schemas)
            columns: Mapping[str, Any] = dict(zip(data.schema.names, data.columns, strict=True))
            count = data.num_rows
        else:
            columns, count = record_columns(table, message)
        rows = positioned(table, columns, partition, offset, range(count))
        return rows.filter(pa.array(self._beyond(table, rows))) if table.key else rows

    def _beyond(self, table: Table, rows: pa.Table) -> list[bool]:
        """Which rows lie beyond the last one of their key."""
        last = self._last.get(table.name)
        if last is None:
            last = self._last[table.name] = last_times(self._lake, table)
        keep: list[bool] = []
        columns = [rows.column(name).to_pylist() for name in (*table.key, table.time)]
        for *key, when in zip(*columns, strict=True):
            fresh = when > last.get(tuple(key), -1)
            keep.append(fresh)
            if fresh:
                last[tuple(key)] = when
        return keep

    def _commit_if_due(self, consumer: Consumer) -> None:
        waited_ms = (time.monotonic() - self._last_commit) * 1_000
        if self._rows >= self._settings.lake_commit_rows or waited_ms >= self._settings.lake_commit_interval_ms:
            self._commit(consumer)

    def _commit(self, consumer: Consumer) -> None:
        """Tables first, offsets last."""
        self._last_commit = time.monotonic()
        for name, pieces in self._waiting.items():
            table = self._tables[name]
            offsets = {key: offset for key, offset in self._next.items() if key[0] == table.topic}
            self._lake.append(table, pa.concat_tables(pieces), offsets)
        self._waiting.clear()
        self._rows = 0
        refused = commit(consumer, self._next)
        if refused:
            # The messages come again; each table drops those below the offset of its own last commit.
            self._log.warning("commit refused", error=refused)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Another writer may have had these partitions meanwhile: read the tables anew.
        self._lake = Lake(self._settings.lake)
        self._last.clear()
        committed = consumer.committed(partitions, timeout=CONNECT_TIMEOUT_S)
        ends = end_offsets(self._settings, sorted({each.topic for each in partitions}))
        for each in committed:
            self._refuse_lost_log(each, ends)
            if each.offset < 0:
                each.offset = OFFSET_BEGINNING
        consumer.assign(committed)

    def _refuse_lost_log(self, where: TopicPartition, ends: Mapping[tuple[str, int], int]) -> None:
        """A broker that came back empty would make us drop new rows as old ones: stop instead."""
        end = ends[where.topic, where.partition]
        known = max(
            self._lake.version(t, where.topic, where.partition) for t in self._tables.values() if t.topic == where.topic
        )
        if known > end:
            raise LakeError(
                f"The lake holds {where.topic}/{where.partition} up to offset {known}, the broker only up to {end}.",
                "The embedded broker keeps nothing when it stops: use another --lake for a new log.",
            )

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(consumer)
        for each in partitions:
            self._next.pop((each.topic, each.partition), None)


def stored_columns(batch: EventBatch) -> Mapping[str, pa.Array]:
    """The columns of raw rows as the lake stores them."""
    data = batch.data
    columns = dict(zip(data.schema.names, data.columns, strict=True))
    columns["instrument"] = data.column(0).dictionary_decode()
    if "flags" in columns:
        columns["flags"] = columns["flags"].cast(pa.int16())
    return {"underlying": pa.array([batch.underlying] * data.num_rows, pa.utf8()), **columns}


def last_times(lake: Lake, table: Table) -> dict[tuple[Any, ...], int]:
    """The last ``time`` of every key that the table holds."""
    files = lake.files(table)
    if not files:
        return {}
    frame = pl.scan_parquet(files, hive_partitioning=True).group_by(table.key).agg(pl.col(table.time).max()).collect()
    return {tuple(row[:-1]): int(row[-1]) for row in frame.select(*table.key, table.time).iter_rows()}
