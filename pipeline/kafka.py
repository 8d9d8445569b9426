"""Clients of the broker: their settings in one place, and errors that say what to do."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from features.errors import HedgeflowError
from pipeline.connection import SILENCE_S, ConnectionErrors, made
from pipeline.settings import Settings
from pipeline.topics import TOPICS, TopicSpec

CONNECT_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.1

READER_WAIT_MS: Final = 100
"""Tansu must list a partition's batches in this time, and answers nothing else: enough for a few 100,000 of them."""


class BrokerError(HedgeflowError):
    """The broker is not there, or refuses."""

    exit_code = 6


def _quiet(_error: Any) -> None:
    """librdkafka reports passing connection errors here; what lasts is raised where it matters."""


def _common(settings: Settings) -> dict[str, Any]:
    return {
        "bootstrap.servers": settings.bootstrap,
        "log_level": 0,
        "error_cb": _quiet,
        "allow.auto.create.topics": False,
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 1_000,
        **settings.kafka,
    }


def make_producer(settings: Settings, linger_ms: float = 5, transactional_id: str = "") -> Producer:
    """A producer that neither duplicates nor reorders what it retries; with an id, one of transactions."""
    patience_ms = settings.broker_patience_ms
    transactions = {"transactional.id": transactional_id, "transaction.timeout.ms": patience_ms}
    return made(
        Producer,
        {
            **_common(settings),
            **(transactions if transactional_id else {}),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 131_072,
            "delivery.timeout.ms": patience_ms,
        },
    )


def make_consumer(settings: Settings, group: str, extra: Mapping[str, Any] | None = None) -> Consumer:
    """A consumer that commits only when told; ``range`` keeps partitions of several topics together."""
    return made(
        Consumer,
        {
            **_common(settings),
            "group.id": f"{settings.application}.{group}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "range",
            "fetch.wait.max.ms": settings.fetch_wait_max_ms,
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": settings.session_timeout_ms // 4,
            "queued.max.messages.kbytes": 65_536,
            "fetch.queue.backoff.ms": 5,
            **(extra or {}),
        },
    )


def static_member(settings: Settings, group: str, alone: bool = False) -> dict[str, str]:
    """Static membership: a worker started again under its name gets its partitions without waiting for a timeout.

    Args:
        alone: the group can have one member only, so its name is known.
    """
    member = "0" if alone else settings.member
    return {"group.instance.id": f"{settings.application}.{group}.{member}"} if member else {}


def make_reader(settings: Settings) -> Consumer:
    """A consumer outside any group, for :func:`read_to_end`."""
    return make_consumer(settings, "reader", {"enable.partition.eof": True, "fetch.wait.max.ms": READER_WAIT_MS})


def make_admin(settings: Settings) -> AdminClient:
    """An administrator of topics."""
    return made(AdminClient, _common(settings))


def require_broker(settings: Settings, timeout_s: float = CONNECT_TIMEOUT_S) -> Any:
    """The cluster's metadata; after ``SILENCE_S`` a person is told what we wait for.

    Raises:
        BrokerError: nothing answers at ``settings.bootstrap``, or it does not let us in.
        ConfigError: librdkafka refuses the setting ``kafka``.
    """
    errors = ConnectionErrors()
    admin = made(AdminClient, _common(settings) | {"error_cb": errors})
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return admin.list_topics(timeout=max(0.1, min(SILENCE_S, deadline - time.monotonic())))
        except KafkaException as failure:
            admin.poll(0)  # the reasons come as events
            if errors.lasting or time.monotonic() >= deadline:
                raise BrokerError(*errors.explained(settings.bootstrap)) from failure
            errors.tell_waiting(settings.bootstrap)


