"""The tests' own way with a broker that belongs to somebody: asked first, then left without our topics."""

from __future__ import annotations

import broker_under_test
import pytest
from broker_under_test import ForeignBroker
from confluent_kafka.cimpl import NewTopic

from benchmarks.mock_cluster import MockCluster
from pipeline.broker import EmbeddedBroker
from pipeline.kafka import create_topics, make_admin, require_broker
from pipeline.settings import Settings
from pipeline.topics import TOPICS

pytestmark = pytest.mark.broker


def test_topics_are_deleted_only_when_that_is_allowed_and_only_ours(
    own_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(bootstrap=own_broker.bootstrap)
    create_topics(settings)
    admin = make_admin(settings)  # the future dies with it
    admin.create_topics([NewTopic("theirs", 1, 1)])["theirs"].result(10)
    with pytest.raises(pytest.fail.Exception, match="HEDGEFLOW_TEST_MAY_DELETE_TOPICS=yes"):
        ForeignBroker(own_broker.bootstrap).__enter__()
    assert set(require_broker(settings).topics) == {*TOPICS, "theirs"}
    monkeypatch.setattr(broker_under_test, "MAY_DELETE", True)
    with ForeignBroker(own_broker.bootstrap):
        assert set(require_broker(settings).topics) == {"theirs"}
        create_topics(settings)
    assert set(require_broker(settings).topics) == {"theirs"}


def test_the_mock_cluster_has_the_topics_with_their_partitions() -> None:
    with MockCluster() as mock:
        settings = Settings(bootstrap=mock.bootstrap, partitions=3)
        mock.create_topics(settings)
        found = {name: len(topic.partitions) for name, topic in require_broker(settings).topics.items()}
        assert create_topics(settings) == []
    assert found == {name: 3 if spec.per_underlying else 1 for name, spec in TOPICS.items()}
