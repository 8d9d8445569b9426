"""TLS and SASL for real, and a password that appears nowhere: a gate stands in front of the embedded broker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from secure_proxy import Certificates, SecureProxy, make_certificates
from small_market import small_market

from pipeline import topics
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.edge import Edge
from pipeline.kafka import BrokerError, create_topics, end_offsets, require_broker
from pipeline.log import KafkaLog
from pipeline.processes import Workers, environment_of
from pipeline.settings import Settings

pytestmark = pytest.mark.broker

MARKER = "hunter2-MARKER-7f3a"
HEDGEFLOW = [sys.executable, "-m", "pipeline.cli"]


@dataclass
class Gate:
    """A broker behind TLS and SASL."""

    port: int
    proxy: SecureProxy
    certificates: Certificates

    def settings(self, password: str = MARKER, authority: Path | None = None) -> Settings:
        return Settings(
            bootstrap=f"127.0.0.1:{self.port}",
            reference={"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"},
            checkpoint_interval_ms=100,
            kafka={
                "security.protocol": "sasl_ssl",
                "ssl.ca.location": str(authority or self.certificates.authority),
                "sasl.mechanism": "PLAIN",
                "sasl.username": "hedgeflow",
                "sasl.password": password,
            },
        )


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    port = free_port()
    # The broker's own clients come to it directly: it waits until it answers itself.
    with (
        EmbeddedBroker(advertised=f"127.0.0.1:{port}") as broker,
        SecureProxy(port, broker.port, certificates, {"hedgeflow": MARKER}) as proxy,
    ):
        yield Gate(port, proxy, certificates)


def test_a_worker_streams_through_tls_and_sasl_and_shows_no_password(gate: Gate, tmp_path: Path) -> None:
    settings = gate.settings()
    create_topics(settings)
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    for event in small_market(5, seed=4):
        edge.send(event)
    log.flush()
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features")
        workers.drain(240)
        lines = (tmp_path / "logs" / "features.log").read_text()
        address = re.search(r'"monitor": "([^"]+)"', lines)
        assert address, lines
        pages = [f"http://{address[1]}/{page}" for page in ("metrics", "healthz", "readyz")]
        seen = [urllib.request.urlopen(page, timeout=5).read().decode() for page in pages]
    ends = end_offsets(settings, [topics.FEATURES])
    assert sum(ends.values()) > 0
    assert gate.proxy.passed > 0
    assert MARKER not in "\n".join([*seen, (tmp_path / "logs" / "features.log").read_text(), repr(settings)])


def test_an_authority_that_did_not_sign_is_named_at_once(gate: Gate) -> None:
    begin = time.monotonic()
    with pytest.raises(BrokerError, match=r"does not let us in.*certificate.*ssl\.ca\.location"):
        require_broker(gate.settings(authority=gate.certificates.stranger))
    assert time.monotonic() - begin < 8


def test_a_wrong_password_is_named_at_once_and_not_shown(gate: Gate) -> None:
    refused = gate.proxy.refused
    with pytest.raises(BrokerError, match=r"does not let us in.*sasl\.password") as caught:
        require_broker(gate.settings("wrong-" + MARKER))
    assert MARKER not in str(caught.value)
    assert gate.proxy.refused > refused


@pytest.mark.parametrize(
    ("arguments", "kafka"),
    [
        (("stream", "run", "features"), {"debug": "security,broker"}),
        (("stream", "run", "lake"), {"ssl.ca.location": "/nowhere"}),
        (("doctor", "--no-gpu"), {}),
        (("lag",), {"debug": "security,broker", "sasl.pasword": MARKER}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_password_appears_nowhere_when_it_fails(
    gate: Gate, tmp_path: Path, arguments: tuple[str, ...], kafka: dict[str, str]
) -> None:
    """With the traceback, with librdkafka's debugging, where the password or another setting is wrong."""
    wrong = gate.settings("wrong-" + MARKER)
    given = json.dumps(wrong.kafka | kafka)
    environment = os.environ | {
        "HEDGEFLOW_KAFKA": given,
        "HEDGEFLOW_BOOTSTRAP": wrong.bootstrap,
        "HEDGEFLOW_BROKER_PATIENCE_MS": "4000",
    }
    done = subprocess.run(
        [*HEDGEFLOW, "--verbose", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == (0 if arguments[0] == "doctor" else done.returncode or 1)
    assert done.returncode in (0, 4, 6), done.stderr
    assert MARKER not in done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]


def test_a_silent_broker_is_waited_for_aloud() -> None:
    port = free_port()
    begin = time.monotonic()
    process = subprocess.Popen(
        [*HEDGEFLOW, "lag", "--bootstrap", f"127.0.0.1:{port}"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    waited = time.monotonic() - begin
    rest = process.communicate(timeout=30)[1]
    assert first == f"hedgeflow: waiting for the broker at 127.0.0.1:{port} ...\n"
    assert waited < 8, "two seconds, and the start of Python on a busy machine"
    assert process.returncode == 6
    assert rest.startswith("hedgeflow: No Kafka broker answers")
