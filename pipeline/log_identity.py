"""Which log is this? A broker that lost its data and was filled again is another one, whatever its offsets say."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from pipeline.kafka import CONNECT_TIMEOUT_S, BrokerError, make_admin
from pipeline.settings import Settings
from pipeline.topics import EVENTS

DESCRIBE_S: Final = 5.0
"""A broker that does not know the question (librdkafka's mock cluster) never answers it."""


class LostLogError(BrokerError):
    """The log is not the one that was read before: positions in it mean nothing any more."""


def read_log_id(settings: Settings, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
    """``CLUSTER/TOPIC``: the cluster's id, and the one that ``md.events`` was given when it was created.

    The second is empty where the broker does not tell.

    Raises:
        BrokerError: nothing answers, or the topic does not exist.
    """
    admin = make_admin(settings)  # the future dies with it
    try:
        cluster = admin.list_topics(topic=EVENTS, timeout=timeout_s)
        if (refusal := cluster.topics[EVENTS].error) is not None:
            raise KafkaException(refusal)
    except KafkaException as failure:
        raise BrokerError(
            f"The topic {EVENTS} cannot be described at {settings.bootstrap}: {failure.args[0].str()}.",
            "`hedgeflow topics create` makes the topics; `hedgeflow doctor` checks broker and topics.",
        ) from failure
    return f"{cluster.cluster_id}/{_topic_id(admin, min(timeout_s, DESCRIBE_S))}"


def _topic_id(admin: AdminClient, timeout_s: float) -> str:
    try:
        found = admin.describe_topics(TopicCollection([EVENTS]), request_timeout=timeout_s)[EVENTS]
        return str(found.result(timeout=timeout_s).topic_id)
    except (KafkaException, TimeoutError):
        return ""


def require_same_log(known: str, found: str) -> None:
    """Compare two identities; a topic's id counts where ``known`` has one.

    Raises:
        LostLogError: they differ.
        BrokerError: the broker did not tell the topic's id, and had told it before.
    """
    cluster, _, topic = known.partition("/")
    other_cluster, _, other_topic = found.partition("/")
    if cluster == other_cluster and topic and not other_topic:
        raise BrokerError(f"The broker does not say which topic {EVENTS} is.", "Is it overloaded? Try again.")
    if cluster != other_cluster or (topic and other_topic and topic != other_topic):
        raise LostLogError(
            f"The broker came back with another log ({found}, before it was {known}).",
            "The embedded broker keeps nothing when it stops. Start the workers again under another `application` and "
            "--lake; the old lake stays as it is, and `hedgeflow backfill` computes from its raw tables.",
        )
