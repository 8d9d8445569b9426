"""kill -9 of every worker at random moments: nothing lost, nothing twice, and every bit as in an undisturbed run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broker_under_test import Broker, create_topics

from benchmarks.soak import Disturber, Plan, restored
from benchmarks.soak_market import Prepared, edged_events
from benchmarks.soak_system import under_load
from benchmarks.soak_truth import truth_of

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("faults")]


@pytest.mark.parametrize(
    ("plan", "guarantee"),
    [
        pytest.param(Plan(kills=5, every_s=2.5, seed=1), "at_least_once", id="one process a stage"),
        pytest.param(Plan(kills=3, every_s=4.0, seed=2, chained=True), "exactly_once", id="chained, transactions"),
    ],
)
def test_killed_workers_lose_nothing_and_tell_nothing_twice(
    broker: Broker,
    prepared: Prepared,
    tmp_path: Path,
    plan: Plan,
    guarantee: str,
    record_property: Callable[[str, object], None],
) -> None:
    settings = prepared.settings(
        bootstrap=broker.bootstrap, lake=tmp_path / "lake", application=tmp_path.name, processing_guarantee=guarantee
    )
    create_topics(broker, settings)
    with under_load(prepared, settings, tmp_path, plan.workers, speed=10.0) as system:
        while system.feed.progress < 0.4:  # decisions begin at 0.57
            time.sleep(0.05)
        disturber = Disturber(plan, system.workers, settings, None, None)
        disturber.run()
    truth = truth_of(settings, tmp_path, edged_events(prepared.config))
    record_property("counted", f"{plan.kills} kills; {truth.summary()}")
    assert truth.holds, truth.report()
    assert truth.tables["decisions"]["replay"].rows > 80
    assert disturber.faults == {"kill": plan.kills}
    assert restored(tmp_path / "logs") > 0
