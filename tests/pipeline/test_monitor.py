"""The monitor's port: what it answers, that it takes only what it may, and that it closes."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from features.errors import ConfigError
from pipeline import monitor as module
from pipeline.health import Health
from pipeline.metrics import WorkerMetrics
from pipeline.monitor import Monitor
from pipeline.settings import Settings

SETTINGS = Settings(monitor_port=0)


@pytest.fixture
def parts() -> tuple[WorkerMetrics, Health]:
    return WorkerMetrics("features"), Health()


@pytest.fixture
def running(parts: tuple[WorkerMetrics, Health]) -> Iterator[Monitor]:
    with Monitor(SETTINGS, *parts) as monitor:
        yield monitor


def ask(monitor: Monitor, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    assert monitor.address is not None
    connection = http.client.HTTPConnection(monitor.address, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read()
    finally:
        connection.close()


def why(monitor: Monitor, path: str) -> tuple[int, str]:
    status, content_type, body = ask(monitor, path)
    assert content_type == "application/json"
    answer = json.loads(body)
    assert answer["ok"] == (status == 200)
    return status, answer["why"]


def test_healthz_is_good_while_the_loop_turns(running: Monitor, parts: tuple[WorkerMetrics, Health]) -> None:
    assert why(running, "/healthz") == (200, "the loop turns")
    parts[1].busy("restoring features/0")
    assert why(running, "/healthz") == (200, "restoring features/0, for 0 s")


def test_healthz_is_bad_when_the_loop_hangs() -> None:
    now = 0.0
    health = Health(lambda: now)
    with Monitor(SETTINGS, WorkerMetrics("features"), health) as monitor:
        now = 31.0
        assert why(monitor, "/healthz") == (503, "the loop has not turned for 31 s")
        assert why(monitor, "/readyz")[0] == 503
        health.beat()
        assert why(monitor, "/healthz")[0] == 200


def test_readyz_follows_the_worker_and_a_sink_that_is_behind_for_long(
    running: Monitor, parts: tuple[WorkerMetrics, Health], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, health = parts
    assert why(running, "/readyz") == (503, "starting")
    health.ready(True, "2 partitions")
    assert why(running, "/readyz") == (200, "2 partitions")
    metrics.paused(True)
    assert why(running, "/readyz")[0] == 200  # a moment's pause is back-pressure at work
    monkeypatch.setattr(module, "PAUSED_LONG_S", -1.0)
    assert why(running, "/readyz") == (503, "a sink has kept the worker waiting for 0 s")


def test_alerts_see_what_the_checks_answer(running: Monitor, parts: tuple[WorkerMetrics, Health]) -> None:
    assert b'hedgeflow_ready{stage="features"} 0.0' in ask(running, "/metrics")[2]
    parts[1].ready(True, "2 partitions")
    text = ask(running, "/metrics")[2]
    assert b'hedgeflow_ready{stage="features"} 1.0' in text
    assert b'hedgeflow_alive{stage="features"} 1.0' in text


def test_metrics_are_the_text_that_prometheus_reads(running: Monitor, parts: tuple[WorkerMetrics, Health]) -> None:
    parts[0].took("md.events", 3, 100)
    parts[0].describe("abc123")
    status, content_type, body = ask(running, "/metrics?name=x")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    samples = {each.name: each for family in text_string_to_metric_families(body.decode()) for each in family.samples}
    assert samples["hedgeflow_messages_total"].value == 3
    assert samples["hedgeflow_info"].labels["catalogue"] == "abc123"
    assert samples["process_resident_memory_bytes"].value > 1e6


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/elsewhere"])
def test_head_answers_like_get_without_the_body(running: Monitor, path: str) -> None:
    got, headed = ask(running, path), ask(running, path, "HEAD")
    assert headed[:2] == got[:2]
    assert (headed[2], bool(got[2])) == (b"", True)


def test_unknown_paths_name_the_known_ones_and_nothing_can_be_sent(running: Monitor) -> None:
    status, _, body = ask(running, "/../etc/passwd")
    assert status == 404
    assert json.loads(body) == {"paths": ["/healthz", "/readyz", "/metrics"]}
    assert ask(running, "/metrics", "POST")[0] == 501
    assert b"<script>" not in ask(running, "/<script>")[2]


def test_requests_are_not_logged(running: Monitor, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    for path in ("/healthz", "/nowhere"):
        ask(running, path)
    ask(running, "/metrics", "DELETE")
    assert capfd.readouterr() == ("", "")


def test_a_client_that_says_nothing_or_hangs_up_holds_nobody_back(
    parts: tuple[WorkerMetrics, Health], capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(SETTINGS, *parts) as monitor:
        assert monitor.address is not None
        host, port = monitor.address.split(":")
        with socket.create_connection((host, int(port))) as silent, socket.create_connection((host, int(port))) as rude:
            silent.send(b"GET /metr")
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close with a reset
            rude.send(b"GET /metrics HTTP/1.0\r\n\r\n")
            rude.close()
            assert why(monitor, "/healthz")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_it_listens_on_loopback_at_a_free_port_and_lets_go_of_it(parts: tuple[WorkerMetrics, Health]) -> None:
    with Monitor(SETTINGS, *parts) as monitor:
        assert monitor.address is not None
        host, port = monitor.address.split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
    assert "monitor" not in [each.name for each in threading.enumerate()]
    with Monitor(Settings(monitor_port=int(port)), *parts) as again:
        assert again.address == f"127.0.0.1:{port}"


def test_off_is_off(parts: tuple[WorkerMetrics, Health]) -> None:
    with Monitor(Settings(monitor_port=-1), *parts) as monitor:
        assert monitor.address is None
        assert "monitor" not in [each.name for each in threading.enumerate()]


def test_a_port_in_use_and_an_address_of_another_machine_are_told(parts: tuple[WorkerMetrics, Health]) -> None:
    with Monitor(SETTINGS, *parts) as monitor:
        assert monitor.address is not None
        port = int(monitor.address.split(":")[1])
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}: Address already in use.*monitor_port"):
            Monitor(Settings(monitor_port=port), *parts).__enter__()
    with pytest.raises(ConfigError, match="monitor_host is an address of this machine"):
        Monitor(Settings(monitor_host="192.0.2.1", monitor_port=0), *parts).__enter__()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine speaks no IPv6")
def test_an_address_of_ipv6_is_taken(parts: tuple[WorkerMetrics, Health]) -> None:
    with Monitor(Settings(monitor_host="::1", monitor_port=0), *parts) as monitor:
        assert monitor.address is not None
        assert monitor.address.startswith("[::1]:")
        assert why(monitor, "/healthz")[0] == 200


def test_nothing_stays_open(parts: tuple[WorkerMetrics, Health]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with Monitor(SETTINGS, *parts) as monitor:
            ask(monitor, "/healthz")
    assert len(os.listdir("/proc/self/fd")) <= before + 1