def create_topics(settings: Settings, specs: Sequence[TopicSpec] = tuple(TOPICS.values())) -> list[str]:
    """Create the topics that are missing, with explicit settings; return their names.

    Raises:
        BrokerError: a topic exists with another number of partitions, or the broker refuses.
    """
    existing = require_broker(settings).topics
    missing = [spec for spec in specs if spec.name not in existing]
    for spec in specs:
        if spec.name in existing and len(existing[spec.name].partitions) != partitions_of(spec, settings):
            raise BrokerError(
                f"Topic {spec.name} has {len(existing[spec.name].partitions)} partitions, "
                f"{partitions_of(spec, settings)} are configured.",
                "Set `partitions` to what the topics have; keys would move otherwise.",
            )
    if not missing:
        return []
    admin = make_admin(settings)  # the futures die with it
    futures = admin.create_topics(
        [
            NewTopic(
                spec.name, num_partitions=partitions_of(spec, settings), replication_factor=1, config=spec.settings()
            )
            for spec in missing
        ]
    )
    for name, future in futures.items():
        try:
            future.result(timeout=CONNECT_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerError(
                f"Topic {name} cannot be created: {error.args[0].str()}.", "Ask the broker's owner."
            ) from error
    return [spec.name for spec in missing]


def partitions_of(spec: TopicSpec, settings: Settings) -> int:
    """How many partitions a topic has."""
    return settings.partitions if spec.per_underlying else 1


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: CRC-32, as librdkafka's ``consistent`` partitioner, whatever client writes."""
    return zlib.crc32(key.encode()) % partitions


def take(consumer: Consumer, most: int, timeout_s: float = POLL_S) -> list[Message]:
    """What has come: a lone message at once, a backlog in one large batch; empty after ``timeout_s``.

    Raises:
        BrokerError: an error that will not pass by itself, for instance a topic that does not exist, or that the broker
            no longer has what comes next.
    """
    messages = consumer.consume(1, timeout=timeout_s)
    if messages:
        messages += consumer.consume(most, timeout=0)
    if any(message.error() is not None for message in messages):
        return [message for message in messages if not _passing_error(message)]
    return messages


def _passing_error(message: Message) -> bool:
    error = message.error()
    if error is None:
        return False
    passing = (KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT)
    if error.code() not in passing and not error.retriable():
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise BrokerError(
                f"The log has no offset {message.offset()} of {message.topic()}/{message.partition()} ({error.str()}).",
                "It was emptied, or retention passed us by: start under another `application`, and backfill the gap.",
            )
        raise BrokerError(f"The broker answers: {error.str()}.", "`hedgeflow doctor` checks broker and topics.")
    return True


def commit(consumer: Consumer, offsets: Mapping[tuple[str, int], int]) -> KafkaError | None:
    """Commit next offsets; returns why the broker refused, as it does during a rebalance.

    Committed offsets show how far a group is. Where a worker goes on, its checkpoint or its tables say.
    """
    if not offsets:
        return None
    try:
        consumer.commit(offsets=_positions(offsets), asynchronous=False)
    except KafkaException as error:
        return error.args[0]  # type: ignore[no-any-return]
    return None


def commit_soon(consumer: Consumer, offsets: Mapping[tuple[str, int], int]) -> KafkaError | None:
    """Commit next offsets while messages flow on.

    Returns why it cannot even be asked for; what the broker answers the consumer's ``on_commit`` hears.
    """
    try:
        consumer.commit(offsets=_positions(offsets), asynchronous=True)
    except KafkaException as error:
        return error.args[0]  # type: ignore[no-any-return]
    return None


def _positions(offsets: Mapping[tuple[str, int], int]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, at) for (topic, partition), at in offsets.items()]


def read_to_end(
    reader: Consumer, positions: Sequence[TopicPartition], patience_s: float = CONNECT_TIMEOUT_S
) -> Iterator[Any]:
    """All messages from ``positions`` to the end that each partition has when we reach it.

    Raises:
        BrokerError: the broker falls silent for ``patience_s``.
    """
    open_partitions = {(each.topic, each.partition) for each in positions}
    reader.assign(list(positions))
    deadline = time.monotonic() + patience_s
    while open_partitions:
        message = reader.poll(0.5)
        if message is None:
            if time.monotonic() > deadline:
                raise BrokerError(f"The broker sends nothing of {sorted(open_partitions)}.", "Is it still running?")
            continue
        deadline = time.monotonic() + patience_s
        if (error := message.error()) is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            open_partitions.discard((message.topic() or "", message.partition() or 0))


def end_offsets(settings: Settings, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """The offset after the last message of every partition of ``topics``.

    What the broker calls the end is where we begin to look. Tansu answers with one past the *first* record of its last
    batch, so that is read to its end. And a transaction leaves a marker behind its messages, an aborted one messages
    that nobody gets: no reader ever comes beyond those, so where nothing is found we look further back. The broker is
    asked for the end of all that was written: for that of what was committed Tansu says 0 while a transaction is open.
    """
    reader = make_reader(settings)
    asker = make_consumer(settings, "reader", {"isolation.level": "read_uncommitted"})
    try:
        metadata = require_broker(settings).topics
        ends: dict[tuple[str, int], int] = {}
        spans: dict[tuple[str, int], tuple[int, int]] = {}
        for topic in topics:
            for partition in metadata[topic].partitions if topic in metadata else ():
                where = TopicPartition(topic, partition)
                answer = asker.get_watermark_offsets(where, timeout=CONNECT_TIMEOUT_S, cached=False) or (0, 0)
                ends[topic, partition] = answer[0]
                if answer[0] < answer[1]:
                    spans[topic, partition] = answer
        width = 1
        while spans:
            positions = [TopicPartition(*key, max(first, end - width)) for key, (first, end) in spans.items()]
            spans = {key: (first, end - width) for key, (first, end) in spans.items() if end - width > first}
            for message in read_to_end(reader, positions, settings.broker_patience_ms / 1_000):
                key = message.topic(), message.partition()
                ends[key] = max(ends[key], message.offset() + 1)
                spans.pop(key, None)
            width *= 4
        return ends
    finally:
        reader.close()
        asker.close()


def committed_offsets(settings: Settings, group: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """How far a consumer group has come; a partition without a commit stands at 0."""
    metadata = require_broker(settings).topics
    consumer = make_consumer(settings, group)
    try:
        wanted = [TopicPartition(t, p) for t in topics for p in (metadata[t].partitions if t in metadata else ())]
        answer = consumer.committed(wanted, timeout=CONNECT_TIMEOUT_S)
        return {(tp.topic, tp.partition): max(0, tp.offset) for tp in answer}
    finally:
        consumer.close()


def header(message: Any, name: str) -> str | None:
    """A header of a message as text, ``None`` when it is absent or no text."""
    for key, value in message.headers() or ():
        if key == name and isinstance(value, bytes):
            return value.decode(errors="replace")
    return None
