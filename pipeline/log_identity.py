"""Which log is this? A broker that lost its data and was filled again is another one, whatever its offsets say."""

from __future__ import annotations

from confluent_kafka import KafkaException, TopicCollection

from pipeline.kafka import CONNECT_TIMEOUT_S, BrokerError, make_admin
from pipeline.settings import Settings
from pipeline.topics import EVENTS


class LostLogError(BrokerError):
    """The log is not the one that was read before: positions in it mean nothing any more."""


def read_log_id(settings: Settings, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
    """The cluster's id and the id that ``md.events`` was given when it was created.

    Raises:
        BrokerError: nothing answers, or the topic does not exist.
    """
    admin = make_admin(settings)  # the future dies with it
    try:
        cluster = admin.list_topics(topic=EVENTS, timeout=timeout_s)
        if (error := cluster.topics[EVENTS].error) is not None:
            raise KafkaException(error)
        found = admin.describe_topics(TopicCollection([EVENTS]), request_timeout=timeout_s)[EVENTS]
        return f"{cluster.cluster_id}/{found.result(timeout=timeout_s).topic_id}"
    except KafkaException as error:
        raise BrokerError(
            f"The topic {EVENTS} cannot be described at {settings.bootstrap}: {error.args[0].str()}.",
            "`hedgeflow topics create` makes the topics; `hedgeflow doctor` checks broker and topics.",
        ) from error


def require_same_log(known: str, found: str) -> None:
    """Compare two identities.

    Raises:
        LostLogError: they differ.
    """
    if known != found:
        raise LostLogError(
            f"The broker came back with another log ({found}, before it was {known}).",
            "The embedded broker keeps nothing when it stops. Start the workers again under another `application` and "
            "--lake; the old lake stays as it is, and `hedgeflow backfill` computes from its raw tables.",
        )
