"""What ``hedgeflow doctor`` asks a broker: is it there, are the topics as configured, does it keep what it promises."""

from __future__ import annotations

from typing import Any

from pipeline.commands.verdict import FINE, WARN, Finding

EMBEDDED_CLUSTER = "tansu_cluster"
"""The cluster id with which the embedded broker starts."""


def broker_findings(settings: Any) -> list[Finding]:
    """The broker, and if it answers its topics and, where they are wanted, its transactions."""
    from features.errors import ConfigError
    from pipeline.kafka import BrokerError, require_broker

    try:
        metadata = require_broker(settings, timeout_s=2.0)
    except (BrokerError, ConfigError) as error:
        return [("broker", WARN, error.problem, error.remedy)]
    found = [_broker(settings, metadata), _topics(settings, metadata)]
    if settings.processing_guarantee == "exactly_once":
        found.append(_transactions(settings))
    return found


def _broker(settings: Any, metadata: Any) -> Finding:
    if metadata.cluster_id == EMBEDDED_CLUSTER:
        found = f"{settings.bootstrap}, embedded (Tansu)"
        return "broker", FINE, found, "Keeps everything in memory: for trials, not for months."
    return "broker", FINE, f"{settings.bootstrap}, {len(metadata.brokers)} broker(s)", ""


def _topics(settings: Any, metadata: Any) -> Finding:
    from pipeline.topic_state import read_topics
    from pipeline.topics import TOPICS

    missing = [name for name in TOPICS if name not in metadata.topics]
    if missing:
        return "topics", WARN, f"topics missing: {', '.join(missing)}", "`hedgeflow topics create`"
    differ = [
        f"{state.spec.name}: {each.name} is {each.found}, wanted {each.wanted}"
        for state in read_topics(settings)
        for each in state.differences
    ]
    if differ:
        return "topics", WARN, "; ".join(differ), "Your broker's tools change them; `hedgeflow topics describe`."
    return "topics", FINE, f"{len(TOPICS)} topics", ""


def _transactions(settings: Any) -> Finding:
    from confluent_kafka import KafkaException

    from pipeline.kafka import make_producer

    try:
        make_producer(settings, transactional_id=f"{settings.application}.doctor").init_transactions(5.0)
    except KafkaException as error:
        found = f"exactly_once is set, and the broker has none: {error.args[0].str()}"
        return "transactions", WARN, found, "Use at_least_once: results are the same."
    return "transactions", FINE, "the broker begins them", ""
