"""The log of market events: in Kafka, or in memory when files are backfilled without a broker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, Producer

from features.events import EventBatch
from features.stage import Reject
from pipeline.codec import KIND_HEADER, encode
from pipeline.kafka import BrokerError, make_producer, partition_of
from pipeline.settings import Settings
from pipeline.topics import DEAD_LETTER, EVENTS


class Outbox:
    """A producer whose failures are raised by the next call, so that nothing is lost unseen."""

    def __init__(self, settings: Settings, linger_ms: float = 5) -> None:
        self._producer: Producer = make_producer(settings, linger_ms)
        self._failure: KafkaError | None = None
        self.bootstrap = settings.bootstrap

    def send(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Queue one message; waits when the queue is full.

        Raises:
            BrokerError: an earlier message was not delivered.
        """
        while True:
            self._raise_failure()
            try:
                self._producer.produce(
                    topic,
                    key=key.encode(),
                    value=value,
                    partition=partition,
                    headers={name: text.encode() for name, text in headers.items()},
                    on_delivery=self._delivered,
                )
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

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

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise BrokerError(
                f"A message was not delivered: {self._failure.str()}.", "Check the broker; then start the worker again."
            )


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
    """Append to ``dead-letter``: why, where it came from, and the bytes themselves."""
    headers = {"reason": reject.reason, "detail": reject.detail[:500], "rows": str(reject.rows), **where}
    outbox.send(DEAD_LETTER, 0, where.get("topic", where.get("origin", "")), payload[:900_000], headers)


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
