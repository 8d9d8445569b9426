"""Two logs are told apart, also where a broker does not give its topics ids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from pipeline.broker import EmbeddedBroker
from pipeline.kafka import BrokerError, create_topics
from pipeline.log_identity import LostLogError, read_log_id, require_same_log
from pipeline.settings import Settings
from pipeline.topics import EVENTS


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.mark.broker
def test_a_topic_made_anew_is_another_log(broker: EmbeddedBroker) -> None:
    settings = Settings(bootstrap=broker.bootstrap)
    with pytest.raises(BrokerError, match="topics create"):
        read_log_id(settings)
    create_topics(settings)
    known = read_log_id(settings)
    assert read_log_id(settings) == known
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([EVENTS])[EVENTS].result(10)
    create_topics(settings)
    with pytest.raises(LostLogError, match="came back with another log"):
        require_same_log(known, read_log_id(settings))


def test_clusters_always_count_and_topics_where_both_are_known() -> None:
    require_same_log("c/t", "c/t")
    require_same_log("c/", "c/t")
    for other in ("c/u", "d/t", "d/"):
        with pytest.raises(LostLogError, match="another `application`"):
            require_same_log("c/t", other)
    # Perhaps only slow: not the same, and not another.
    with pytest.raises(BrokerError, match="does not say"):
        require_same_log("c/t", "c/")
