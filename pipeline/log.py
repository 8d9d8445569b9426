"""The log of market events: in Kafka, or in memory when files are backfilled without a broker."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from features.events import EventBatch
from features.stage import Reject
from pipeline.codec import KIND_HEADER, encode
from pipeline.kafka import BrokerError, make_producer, partition_of
from pipeline.settings import Settings
from pipeline.topics import DEAD_LETTER, EVENTS

KEPT_BYTES: Final = 900_000
"""Bytes of a message that its dead letter keeps: with its headers it must fit into a message again."""


class AbortedError(BrokerError):
    """A transaction was aborted: what it held is to be computed again from the last checkpoint."""


class Outbox:
    """A producer whose failures are raised by the next call, so that nothing is lost unseen.

    Args:
        settings: of the broker.
        linger_ms: how long a message may wait for company.
        transactional_id: with it, everything sent waits in a transaction for :meth:`commit`.
    """

    def __init__(self, settings: Settings, linger_ms: float = 5, transactional_id: str = "") -> None:
        self._patience_s = settings.broker_patience_ms / 1_000
        self._producer: Producer = make_producer(settings, linger_ms, transactional_id)
        self._failure: KafkaError | None = None
        self._transactional = bool(transactional_id)
        self._open = False
        self._reached: dict[tuple[str, int], int] = {}
        self._era = 0
        self._unacknowledged: dict[int, int] = {0: 0}
        self._on_delivery = partial(self._delivered, 0)
        self.bootstrap = settings.bootstrap
        if transactional_id:
            self._call(self._producer.init_transactions, self._patience_s)

    @property
    def queued(self) -> int:
        """Messages that are not acknowledged yet."""
        return len(self._producer)

    def mark(self) -> int:
        """A name for all that was sent up to here."""
        marked = self._era
        self._era += 1
        self._unacknowledged[self._era] = 0
        self._on_delivery = partial(self._delivered, self._era)
        return marked

    def acknowledged(self, mark: int) -> bool:
        """Whether all that was sent up to a :meth:`mark` is acknowledged."""
        return not any(left for era, left in self._unacknowledged.items() if era <= mark)

    def reached(self, topic: str, partition: int) -> int:
        """The offset after the last message of ours that was acknowledged there; 0 if none was."""
        return self._reached.get((topic, partition), 0)

    def send(self, topic: str, partition: int, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Queue one message; waits when the queue is full.

        Raises:
            BrokerError: an earlier message was not delivered.
        """
        if self._transactional and not self._open:
            self._call(self._producer.begin_transaction)
            self._open = True
        encoded: dict[str, str | bytes | None] = {name: text.encode() for name, text in headers.items()}
        while True:
            self._raise_failure()
            try:
                self._producer.produce(
                    topic,
                    key=key.encode(),
                    value=value,
                    partition=partition,
                    headers=encoded,
                    on_delivery=self._on_delivery,
                )
                self._unacknowledged[self._era] += 1
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def poll(self) -> None:
        """Hear of what was acknowledged.

        Raises:
            BrokerError: a message was not delivered.
        """
        self._producer.poll(0)
        self._raise_failure()

    def flush(self, timeout_s: float = 120.0) -> None:
        """Wait until every message is acknowledged.

        Raises:
            BrokerError: some were not.
        """
        deadline = time.monotonic() + timeout_s
        while self._producer.flush(1.0) and time.monotonic() < deadline:
            self._raise_failure()
        self._raise_failure()
        if left := len(self._producer):
            raise BrokerError(
                f"{left} message(s) were not acknowledged by {self.bootstrap} in time.",
                "Start the worker again when the broker is back: it goes on from its checkpoint.",
            )

    def commit(self, offsets: Mapping[tuple[str, int], int], group: Any) -> None:
        """Commit the transaction: what was sent since the last one, and with it these offsets of our group.

        Raises:
            AbortedError: the broker refused, and the transaction was aborted.
            BrokerError: another process has our place.
        """
        positions = [TopicPartition(topic, partition, at) for (topic, partition), at in offsets.items()]
        self._call(self._producer.send_offsets_to_transaction, positions, group, self._patience_s)
        self._call(self._producer.commit_transaction, self._patience_s)
        self._open = False

    def abort(self) -> None:
        """Give up the open transaction, if there is one."""
        if self._open:
            self._open = False
            with contextlib.suppress(KafkaException):
                # What cannot be aborted now is when its time is up, or when we start again under the same name.
                self._producer.abort_transaction(self._patience_s)
        self._failure = None

    def _call(self, step: Callable[..., Any], *arguments: Any) -> None:
        """One step of a transaction, again while the broker says that it may pass."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                step(*arguments)
                return
            except KafkaException as failure:
                error = failure.args[0]
                if error.retriable() and time.monotonic() < deadline:
                    continue
                if error.txn_requires_abort():
                    self.abort()
                    raise AbortedError(f"A transaction was aborted: {error.str()}.", "It is tried again.") from failure
                raise BrokerError(
                    f"A transaction failed: {error.str()}.",
                    "Start the worker again; two workers must not share one `member` name.",
                ) from failure

    def _delivered(self, era: int, error: KafkaError | None, message: Any) -> None:
        self._unacknowledged[era] -= 1
        if era < self._era and not self._unacknowledged[era]:
            del self._unacknowledged[era]
        if error is None:
            # Without an offset it was acknowledged, and the answer lost: the broker knew the retry as a repeat.
            if (offset := message.offset()) is not None:
                self._reached[message.topic(), message.partition()] = offset + 1
        elif self._failure is None:
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        reason = self._failure.str()
        if self._open:
            self.abort()
            raise AbortedError(f"A message was not delivered: {reason}.", "It is tried again.")
        raise BrokerError(f"A message was not delivered: {reason}.", "Check the broker; then start the worker again.")


class KafkaLog:
    """Appends to ``md.events``, keyed by underlying."""

    def __init__(self, settings: Settings) -> None:
        self._outbox = Outbox(settings)
        self._partitions = settings.partitions
        self.rejected: Counter[str] = Counter()

    def append(self, batch: EventBatch) -> None:
        """Queue one message."""
        self._outbox.send(
            EVENTS,
            partition_of(batch.underlying, self._partitions),
            batch.underlying,
            encode(batch.data),
            {KIND_HEADER: batch.kind.value},
        )

    def reject(self, origin: str, reject: Reject, payload: bytes = b"") -> None:
        """Append a dead letter."""
        self.rejected[reject.reason] += reject.rows
        send_dead_letter(self._outbox, reject, {"origin": origin}, payload)

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        self._outbox.flush()


def send_dead_letter(outbox: Outbox, reject: Reject, where: dict[str, str], payload: bytes) -> None:
    """Append to ``dead-letter``: why, where it came from, and the bytes; ``size`` tells when some are missing."""
    headers = {"reason": reject.reason, "detail": reject.detail[:500], "rows": str(reject.rows), **where}
    if len(payload) > KEPT_BYTES:
        headers["size"] = str(len(payload))
    outbox.send(DEAD_LETTER, 0, where.get("topic", where.get("origin", "")), payload[:KEPT_BYTES], headers)


class MemoryLog:
    """Hands every batch to a function at once: the log of a backfill from files."""

    def __init__(self, consume: Callable[[EventBatch], None]) -> None:
        self._consume = consume
        self.rejected: Counter[str] = Counter()

    def append(self, batch: EventBatch) -> None:
        """Pass the rows on."""
        self._consume(batch)

    def reject(self, origin: str, reject: Reject) -> None:
        """Count."""
        self.rejected[reject.reason] += reject.rows

    def flush(self) -> None:
        """Nothing waits."""
