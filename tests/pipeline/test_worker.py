"""The worker's loop around a processor that only notes what happens to it, on a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline import topics
from pipeline.broker import EmbeddedBroker
from pipeline.health import Health
from pipeline.kafka import committed_offsets, create_topics
from pipeline.log import AbortedError, Outbox
from pipeline.log_identity import LostLogError
from pipeline.metrics import WorkerMetrics
from pipeline.processor import GroupMetadata, Offsets, Position
from pipeline.settings import Settings
from pipeline.worker import Worker

pytestmark = pytest.mark.broker


class Noting:
    """Takes messages as texts; full while told so."""

    name = "noting"
    sources: Sequence[str] = (topics.EVENTS,)
    alone = False

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.times: list[float] = []
        self.batches: list[int] = []
        self.calls: list[str] = []
        self.starts: dict[Position, int] = {}
        self.next: dict[Position, int] = {}
        self.saved: dict[Position, int] = {}
        self.is_full = False
        self.fail_at: str | None = None

    def assigned(self, partitions: Collection[Position]) -> Offsets:
        self.calls.append("assigned")
        self.next = dict(self.starts)
        return self.starts

    def released(self, partitions: Collection[Position]) -> None:
        self.calls.append("released")

    def take(self, messages: Sequence[Any]) -> None:
        self.batches.append(len(messages))
        for message in messages:
            text = message.value().decode()
            if text == self.fail_at:
                self.fail_at = None
                raise AbortedError("A transaction was aborted: test.", "It is tried again.")
            self.taken.append(text)
            self.times.append(time.monotonic())
            self.next[message.topic(), message.partition()] = message.offset() + 1

    def tick(self) -> None:
        if not self.calls or self.calls[-1] != "tick":
            self.calls.append("tick")

    def full(self) -> bool:
        return self.is_full

    def due(self) -> bool:
        return False

    def checkpoint(self, group: GroupMetadata, *, patience_s: float | None) -> None:
        if patience_s is not None:
            self.calls.append("final checkpoint")
        self.saved = dict(self.next)

    def durable(self) -> Offsets:
        saved, self.saved = self.saved, {}
        return saved

    def close(self) -> None:
        self.calls.append("closed")


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    settings = Settings(bootstrap=broker.bootstrap, partitions=1, checkpoint_interval_ms=100)
    create_topics(settings)
    return settings


def worker_of(settings: Settings, processor: Noting) -> Worker:
    return worker_and_metrics(settings, processor)[0]


def worker_and_metrics(settings: Settings, processor: Noting) -> tuple[Worker, WorkerMetrics]:
    metrics = WorkerMetrics(processor.name)
    return Worker(settings, processor, metrics, Health()), metrics


@contextmanager
def running(worker: Worker) -> Iterator[list[BaseException]]:
    """The worker in a thread; what it raised is collected."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001 (told to the test)
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        worker.stop()
        thread.join(30)


def send(settings: Settings, *texts: str) -> None:
    outbox = Outbox(settings, linger_ms=0)
    for text in texts:
        outbox.send(topics.EVENTS, 0, "BTC", text.encode(), {})
    outbox.flush()


