"""The worker over a user's own topics of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from features.errors import ConfigError
from pipeline.health import Health
from pipeline.kafka import BrokerError, create_topics, require_broker
from pipeline.messages.chain import STAGE, MessageChain
from pipeline.messages.declaration import read_declaration
from pipeline.metrics import WorkerMetrics
from pipeline.settings import Settings
from pipeline.topics import TOPICS, TopicSpec
from pipeline.worker import Worker

JSON_MESSAGES: Final = 20
"""JSON messages that count as one of ours, which has many rows: a call of the stage should have thousands of rows."""


def make_message_worker(settings: Settings, file: Path, topics: Sequence[str], sink: str) -> Worker:
    """The worker that ``hedgeflow stream messages`` runs; makes the topics that are missing.

    Args:
        settings: of broker and checkpoints; ``partitions`` is taken from ``topics``.
        file: declares the stage.
        topics: of JSON; they have equally many partitions.
        sink: where the rows go, with as many.

    Raises:
        ConfigError: the file does not fit, or the topics' names or partitions do not.
        BrokerError: a topic does not exist, or the broker is not there.
    """
    declared, version = read_declaration(file)
    if not topics or sink in topics or sink in TOPICS:
        raise ConfigError(
            f"Rows of {', '.join(topics) or 'no topic'} cannot go to {sink}.", "Name topics of yours, and another one."
        )
    shared = settings.model_copy(
        update={
            "partitions": _partitions(settings, topics),
            "batch_messages": JSON_MESSAGES * settings.batch_messages,
        }
    )
    create_topics(settings)
    create_topics(shared, (TopicSpec(sink, key="none", per_underlying=True),))
    metrics = WorkerMetrics(STAGE)
    return Worker(shared, MessageChain(shared, declared, version, topics, sink, metrics), metrics, Health())


def _partitions(settings: Settings, topics: Sequence[str]) -> int:
    existing = require_broker(settings).topics
    for topic in topics:
        if topic not in existing:
            raise BrokerError(f"There is no topic {topic} at {settings.bootstrap}.", "Check --topics.")
    numbers = {len(existing[topic].partitions) for topic in topics}
    if len(numbers) != 1:
        raise ConfigError(
            f"The topics have {sorted(numbers)} partitions.", "State is one a partition number: they must be equal."
        )
    return int(numbers.pop())
