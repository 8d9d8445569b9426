"""A backfill on a real Ray of this machine, one of whose workers is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from raw_lake import REFERENCE, SETTINGS, small_log, write_raw

from pipeline.backfill import backfill
from pipeline.backfill_run import FOLDER
from pipeline.compare import compare
from pipeline.lake import Lake
from pipeline.raw_reader import read_log

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'hedgeflow[cluster]'"
)


def test_a_killed_worker_changes_no_row(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", small_log(14))
    backfill(read_log(tmp_path / "raw"), Lake(tmp_path / "whole"), SETTINGS, with_signals=False)
    command = [
        sys.executable, "-m", "pipeline.cli", "backfill", "--engine", "ray", "--workers", "2", "--step-events", "100",
        "--from", str(tmp_path / "raw"), "--to", str(tmp_path / "to"),
    ]  # fmt: skip
    # In a process of its own: Ray leaves its children to the end of the one that started it.
    environment = {**os.environ, "HEDGEFLOW_REFERENCE": json.dumps(REFERENCE)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        killed = kill_one(tmp_path / "to" / FOLDER, run)
        out, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert killed not in (None, run.pid)
    assert "features" in out
    for table in ("features", "universe"):
        found = compare(Lake(tmp_path / "whole"), Lake(tmp_path / "to"), table)
        assert found.left > 0
        assert (found.left, found.differing) == (found.right, 0)


def kill_one(states: Path, run: subprocess.Popen[str]) -> int | None:
    """Kill the worker that wrote the first third state: its task's lock holds its process id."""
    deadline = time.monotonic() + 300
    while run.poll() is None and time.monotonic() < deadline:
        for state in states.glob("*/features/*/0000000003.state"):
            pid = int((state.parent / "lock").read_text())
            os.kill(pid, signal.SIGKILL)
            return pid
        time.sleep(0.002)
    return None
