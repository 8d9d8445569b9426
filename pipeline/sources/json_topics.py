"""A user's own Kafka topics with JSON market data as a source."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

import structlog
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, TopicPartition

from features.errors import ConfigError
from features.events import NANO, EventBatch, Kind
from features.stage import Reject
from pipeline.codec import KIND_HEADER, UndecodableError, decode_event, encode
from pipeline.edge import Edge
from pipeline.kafka import (
    BrokerError,
    commit,
    end_offsets,
    header,
    make_consumer,
    make_reader,
    partition_of,
    read_to_end,
    require_broker,
    take,
)
from pipeline.log import KafkaLog, send_dead_letter
from pipeline.settings import Settings
from pipeline.sources.base import UnusableError
from pipeline.sources.json_events import JsonDecoder
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run, batches_of
from pipeline.topics import EVENTS, TOPICS

ORIGIN_HEADER: Final = "source"
"""Header of what this source appends: ``topic/partition/offset/part/parts`` of the message that it comes from."""

TAIL_MESSAGES: Final = 20_000
"""Messages at the end of each partition of the log that are read at the start, to see what is there already."""

_MS: Final = 1_000_000

Position = tuple[str, int, int]


class PositionedLog(KafkaLog):
    """Appends to ``md.events`` and says in a header from which message the rows come."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._batches: list[EventBatch] = []

    def append(self, batch: EventBatch) -> None:
        """Keep the batch until :meth:`send`."""
        self._batches.append(batch)

    def send(self, position: Position) -> None:
        """Queue what one message gave."""
        parts, where = len(self._batches), "/".join(map(str, position))
        for part, batch in enumerate(self._batches):
            self._outbox.send(
                EVENTS,
                partition_of(batch.underlying, self._partitions),
                batch.underlying,
                encode(batch.data),
                {KIND_HEADER: batch.kind.value, ORIGIN_HEADER: f"{where}/{part}/{parts}"},
            )
        self._batches.clear()

    def dead_letter(self, reject: Reject, position: Position, payload: bytes) -> None:
        """Append a dead letter with its reason, position and bytes."""
        self.rejected[reject.reason] += reject.rows
        topic, partition, offset = position
        where = {"origin": f"{topic}/{partition}/{offset}", "topic": topic}
        where |= {"partition": str(partition), "offset": str(offset)}
        send_dead_letter(self._outbox, reject, where, payload)


