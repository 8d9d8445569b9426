"""Which offsets the broker holds, for a comparison with the lake."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import TopicPartition

from pipeline.kafka import CONNECT_TIMEOUT_S, end_offsets, make_reader
from pipeline.settings import Settings
from pipeline.tables import Table


def held_offsets(settings: Settings, tables: Mapping[str, Table]) -> dict[tuple[str, int], tuple[int, int]]:
    """By (topic, partition), the first and the next offset.

    Raises:
        BrokerError: the broker is gone.
    """
    ends = end_offsets(settings, sorted({table.topic for table in tables.values()}))
    reader = make_reader(settings)
    try:
        held = {}
        for (topic, partition), end in ends.items():
            answer = reader.get_watermark_offsets(TopicPartition(topic, partition), CONNECT_TIMEOUT_S, cached=False)
            held[topic, partition] = (answer[0] if answer else 0, end)
        return held
    finally:
        reader.close()