def wait_for(what: Callable[[], Any], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_backlog_goes_in_large_batches_and_a_lone_message_at_once(settings: Settings) -> None:
    send(settings, *map(str, range(2_000)))
    processor = Noting()
    with running(worker_of(settings, processor)) as raised:
        wait_for(lambda: len(processor.taken) == 2_000)
        backlog = list(processor.batches)
        delays = []
        outbox = Outbox(settings, linger_ms=0)
        for number in range(20):
            begin = time.monotonic()
            outbox.send(topics.EVENTS, 0, "BTC", f"lone {number}".encode(), {})
            wait_for(lambda: processor.taken[-1] == f"lone {number}")  # noqa: B023 (waited for here)
            delays.append(processor.times[-1] - begin)
    assert raised == []
    assert processor.taken[:2_000] == [str(i) for i in range(2_000)]
    assert max(backlog) > 100
    assert processor.batches[-20:] == [1] * 20
    assert sorted(delays)[10] < 0.1
    assert processor.calls[-3:] == ["final checkpoint", "released", "closed"]
    assert committed_offsets(settings, "noting", [topics.EVENTS]) == {(topics.EVENTS, 0): 2_020}


def test_a_full_sink_stops_the_flow_and_not_the_membership(settings: Settings) -> None:
    processor = Noting()
    with running(worker_of(settings, processor)) as raised:
        send(settings, "first")
        wait_for(lambda: processor.taken == ["first"])
        processor.is_full = True
        time.sleep(0.3)
        send(settings, *map(str, range(100)))
        # Longer than the session: without heartbeats and polls it would be no member any more.
        time.sleep(4.0)
        assert processor.taken == ["first"]
        processor.is_full = False
        wait_for(lambda: len(processor.taken) == 101)
    assert raised == []
    assert processor.calls.count("assigned") == 1


def test_it_goes_on_where_the_processor_says(settings: Settings) -> None:
    send(settings, "a", "b", "c", "d")
    processor = Noting()
    processor.starts = {(topics.EVENTS, 0): 2}
    with running(worker_of(settings, processor)):
        wait_for(lambda: len(processor.taken) >= 2)
    assert processor.taken == ["c", "d"]


def test_after_an_aborted_transaction_it_starts_over_from_the_last_state(settings: Settings) -> None:
    send(settings, "a", "b", "c", "d")
    processor = Noting()
    processor.fail_at = "c"
    with running(worker_of(settings, processor)) as raised:
        wait_for(lambda: "d" in processor.taken)
    assert raised == []
    assert processor.taken == ["a", "b", "a", "b", "c", "d"]


def test_an_offset_that_the_log_does_not_have_is_an_error_with_the_remedy(settings: Settings) -> None:
    send(settings, "a")
    processor = Noting()
    processor.starts = {(topics.EVENTS, 0): 5_000}
    with running(worker_of(settings, processor)) as raised:
        wait_for(lambda: raised)
    assert isinstance(raised[0], LostLogError)
    assert "was read up to offset 5000, and ends at 1" in str(raised[0])
    assert processor.taken == []


def test_a_broker_that_comes_back_with_another_log_ends_the_worker_before_it_takes_anything(tmp_path: Path) -> None:
    first = EmbeddedBroker().start()
    settings = Settings(bootstrap=first.bootstrap, partitions=1, session_timeout_ms=3_000)
    create_topics(settings)
    processor = Noting()
    send(settings, *map(str, range(5)))
    with running(worker_of(settings, processor)) as raised:
        wait_for(lambda: len(processor.taken) == 5)
        first.stop()
        second = EmbeddedBroker(first.port).start()
        try:
            create_topics(settings)
            # Filled beyond the worker's place: offsets alone would not tell.
            send(settings, *(f"other {number}" for number in range(50)))
            wait_for(lambda: raised)
        finally:
            second.stop()
    assert isinstance(raised[0], LostLogError)
    assert "came back with another log" in str(raised[0])
    assert processor.taken == [str(i) for i in range(5)]


def test_a_broker_that_goes_and_comes_back_with_its_log_is_waited_for(
    settings: Settings, broker: EmbeddedBroker
) -> None:
    import os
    import signal

    processor = Noting()
    with running(worker_of(settings, processor)) as raised:
        send(settings, "before")
        wait_for(lambda: processor.taken == ["before"])
        os.kill(broker.pid, signal.SIGSTOP)
        time.sleep(5.0)
        os.kill(broker.pid, signal.SIGCONT)
        send(settings, "after")
        wait_for(lambda: "after" in processor.taken)
    assert raised == []


def test_its_lag_is_counted_from_where_it_goes_on_before_anything_has_come(settings: Settings) -> None:
    send(settings, *map(str, range(50)))
    processor = Noting()
    processor.starts = {(topics.EVENTS, 0): 50}
    worker, metrics = worker_and_metrics(settings, processor)
    with running(worker) as raised:
        wait_for(lambda: _lag(metrics) is not None)
        assert (_lag(metrics), processor.taken) == (0, [])
        send(settings, "one more")
        wait_for(lambda: processor.taken == ["one more"] and _lag(metrics) == 0)
    assert raised == []


def _lag(metrics: WorkerMetrics) -> float | None:
    labels = {"topic": topics.EVENTS, "partition": "0", "stage": "noting"}
    return metrics.registry.get_sample_value("hedgeflow_lag_messages", labels)
