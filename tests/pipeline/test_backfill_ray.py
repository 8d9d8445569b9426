"""A backfill on a real Ray of this machine, one of whose workers is killed in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_lake import SETTINGS, small_log, write_raw

from pipeline.backfill import backfill
from pipeline.backfill_job import Job
from pipeline.backfill_ray import RayCluster
from pipeline.backfill_run import FOLDER, lake_origin, run_of
from pipeline.backfill_task import Window
from pipeline.compare import compare
from pipeline.lake import Lake
from pipeline.raw_reader import read_log

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hedgeflow[cluster]'")


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


# Ray leaves its sockets and files to the end of the process.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_killed_worker_changes_no_row(tmp_path: Path, cluster: None) -> None:
    raw = write_raw(tmp_path / "raw", small_log(14))
    backfill(read_log(tmp_path / "raw"), Lake(tmp_path / "whole"), SETTINGS, with_signals=False)
    job = Job(
        run_of(lake_origin(raw), Window(), ()),
        Lake(tmp_path / "to"),
        SETTINGS,
        RayCluster(),
        changes={"step_events": 100},
    )
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(tmp_path / "to" / FOLDER, killed))
    killer.start()
    job.start()
    killer.join()
    assert killed, "a worker was to be killed in the middle"
    for table in ("features", "universe"):
        found = compare(Lake(tmp_path / "whole"), Lake(tmp_path / "to"), table)
        assert found.left > 0
        assert (found.left, found.differing) == (found.right, 0)


def kill_one(states: Path, killed: list[int]) -> None:
    """Kill the process that wrote its third state: its task's lock holds its id."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for state in states.glob("*/features/*/0000000003.state"):
            pid = int((state.parent / "lock").read_text())
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return
        time.sleep(0.002)
