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
from benchmarks.soak_system import CHAINED, UnderLoad, under_load
from benchmarks.soak_truth import truth_of
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.kafka import create_topics

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("a prepared market")]

SILENT_S = 3.0
HANG_S = 8.0
"""Longer than a session; no test waits for the half minute that the soak does."""


def test_connections_cut_a_broker_that_hangs_and_kills_between(
    prepared: Prepared, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The stages chained, with transactions."""
    require_ours()
    rng = np.random.default_rng(7)
    port = free_port()
    with TcpProxy(port) as proxy, EmbeddedBroker(port, advertised=proxy.address) as broker:
        settings = prepared.settings(
            bootstrap=proxy.address, lake=tmp_path / "lake", processing_guarantee="exactly_once"
        )
        create_topics(settings)
        with under_load(prepared, settings, tmp_path, CHAINED, speed=12.0) as system:
            proxy.latency_s = 0.005
            cut(proxy, system, rng, until=0.6)
            system.workers[CHAINED[0]].kill()
            system.workers[CHAINED[0]].start()
            proxy.latency_s = 0.0
            proxy.silence(True)
            time.sleep(SILENT_S)
            proxy.silence(False)
            cut(proxy, system, rng, until=0.8)
            hang(broker)
            system.workers.check()
            system.workers[CHAINED[0]].kill()
            system.workers[CHAINED[0]].start()
        assert system.workers.restarts == 0, "a worker was killed by nobody here"
        truth = truth_of(settings, tmp_path, edged_events(prepared.config))
    done = f"{proxy.dropped} connections cut, silent {SILENT_S:.0f} s, hung {HANG_S:.0f} s, 2 kills"
    record_property("counted", f"{done}; {truth.summary()}")
    assert proxy.dropped > 10
    assert truth.holds, truth.report()


def cut(proxy: TcpProxy, system: UnderLoad, rng: np.random.Generator, until: float) -> None:
    """Cut all connections again and again until so much of the market was sent."""
    while system.feed.progress < until and not system.feed.done:
        time.sleep(float(rng.uniform(0.3, 1.5)))
        proxy.drop_all()
        system.workers.check()


def hang(broker: EmbeddedBroker) -> None:
    """Freeze the broker for longer than a session."""
    os.kill(broker.pid, signal.SIGSTOP)
    time.sleep(HANG_S)
    os.kill(broker.pid, signal.SIGCONT)
