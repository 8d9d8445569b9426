"""A broker that hangs and connections that break, under load: workers wait and go on, and every bit is right."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from broker_under_test import require_ours
from tcp_proxy import TcpProxy

from benchmarks.soak_market import Prepared, edged_events
from benchmarks.soak_system import CHAINED, under_load
from benchmarks.soak_truth import truth_of
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.kafka import create_topics

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("faults")]

Record = Callable[[str, object], None]
SESSION_MS = 6_000
HANG_S = 8.0
"""Longer than a session; no test waits for the half minute that the soak does."""


def test_a_broker_that_hangs_is_waited_for(
    own_broker: EmbeddedBroker, prepared: Prepared, tmp_path: Path, record_property: Record
) -> None:
    settings = prepared.settings(bootstrap=own_broker.bootstrap, lake=tmp_path / "lake", session_timeout_ms=SESSION_MS)
    create_topics(settings)
    with under_load(prepared, settings, tmp_path, CHAINED, speed=20.0) as system:
        while system.feed.progress < 0.7:
            time.sleep(0.05)
        os.kill(own_broker.pid, signal.SIGSTOP)
        time.sleep(HANG_S)
        os.kill(own_broker.pid, signal.SIGCONT)
        system.workers.check()
        assert system.workers.restarts == 0
    truth = truth_of(settings, tmp_path, edged_events(prepared.config))
    record_property("counted", f"hung {HANG_S:.0f} s; {truth.summary()}")
    assert truth.holds, truth.report()


def test_connections_that_are_cut_delayed_and_silent(
    prepared: Prepared, tmp_path: Path, record_property: Record
) -> None:
    require_ours()
    rng = np.random.default_rng(7)
    port = free_port()
    with TcpProxy(port) as proxy, EmbeddedBroker(port, advertised=proxy.address):
        settings = prepared.settings(bootstrap=proxy.address, lake=tmp_path / "lake", session_timeout_ms=SESSION_MS)
        create_topics(settings)
        with under_load(prepared, settings, tmp_path, CHAINED, speed=20.0) as system:
            proxy.latency_s = 0.005
            while not system.feed.done:
                time.sleep(float(rng.uniform(0.3, 1.5)))
                proxy.drop_all()
                if system.feed.progress > 0.7 and proxy.latency_s:
                    proxy.latency_s = 0.0
                    proxy.silence(True)
                    time.sleep(3.0)
                    proxy.silence(False)
            system.workers.check()
            assert system.workers.restarts == 0
        truth = truth_of(settings, tmp_path, edged_events(prepared.config))
    record_property("counted", f"{proxy.dropped} connections cut; {truth.summary()}")
    assert proxy.dropped > 20
    assert truth.holds, truth.report()
