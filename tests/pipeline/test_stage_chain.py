"""A chain of stages between real topics: cut, crashed, restored anywhere, it gives the rows of an undisturbed run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from small_market import edged, small_market

from features.errors import ConfigError
from pipeline import topics
from pipeline.backfill import chain_stages
from pipeline.broker import EmbeddedBroker
from pipeline.chain import Chain
from pipeline.checkpoint import Checkpoint, CheckpointStore
from pipeline.codec import KIND_HEADER, decode_rows, encode
from pipeline.kafka import create_topics, header, make_consumer, make_reader, partition_of, read_to_end
from pipeline.log import Outbox
from pipeline.log_identity import LostLogError
from pipeline.metrics import WorkerMetrics
from pipeline.settings import Settings
from pipeline.stage_chain import StageChain
from pipeline.worker_specs import chain_spec

pytestmark = pytest.mark.broker

EVENTS = edged(small_market(25, seed=3))


@dataclass(frozen=True)
class Given:
    """A message as the consumer hands it over."""

    at: int
    payload: bytes
    kind: str
    name: str
    number: int

    def topic(self) -> str:
        return topics.EVENTS

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return self.name.encode()

    def value(self) -> bytes:
        return self.payload

    def headers(self) -> list[tuple[str, bytes]]:
        return [(KIND_HEADER, self.kind.encode())]


def given() -> list[Given]:
    offsets = [0, 0]
    messages = []
    for event in EVENTS:
        number = partition_of(event.underlying, 2)
        messages.append(Given(offsets[number], encode(event.data), event.kind.value, event.underlying, number))
        offsets[number] += 1
    return messages


MESSAGES = given()
PARTITIONS = {(topics.EVENTS, 0), (topics.EVENTS, 1)}


@pytest.fixture(params=["at_least_once", "exactly_once"])
def settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        settings = Settings(
            bootstrap=broker.bootstrap,
            reference={"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"},
            processing_guarantee=request.param,
            broker_patience_ms=10_000,
            member="a",  # started again under its name, a worker ends the transaction that it left open
        )
        create_topics(settings)
        yield settings


@pytest.fixture
def group(settings: Settings) -> Iterator[Consumer]:
    consumer = make_consumer(settings, "features-universe")
    yield consumer
    consumer.close()


def make(settings: Settings, *names: str) -> StageChain:
    metrics = WorkerMetrics("-".join(names))
    return StageChain(settings, chain_spec(names, settings, metrics), metrics)


def sent(settings: Settings, topic: str) -> list[dict[str, Any]]:
    """The rows of a topic, those that a consumer keeps: beyond the last bar of their instrument."""
    reader = make_reader(settings)
    last: dict[str, int] = {}
    rows = []
    try:
        positions = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(2)]
        for message in read_to_end(reader, positions):
            for row in decode_rows(header(message, KIND_HEADER) or "", message.value()).to_pylist():
                if row["bar_ts"] > last.get(row["instrument"], -1):
                    last[row["instrument"]] = row["bar_ts"]
                    rows.append(row)
    finally:
        reader.close()
    return ordered(rows)


def ordered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["instrument"], row["bar_ts"]))


def undisturbed(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {"features": [], "universe": []}

    def sink(name: str, data: pa.RecordBatch) -> None:
        rows[name] += data.to_pylist()

    chain = Chain(chain_stages(settings, with_signals=False), sink, lambda _stage, _reject: None)
    for event in EVENTS:
        chain.push(event)
    return {name: ordered(each) for name, each in rows.items()}


def test_crashed_between_checkpoints_it_gives_the_rows_of_an_undisturbed_run(
    settings: Settings, group: Consumer
) -> None:
    third = len(MESSAGES) // 3
    first = make(settings, "features", "universe")
    first.assigned(PARTITIONS)
    first.take(MESSAGES[:third])
    first.checkpoint(group.consumer_group_metadata, patience_s=60)
    # Sent, and perhaps acknowledged, but in no checkpoint: then it dies.
    first.take(MESSAGES[third : 2 * third])
    first._outbox.flush()
    second = make(settings, "features", "universe")
    offsets = second.assigned(PARTITIONS)
    assert sum(offsets.values()) == third
    second.take(MESSAGES)
    second.checkpoint(group.consumer_group_metadata, patience_s=60)
    second.close()
    expected = undisturbed(settings)
    assert sent(settings, topics.FEATURES) == expected["features"]
    assert sent(settings, topics.UNIVERSE) == expected["universe"]
    assert len(expected["universe"]) > 40


@pytest.mark.parametrize("settings", ["at_least_once"], indirect=True)  # a transaction is waited for
def test_a_checkpoint_is_saved_while_messages_flow_on(settings: Settings, group: Consumer) -> None:
    third = len(MESSAGES) // 3
    first = make(settings, "features", "universe")
    first.assigned(PARTITIONS)
    first.take(MESSAGES[:third])
    first.checkpoint(group.consumer_group_metadata, patience_s=None)
    assert first.durable() == {}, "nothing was acknowledged yet"
    first.take(MESSAGES[third : 2 * third])
    first.checkpoint(group.consumer_group_metadata, patience_s=None)  # one at a time: the first goes on
    durable: dict[tuple[str, int], int] = {}
    deadline = time.monotonic() + 30
    while not durable and time.monotonic() < deadline:
        first.tick()
        durable = dict(first.durable())
    assert sum(durable.values()) == third, "the state of when it began, not of when it ended"
    assert first.durable() == {}, "told once"
    second = make(settings, "features", "universe")
    assert second.assigned(PARTITIONS) == durable
    second.take(MESSAGES)
    second.checkpoint(group.consumer_group_metadata, patience_s=60)
    assert sum(second.durable().values()) == len(MESSAGES)
    assert sent(settings, topics.UNIVERSE) == undisturbed(settings)["universe"]


@pytest.mark.parametrize("settings", ["at_least_once"], indirect=True)
def test_what_was_being_saved_when_partitions_went_is_saved_with_the_next(settings: Settings, group: Consumer) -> None:
    chain = make(settings, "features")
    chain.assigned(PARTITIONS)
    chain.take(MESSAGES[:200])
    chain.checkpoint(group.consumer_group_metadata, patience_s=None)
    chain.released({(topics.EVENTS, 0)})
    chain.checkpoint(group.consumer_group_metadata, patience_s=60)
    kept = sum(message.partition() == 1 for message in MESSAGES[:200])
    assert chain.durable() == {(topics.EVENTS, 1): kept}
    chain.close()


def test_state_of_another_configuration_or_log_is_refused_with_the_remedy(settings: Settings, group: Consumer) -> None:
    chain = make(settings, "features", "universe")
    chain.assigned(PARTITIONS)
    chain.take(MESSAGES[:50])
    chain.checkpoint(group.consumer_group_metadata, patience_s=60)
    chain.close()
    slower = settings.model_copy(update={"interval_ns": 2_000_000_000})
    with pytest.raises(ConfigError, match=r"bars of 1000000000 ns.*another `application`"):
        make(slower, "features", "universe").assigned(PARTITIONS)
    outbox = Outbox(settings)
    CheckpointStore(settings, outbox).save("features-universe/0", Checkpoint(9, {}, {}, log_id="other/log"))
    if settings.processing_guarantee == "at_least_once":
        with pytest.raises(LostLogError):
            make(settings, "features", "universe").assigned(PARTITIONS)


def test_after_an_aborted_transaction_the_last_checkpoint_counts(settings: Settings, group: Consumer) -> None:
    chain = make(settings, "features", "universe")
    chain.assigned(PARTITIONS)
    chain.take(MESSAGES[:100])
    chain.checkpoint(group.consumer_group_metadata, patience_s=60)
    chain.take(MESSAGES[100:300])
    chain.released(PARTITIONS)  # as when another worker has taken over: nothing of ours is committed
    offsets = chain.assigned(PARTITIONS)
    assert sum(offsets.values()) == 100
    chain.take(MESSAGES[100:])
    chain.checkpoint(group.consumer_group_metadata, patience_s=60)
    chain.close()
    assert sent(settings, topics.UNIVERSE) == undisturbed(settings)["universe"]


@pytest.mark.parametrize(
    "names", [("universe", "features"), ("features", "signals"), ("features", "decisions"), ("own", "signals")]
)
def test_stages_that_do_not_follow_one_another_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="in the order features universe signals decisions"):
        chain_spec(names, Settings(), WorkerMetrics("test"))


def test_two_writers_of_one_generation_never_mix(settings: Settings) -> None:
    """A worker that was frozen wakes up and writes a number that the new owner of its partitions has written, too."""
    frozen = CheckpointStore(settings, Outbox(settings))
    owner = CheckpointStore(settings, Outbox(settings))
    owner.save("s/0", Checkpoint(1, {("t", 0): 5}, {"A": b"owner", "B": b"owner"}))
    outbox = Outbox(settings)
    frozen = CheckpointStore(settings, outbox)
    frozen.save("s/0", Checkpoint(1, {("t", 0): 3}, {"A": b"frozen"}))
    found = owner.load("s/0")
    assert (found.offsets, found.state) in (
        ({("t", 0): 5}, {"A": b"owner", "B": b"owner"}),
        ({("t", 0): 3}, {"A": b"frozen"}),
    )
