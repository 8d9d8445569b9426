"""The worker: one loop that consumes for a processor, keeps its place in the group, and commits what became durable."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from pipeline.health import Health
from pipeline.kafka import (
    CONNECT_TIMEOUT_S,
    POLL_S,
    BrokerError,
    commit,
    commit_soon,
    end_offsets,
    make_consumer,
    partitions_of,
    require_broker,
    static_member,
    take,
)
from pipeline.log import AbortedError
from pipeline.log_identity import LostLogError, read_log_id, require_same_log
from pipeline.metrics import WorkerMetrics
from pipeline.monitor import Monitor
from pipeline.processor import Offsets, Position, Processor
from pipeline.settings import Settings
from pipeline.topics import TOPICS

IDLE_CHECKPOINT_S: Final = 0.3
"""A worker that has caught up checkpoints after this pause, so that its lag reads zero."""

LAG_S: Final = 1.0
"""How often lag is measured."""

STOP_S: Final = 12.0
"""How long the last checkpoint may take when we are told to stop: less than a supervisor waits."""

LEAVE_S: Final = 10.0

BROKER_S: Final = 1.0
"""How long one question to a broker that was away may take."""


class Worker:
    """Runs one processor in this process until :meth:`stop`.

    A lone message goes through at once, a backlog in large batches. While a sink is behind, the partitions are paused
    and the worker stays in its group. A broker that is away for a while is waited for; when it comes back with another
    log, the worker ends before it takes a message.

    Attributes:
        stuck: the client could not be closed, and would keep the interpreter from ending.
    """

    def __init__(self, settings: Settings, processor: Processor, metrics: WorkerMetrics, health: Health) -> None:
        self._settings = settings
        self._processor = processor
        self._metrics = metrics
        self._health = health
        self._log = structlog.get_logger().bind(stage=processor.name)
        self._owned: dict[Position, int] = {}  # and where each began
        self._log_id = ""
        self._paused = False
        self._doubtful = False
        self._warm = False
        self._stopping = False
        self._failed = False
        self.stuck = False
        self._last_checkpoint = self._last_message = self._last_lag = time.monotonic()

    def stop(self) -> None:
        """Finish the messages at hand, checkpoint, leave."""
        self._stopping = True

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            BrokerError: the broker is not there at the start, has lost its log, or refuses.
            HedgeflowError: the processor cannot go on.
        """
        require_broker(self._settings)
        self._log_id = read_log_id(self._settings)
        member = static_member(self._settings, self._processor.name, alone=self._processor.alone)
        consumer = make_consumer(
            self._settings,
            self._processor.name,
            # Where we go on our checkpoints say: an offset that the log lacks is an error, not a reason to begin anew.
            {**member, "auto.offset.reset": "error", "error_cb": self._on_error, "on_commit": self._committed},
        )
        with Monitor(self._settings, self._metrics, self._health) as monitor:
            try:
                consumer.subscribe(
                    list(self._processor.sources),
                    on_assign=self._assigned,
                    on_revoke=self._revoked,
                    on_lost=self._lost,
                )
                self._log.info("started", sources=list(self._processor.sources), monitor=monitor.address)
                while not self._stopping:
                    self._step(consumer)
                if self._doubtful:
                    self._failed = True  # the last checkpoint counts: what is in doubt is written nowhere
                else:
                    self._stop(consumer)
            except BaseException:
                self._failed = True  # leaving the group must not commit what is in doubt
                raise
            finally:
                self._leave(consumer)
                self._processor.close()
                self._log.info("stopped")

    def _leave(self, consumer: Consumer) -> None:
        """Leave the group, in bounded time: librdkafka may wait for ever for a broker that has forgotten us."""
        leaving = threading.Thread(target=consumer.close, daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)
        self.stuck = leaving.is_alive()
        if self.stuck:
            self._log.warning("left without a farewell")

    def _step(self, consumer: Consumer) -> None:
        """Take what is there, and checkpoint when it is time."""
        self._health.beat()
        try:
            self._pause(consumer, self._processor.full())
            messages = self._taken(consumer)
            if messages:
                self._last_message = time.monotonic()
                self._metrics.batch(len(messages))
                if not self._warm:
                    self._health.busy("first messages: kernels may have to be compiled")
                self._processor.take(messages)
                self._warm = True
            self._processor.tick()
            self._measure(consumer)
            if self._is_due():
                self._last_checkpoint = time.monotonic()
                self._processor.checkpoint(consumer.consumer_group_metadata, patience_s=None)
            if covered := self._processor.durable():
                self._committed(commit_soon(consumer, covered))
        except AbortedError as error:
            self._start_over(consumer, error)

    def _taken(self, consumer: Consumer) -> Sequence[Any]:
        """Messages of a log that is beyond doubt."""
        messages = take(consumer, self._settings.batch_messages)
        while self._doubtful and not self._stopping:
            if self._is_same_log():
                self._health.ready(bool(self._owned), "the broker is back")
            else:
                self._processor.tick()
        # Told to stop while in doubt: what came may be of another log.
        return [] if self._doubtful else messages

    def _is_same_log(self) -> bool:
        """Whether the broker answers, and the log is ours.

        Raises:
            LostLogError: it is another.
        """
        self._doubtful = False
        try:
            require_same_log(self._log_id, read_log_id(self._settings, BROKER_S))
        except LostLogError:
            raise
        except BrokerError as error:
            self._doubtful = True
            self._health.beat()
            self._health.ready(False, error.problem)
            time.sleep(POLL_S)
        return not self._doubtful

    def _on_error(self, error: KafkaError) -> None:
        """A connection broke. Whoever answers next may be another broker."""
        if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            self._doubtful = True

    def _pause(self, consumer: Consumer, full: bool) -> None:
        """Take nothing while a sink is behind."""
        if full == self._paused:
            return
        self._paused = full
        self._metrics.paused(full)
        self._log.info("paused" if full else "resumed")
        partitions = [TopicPartition(topic, partition) for topic, partition in self._owned]
        (consumer.pause if full else consumer.resume)(partitions)

    def _measure(self, consumer: Consumer) -> None:
        now = time.monotonic()
        if now - self._last_lag < LAG_S or not self._owned:
            return
        self._last_lag = now
        for at in consumer.position([TopicPartition(topic, partition) for topic, partition in self._owned]):
            known = consumer.get_watermark_offsets(TopicPartition(at.topic, at.partition), cached=True)
            if known and known[1] >= 0:
                reached = at.offset if at.offset >= 0 else self._owned[at.topic, at.partition]  # nothing came yet
                self._metrics.lag(at.topic, at.partition, max(0, known[1] - reached))

    # -- checkpoints and ownership --------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        now = time.monotonic()
        idle = now - self._last_message >= IDLE_CHECKPOINT_S
        late = now - self._last_checkpoint >= self._settings.checkpoint_interval_ms / 1_000
        return idle or late or self._processor.due()

    def _stop(self, consumer: Consumer) -> None:
        """The last checkpoint; a broker that does not answer leaves what is not in it to the next owner."""
        try:
            self._last(consumer, min(STOP_S, self._settings.broker_patience_ms / 1_000))
        except BrokerError as error:
            self._failed = True
            self._log.warning("left to the next owner", error=error.problem)

    def _last(self, consumer: Consumer, patience_s: float) -> None:
        """The last checkpoint before partitions go to another worker, or this one ends."""
        self._health.busy("checkpoint")
        self._processor.checkpoint(consumer.consumer_group_metadata, patience_s=patience_s)
        self._committed(commit(consumer, self._processor.durable()))

    def _committed(self, error: KafkaError | None, _partitions: object = None) -> None:
        """A refused commit loses nothing: the messages come again, and state or tables tell that we had them."""
        if error is not None:
            self._metrics.commit_refused()
            self._log.warning("commit refused", error=error.str())

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Restore what belongs to the partitions, and go on where that stands."""
        if self._processor.alone and partitions and len(partitions) != self._all():
            # Its predecessor has died and still counts as a member; when its session ends, all partitions come.
            self._log.warning("waiting for all partitions", have=len(partitions), need=self._all())
            self._health.ready(False, "another member has some of the partitions")
            consumer.assign([])
            return
        self._metrics.rebalance("assigned")
        self._health.busy("restoring state")
        positions = {(each.topic, each.partition) for each in partitions}
        # A worker that was frozen for long may have missed that its connection broke.
        while not self._is_same_log() and not self._stopping:
            pass
        offsets = self._processor.assigned(positions) if positions else {}
        self._require_log(consumer, offsets)
        self._owned |= {position: offsets.get(position, 0) for position in positions}
        for each in partitions:
            each.offset = self._owned[each.topic, each.partition] or OFFSET_BEGINNING
        consumer.assign(partitions)
        if self._paused and partitions:
            consumer.pause(partitions)
        self._health.ready(bool(self._owned), f"{len(self._owned)} partitions" if self._owned else "no partition yet")
        self._log.info("assigned", partitions=sorted(f"{topic}/{number}" for topic, number in positions))

    def _require_log(self, consumer: Consumer, offsets: Offsets) -> None:
        """A broker may answer a place beyond its log's end with silence: then we would wait there for ever."""
        for (topic, partition), at in offsets.items():
            known = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=CONNECT_TIMEOUT_S)
            # What the broker calls its end may lie before it: only then is the exact end looked for.
            if known and at > known[1] and at > (end := end_offsets(self._settings, [topic])[topic, partition]):
                raise LostLogError(
                    f"{topic}/{partition} was read up to offset {at}, and ends at {end}.",
                    "It was emptied: start under another `application` and --lake (docs/operations.md).",
                )

    def _all(self) -> int:
        return sum(partitions_of(TOPICS[topic], self._settings) for topic in self._processor.sources)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._metrics.rebalance("revoked")
        if not self._failed:
            try:
                self._last(consumer, self._settings.broker_patience_ms / 1_000)
            except AbortedError as error:
                self._log.warning("aborted", error=error.problem)
        self._release({(each.topic, each.partition) for each in partitions})

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another worker has them already: write nothing."""
        self._metrics.rebalance("lost")
        self._release({(each.topic, each.partition) for each in partitions})

    def _release(self, positions: Collection[Position]) -> None:
        self._processor.released(positions)
        for topic, partition in positions:
            self._owned.pop((topic, partition), None)
            self._metrics.released(topic, partition)
        self._health.ready(False, "partitions were handed over")

    def _start_over(self, consumer: Consumer, error: AbortedError) -> None:
        """A transaction was aborted: compute from the last checkpoint again what it held."""
        self._log.warning("aborted", error=error.problem)
        self._processor.released(self._owned)
        offsets: Offsets = self._processor.assigned(self._owned)
        for topic, partition in self._owned:
            at = offsets.get((topic, partition), 0) or OFFSET_BEGINNING
            consumer.seek(TopicPartition(topic, partition, at))
