"""A user's own Kafka topic of timestamped texts or numbers as a source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import structlog
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError

from features.stage import Reject
from pipeline.edge import Edge
from pipeline.kafka import commit, make_consumer, require_broker, take
from pipeline.log import KafkaLog
from pipeline.settings import Settings
from pipeline.sources.alternative_mapping import AlternativeMapping
from pipeline.sources.alternative_rows import MAX_BATCH_ROWS, AlternativeRow, rows_of, runs_of
from pipeline.sources.base import UnusableError
from pipeline.sources.runs import batches_of

_MS: Final = 1_000_000


class AlternativeTopic:
    """Reads a topic of JSON and appends its rows to ``md.events``, until :meth:`stop`.

    A message is a JSON object, or an array of them, as the mapping describes. It counts as received at the message's
    own time (its producer's or the broker's, as the topic is set), so reading it again gives the same rows; it is
    available then at the earliest. What cannot be used becomes a dead letter with the message's bytes: reasons of
    :func:`.alternative_rows.rows_of`, and ``bad_record``.

    Offsets are committed after the log has acknowledged the rows: after a crash some messages are appended again.

    Args:
        settings: broker, partitions, consumer group.
        topic: to read.
        mapping: of its records.
        edge, log: where the rows go; the log must be the edge's.
        on_turn: called at every turn of the loop, at least every 100 ms.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        mapping: AlternativeMapping,
        edge: Edge,
        log: KafkaLog,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._mapping = mapping
        self._edge = edge
        self._log = log
        self._on_turn = on_turn
        self._stopping = False

    def stop(self) -> None:
        """Finish the messages at hand and leave."""
        self._stopping = True

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            BrokerError: the broker is gone or refuses, or the topic does not exist.
        """
        require_broker(self._settings)
        consumer = make_consumer(self._settings, f"alternative.{self._mapping.source}")
        logger = structlog.get_logger().bind(stage="alternative", topic=self._topic)
        try:
            consumer.subscribe([self._topic])
            logger.info("started", source=self._mapping.source)
            while not self._stopping:
                self._on_turn()
                if refused := self._step(consumer):
                    logger.warning("commit refused", error=refused.str())
        finally:
            consumer.close()
            logger.info("stopped", rows=self._edge.rows)

    def _step(self, consumer: Consumer) -> KafkaError | None:
        """Rows first, then the offsets."""
        offsets: dict[tuple[str, int], int] = {}
        rows: list[AlternativeRow] = []
        for message in take(consumer, self._settings.batch_messages):
            offsets[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
            rows.extend(self._rows(message))
        rows.sort(key=lambda row: row.underlying)  # of each underlying as they came
        for batch in batches_of(runs_of(rows, self._mapping.source, 0), MAX_BATCH_ROWS):
            self._edge.send(batch)
        if not offsets:
            return None
        self._log.flush()
        return commit(consumer, offsets)

    def _rows(self, message: Any) -> list[AlternativeRow]:
        payload, received_ns = message.value() or b"", _received_ns(message)
        rows: list[AlternativeRow] = []
        try:
            for record in records_of(payload):
                try:
                    rows += rows_of(record, self._mapping, received_ns)
                except UnusableError as error:
                    self._refuse(error, message, payload)
        except UnusableError as error:
            self._refuse(error, message, payload)
        return rows

    def _refuse(self, error: UnusableError, message: Any, payload: bytes) -> None:
        origin = f"{message.topic()}/{message.partition()}/{message.offset()}"
        self._log.reject(origin, Reject(error.reason, error.detail), payload)


def records_of(payload: bytes) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a message.

    Raises:
        UnusableError: ``bad_record``: it is neither a JSON object nor an array of them.
    """
    try:
        decoded = msgspec.json.decode(payload, type=dict[str, Any] | list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableError("bad_record", f"no JSON object: {error}") from error
    yield from [decoded] if isinstance(decoded, dict) else decoded


def _received_ns(message: Any) -> int:
    kind, milliseconds = message.timestamp()
    return time.time_ns() if kind == TIMESTAMP_NOT_AVAILABLE else int(milliseconds) * _MS
