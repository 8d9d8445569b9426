"""A running worker's port: what it answers from its start to its end, and that every figure is the right one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from small_market import START, small_market

from features.events import NANO
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.codec import KIND_HEADER
from pipeline.edge import Edge
from pipeline.kafka import create_topics, make_producer
from pipeline.log import KafkaLog
from pipeline.settings import Settings, load_settings
from pipeline.tables import TABLES
from pipeline.topics import EVENTS

pytestmark = pytest.mark.broker

SECONDS = 20
SECRET = "a-password-of-the-test"
ENVIRONMENT = {"HEDGEFLOW_KAFKA": json.dumps({"ssl.key.password": SECRET})}


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


class Running:
    """``hedgeflow stream run STAGE --config FILE``, and its port."""

    def __init__(self, stage: str, config: Path, settings: Settings) -> None:
        self.stage = stage
        self.log = config.with_suffix(".log")
        self._port = settings.monitor_port
        command = [sys.executable, "-m", "pipeline.cli", "stream", "run", *stage.split("-"), "--config", str(config)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, stderr=output, stdout=output, env={**os.environ, **ENVIRONMENT})

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except ConnectionRefusedError:
            return 0, ""
        finally:
            connection.close()

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of the metrics, which all name this stage."""
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == f"hedgeflow_{name}" and sample.labels == {"stage": self.stage, **labels}:
                    return sample.value
        return None

    def wait(self, true: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.get("/metrics")[1] + self.log.read_text()
            time.sleep(0.05)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def configured(broker: EmbeddedBroker, folder: Path, name: str) -> tuple[Path, Settings]:
    path = folder / f"{name}.toml"
    path.write_text(
        f'bootstrap = "{broker.bootstrap}"\nmonitor_port = {free_port()}\nlake = "{folder / "lake"}"\nmember = "m1"\n'
        "checkpoint_interval_ms = 300\n"
    )
    return path, load_settings(path)


def send_market(settings: Settings) -> tuple[int, int]:
    """Messages and rows that went out."""
    sent = []

    class Counted(KafkaLog):
        def append(self, batch: object) -> None:
            sent.append(1)
            super().append(batch)  # type: ignore[arg-type]

    log = Counted(settings)
    edge = Edge(log, "test")
    for event in small_market(SECONDS, seed=3):
        edge.send(event)
    log.flush()
    return len(sent), edge.rows


def send_poison(settings: Settings) -> None:
    producer = make_producer(settings)
    producer.produce(EVENTS, key=b"BTC", value=b"no arrow", partition=0, headers={KIND_HEADER: b"trade"})
    assert producer.flush(10) == 0


def test_a_worker_tells_what_it_does_from_start_to_end(broker: EmbeddedBroker, tmp_path: Path) -> None:
    config, settings = configured(broker, tmp_path, "features")
    create_topics(settings)
    with Running("features", config, settings) as worker:
        worker.wait(lambda: worker.get("/healthz")[0] == 200)
        worker.wait(lambda: worker.get("/readyz")[0] == 200)
        assert worker.value("messages_total", topic=EVENTS) is None  # nothing came yet
        messages, rows = send_market(settings)
        send_poison(settings)
        worker.wait(lambda: worker.value("messages_total", topic=EVENTS) == messages + 1)
        worker.wait(lambda: all(worker.value("state_bytes", task=f"features/{p}") for p in range(2)))
        worker.wait(lambda: all(worker.value("lag_messages", topic=EVENTS, partition=str(p)) == 0 for p in range(2)))
        worker.wait(lambda: worker.value("queue_messages") == 0)
        assert worker.value("rows_total", topic=EVENTS) == rows
        assert (worker.value("bytes_total", topic=EVENTS) or 0) > rows
        assert worker.value("batch_messages_sum") == messages + 1
        assert (worker.value("sent_rows_total", topic="features") or 0) >= SECONDS  # of two instruments or more
        assert worker.value("dead_letters_total", reason="undecodable") == 1
        assert worker.value("dead_letters_total", reason="other") == 0
        assert worker.value("rebalances_total", what="assigned") == 1
        assert worker.value("commits_refused_total") == 0
        assert worker.value("paused") == 0
        assert (worker.value("checkpoint_seconds_count") or 0) >= 2
        assert 0 <= (worker.value("checkpoint_age_seconds") or -1) < 60
        delay = worker.value("watermark_delay_seconds")
        assert delay == pytest.approx(time.time() - (START / NANO + SECONDS), abs=30)
        assert (worker.value("alive"), worker.value("ready")) == (1, 1)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=20) == 0
        assert worker.get("/healthz")[0] == 0  # the port is free again
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert {"started", "assigned", "dead letter", "stopped"} <= set(events)
    assert {(line["stage"], line["member"]) for line in lines} == {("features", "m1")}
    assert SECRET not in worker.log.read_text()


def test_the_lake_tells_what_it_committed(broker: EmbeddedBroker, tmp_path: Path) -> None:
    config, settings = configured(broker, tmp_path, "lake")
    create_topics(settings)
    _, rows = send_market(settings)
    with Running("lake", config, settings) as worker:
        worker.wait(lambda: worker.get("/readyz")[0] == 200)
        tables = [table.name for table in TABLES.values() if table.topic == EVENTS]
        worker.wait(lambda: sum(worker.value("lake_rows_total", table=each) or 0 for each in tables) == rows)
        assert (worker.value("lake_commit_seconds_count", table="trades") or 0) >= 1
        worker.wait(lambda: worker.value("lake_waiting_rows") == 0)
        assert 0 <= (worker.value("checkpoint_age_seconds") or -1) < 60