class JsonTopics:
    """Reads topics of JSON and appends their rows to ``md.events``, until :meth:`stop`.

    **Guarantee.** Every message is appended at least once: its offset is committed only after the log has acknowledged
    its rows. What was appended and not yet committed when a source died is recognized by its header and left out, if
    it lies within the last 20,000 messages of its partition of the log; offsets are committed after every few hundred
    messages. So the effect is exactly once, unless others fill the log with more than that in between, or one message
    gave rows in several parts of which only some arrived: these come twice. One process reads one set of topics; a
    second one in the same group takes over partitions, and its rows may repeat what the first has just appended.

    A message counts as received at the time that it names, else at its own time in the topic: reading it again gives
    the same rows. Messages of one partition keep their order; what must stay in order (all about an instrument)
    belongs into one partition. What cannot be used becomes a dead letter with reason, position and bytes. Each new
    second of an underlying's event time brings a heartbeat.

    Args:
        settings: broker, partitions, and the consumer group's prefix.
        topics: to read.
        decoder: of their messages.
        edge, log: where the rows go; the edge must append to the log.
        on_turn: called at every turn of the loop, at least every 100 ms.

    Raises:
        ConfigError: no topic is named, or one of hedgeflow's own.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        decoder: JsonDecoder,
        edge: Edge,
        log: PositionedLog,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        if not topics:
            raise ConfigError("No topic was named.", "Name at least one with --topics.")
        for topic in topics:
            if topic in TOPICS:
                raise ConfigError(f"{topic} is hedgeflow's own topic.", "Name topics that hold your JSON.")
        self._settings = settings
        self._topics = list(topics)
        self._decoder = decoder
        self._edge = edge
        self._log = log
        self._on_turn = on_turn
        self._numbers = RunNumbers(1)
        self._reached: dict[str, int] = {}
        self._appended: set[Position] = set()
        self._stopping = False
        self.messages = 0
        self.repeated = 0

    def stop(self) -> None:
        """Finish the messages at hand and leave."""
        self._stopping = True

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            BrokerError: the broker is gone or refuses, or a topic does not exist.
        """
        existing = require_broker(self._settings).topics
        for topic in self._topics:
            if topic not in existing:
                raise BrokerError(f"There is no topic {topic} at {self._settings.bootstrap}.", "Check --topics.")
        self._look_back()
        consumer = make_consumer(self._settings, "source." + "+".join(sorted(self._topics)))
        logger = structlog.get_logger().bind(stage="source", topics=self._topics)
        try:
            consumer.subscribe(self._topics)
            logger.info("started", appended_before=len(self._appended))
            while not self._stopping:
                self._on_turn()
                if refused := self._step(consumer):
                    logger.warning("commit refused", error=refused.str())
        finally:
            consumer.close()
            logger.info("stopped", messages=self.messages, rows=self._edge.rows)

    def _step(self, consumer: Consumer) -> KafkaError | None:
        """Rows first, then the offsets."""
        offsets: dict[tuple[str, int], int] = {}
        for message in take(consumer, self._settings.batch_messages):
            position = message.topic() or "", message.partition() or 0, message.offset() or 0
            offsets[position[:2]] = position[2] + 1
            if position in self._appended:
                self.repeated += 1
            else:
                self._append(message, position)
        if not offsets:
            return None
        self._log.flush()
        return commit(consumer, offsets)

    def _append(self, message: Any, position: Position) -> None:
        payload = message.value() or b""
        self.messages += 1
        try:
            runs = self._decoder.decode(payload, _received_ns(message))
        except UnusableError as error:
            self._log.dead_letter(Reject(error.reason, error.detail), position, payload)
            return
        for batch in batches_of([*runs, *self._heartbeats(runs)]):
            self._edge.send(batch)
        self._log.send(position)

    def _heartbeats(self, runs: list[Run]) -> list[Run]:
        beats: list[Run] = []
        for underlying, group in groupby(runs, key=lambda run: run.underlying):
            newest = list(group)[-1]
            times, names = newest.columns["ts_event"], newest.columns["instrument"]
            reached = times if isinstance(times, int) else max(times)
            before = self._reached.get(underlying, 0)
            self._reached[underlying] = max(reached, before)
            if reached // NANO > before // NANO and newest.kind is not Kind.HEARTBEAT:
                columns = {"instrument": names if isinstance(names, str) else names[0], "ts_event": reached}
                beats.append(self._numbers.run(Kind.HEARTBEAT, newest.ts_recv, underlying, 1, columns))
        return beats

    # -- what the log holds already ---------------------------------------------------------------------------------

    def _look_back(self) -> None:
        """Find the messages whose rows are complete at the end of the log, and tell the decoder of them."""
        ends = end_offsets(self._settings, [EVENTS])
        tails = [TopicPartition(topic, at, max(0, end - TAIL_MESSAGES)) for (topic, at), end in ends.items() if end]
        found: dict[Position, set[int]] = {}
        if not tails:
            return
        reader = make_reader(self._settings)
        try:
            for message in read_to_end(reader, tails):
                self._note(message, found)
        finally:
            reader.close()

    def _note(self, message: Any, found: dict[Position, set[int]]) -> None:
        fields = (header(message, ORIGIN_HEADER) or "").rsplit("/", 4)
        if len(fields) != 5 or fields[0] not in self._topics or not all(each.isdigit() for each in fields[1:]):
            return
        position = fields[0], int(fields[1]), int(fields[2])
        parts = found.setdefault(position, set())
        parts.add(int(fields[3]))
        if len(parts) == int(fields[4]):
            self._appended.add(position)
        kind = header(message, KIND_HEADER) or ""
        if kind not in (Kind.BOOK, Kind.INSTRUMENT):
            return
        try:
            self._decoder.resume(decode_event(kind, "", message.value() or b""))
        except UndecodableError:  # the workers make it a dead letter
            return


def _received_ns(message: Any) -> int:
    kind, milliseconds = message.timestamp()
    return time.time_ns() if kind == TIMESTAMP_NOT_AVAILABLE else int(milliseconds) * _MS
