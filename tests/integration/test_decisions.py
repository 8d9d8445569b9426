"""A person's kill switch, through the log of inputs and a running system; what crashes do is in test_kills.py."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest
from broker_under_test import Broker, create_topics

from benchmarks.soak_market import Prepared
from benchmarks.soak_system import CHAINED, under_load
from hedger.inputs import KillInput, encode_input
from pipeline.codec import KIND_HEADER
from pipeline.log import Outbox
from pipeline.query import open_lake
from pipeline.topics import DECISION_INPUTS

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("a prepared market")]


@pytest.mark.soak  # what it shows of the decider, the tests of hedger show; here it comes through the system
def test_a_persons_kill_stops_orders_at_once(broker: Broker, prepared: Prepared, tmp_path: Path) -> None:
    settings = prepared.settings(bootstrap=broker.bootstrap, application=tmp_path.name, lake=tmp_path / "lake")
    create_topics(broker, settings)
    with under_load(prepared, settings, tmp_path, CHAINED, speed=20.0) as system:
        while system.feed.progress < 0.8:
            system.workers.check()
            time.sleep(0.05)
        outbox = Outbox(settings, linger_ms=0)
        item = KillInput(input_id="person:1", reason="test", by="a test")
        outbox.send(DECISION_INPUTS, 0, "demo", encode_input(item), {KIND_HEADER: "input", "portfolio": "demo"})
        outbox.flush()
    with open_lake(settings.lake) as lake:
        killed_at = lake.sql(
            """SELECT min(bar_ts) FROM decisions WHERE document LIKE '%"trigger":"person:1"%'"""
        ).fetchall()[0][0]
        after = lake.sql(f"SELECT * FROM decisions WHERE bar_ts >= {killed_at}").pl()
        before = lake.sql(f"SELECT count(order_quantity) FROM decisions WHERE bar_ts < {killed_at}").fetchall()[0][0]
    assert before > 2
    assert after.height > 40
    assert after["order_quantity"].null_count() == after.height
    assert after.filter(pl.col("rung") == "hold").height == after.height
