"""Workers come, go, freeze and wake up as zombies while messages flow: every partition in one hand, every bit right."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from broker_under_test import SESSION_MS, Broker, create_topics
from small_market import edged, small_market

from benchmarks.soak_truth import truth_of
from features.events import EventBatch
from pipeline.edge import Edge
from pipeline.kafka import partition_of
from pipeline.log import KafkaLog
from pipeline.processes import WorkerProcess, Workers, environment_of
from pipeline.settings import Settings

pytestmark = pytest.mark.broker

Record = Callable[[str, object], None]
PARTITIONS = 4
UNDERLYINGS = ("BTC", "ETH", "XRP", "DOT", "SOL")
EVENTS = small_market(24, seed=11, underlyings=UNDERLYINGS)
SEEN_S = 300.0


def make_settings(broker: Broker, folder: Path, guarantee: str = "at_least_once") -> Settings:
    assert {partition_of(name, PARTITIONS) for name in UNDERLYINGS} == set(range(PARTITIONS))
    return Settings(
        bootstrap=broker.bootstrap,
        application=folder.name,
        partitions=PARTITIONS,
        lake=folder / "lake",
        reference={name: f"test:{name}-PERPETUAL" for name in UNDERLYINGS},
        checkpoint_interval_ms=200,
        lake_commit_interval_ms=300,
        session_timeout_ms=SESSION_MS,
        batch_messages=20,
        processing_guarantee=guarantee,
    )


class SlowFeed:
    """Sends all events in a thread, at a pace, quicker once there is nothing more to wait for."""

    def __init__(self, settings: Settings, events: list[EventBatch], a_second: int) -> None:
        self._log = KafkaLog(settings)
        self._events = events
        self._pause_s = 1.0 / a_second
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        edge = Edge(self._log, "test")
        for event in self._events:
            edge.send(event)
            self._hurry.wait(self._pause_s)

    def finish(self) -> None:
        """Send the rest at once."""
        self._hurry.set()
        self._thread.join()
        self._log.flush()


@contextmanager
def members(settings: Settings, folder: Path, *names: str) -> Iterator[dict[str, WorkerProcess]]:
    """Further workers of ``features``, not started yet."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            found[name] = WorkerProcess("features", environment_of(settings), folder / "logs" / f"features-{name}.log")
            stack.callback(found[name].stop)
        yield found


def owned(folder: Path, name: str) -> set[str]:
    """The partitions that a worker was last given, says its log."""
    log = folder / "logs" / f"{name}.log"
    lines = [json.loads(line) for line in (log.read_text() if log.exists() else "").splitlines() if line[:1] == "{"]
    given = [line["partitions"] for line in lines if line["event"] == "assigned"]
    return set(given[-1]) if given else set()


def wait_for(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + SEEN_S
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def checked(settings: Settings, folder: Path) -> str:
    truth = truth_of(settings, folder, edged(EVENTS), signals=False, decisions=False)
    assert truth.holds, truth.report()
    assert truth.tables["features"]["undisturbed"].rows > 120
    return truth.summary()


def test_one_worker_then_three_then_two(broker: Broker, tmp_path: Path, record_property: Record) -> None:
    settings = make_settings(broker, tmp_path)
    create_topics(broker, settings)
    with (
        Workers(settings, environment_of(settings), tmp_path / "logs") as workers,
        members(settings, tmp_path, "b", "c") as more,
    ):
        workers.start("features", "universe", "lake")
        feed = SlowFeed(settings, EVENTS, a_second=60)
        wait_for(lambda: len(owned(tmp_path, "features")) == PARTITIONS, "the first worker owns all")
        more["b"].start()
        more["c"].start()
        names = ("features", "features-b", "features-c")
        wait_for(lambda: all(0 < len(owned(tmp_path, name)) < PARTITIONS for name in names), "three share")
        more["b"].stop()
        wait_for(
            lambda: len(owned(tmp_path, "features")) + len(owned(tmp_path, "features-c")) == PARTITIONS, "two share"
        )
        feed.finish()
        workers.drain(600)
    record_property("counted", f"1 -> 3 -> 2 workers; {checked(settings, tmp_path)}")


def test_a_frozen_worker_wakes_up_when_another_has_its_partitions(
    broker: Broker, tmp_path: Path, record_property: Record
) -> None:
    """With transactions: the zombie's own is still open, or goes through where the broker does not look."""
    settings = make_settings(broker, tmp_path, "exactly_once")
    create_topics(broker, settings)
    with (
        Workers(settings, environment_of(settings), tmp_path / "logs") as workers,
        members(settings, tmp_path, "b") as more,
    ):
        workers.start("features", "universe", "lake")
        feed = SlowFeed(settings, EVENTS, a_second=60)
        more["b"].start()
        wait_for(
            lambda: bool(owned(tmp_path, "features")) and 0 < len(owned(tmp_path, "features-b")) < PARTITIONS, "share"
        )
        workers["features"].pause()
        wait_for(lambda: len(owned(tmp_path, "features-b")) == PARTITIONS, "the other takes over")
        time.sleep(1.0)
        workers["features"].resume()
        feed.finish()
        workers.drain(600)
        more["b"].check()
        assert more["b"].restarts == workers.restarts == 0
    record_property("counted", f"a zombie; {checked(settings, tmp_path)}")
