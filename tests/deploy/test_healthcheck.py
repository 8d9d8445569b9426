"""The containers' health check: what it exits with, beside a worker's monitor and beside none."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline.broker import free_port
from pipeline.health import Health
from pipeline.metrics import WorkerMetrics
from pipeline.monitor import Monitor
from pipeline.settings import Settings

HEALTHCHECK = Path(__file__).parents[2] / "deploy" / "healthcheck.py"


def check(port: int) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(HEALTHCHECK)],  # -S: it needs no installed package
        env={**os.environ, "HEDGEFLOW_MONITOR_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return result.returncode, result.stdout


def test_it_says_what_the_worker_says() -> None:
    silent_s = 0.0
    health = Health(lambda: silent_s)
    with Monitor(Settings(), WorkerMetrics("features"), health) as monitor:
        assert monitor.address is not None
        port = int(monitor.address.split(":")[1])
        assert check(port)[0] == 0
        silent_s = 40.0
        code, text = check(port)
        assert (code, "has not turned for 40 s" in text) == (1, True)


def test_no_answer_is_a_reason_and_no_traceback() -> None:
    code, text = check(free_port())
    assert code == 1
    assert text.startswith("no answer at port")


def test_it_is_quick_and_of_the_standard_library() -> None:
    imports = [node for node in ast.walk(ast.parse(HEALTHCHECK.read_text())) if isinstance(node, ast.Import)]
    assert {name.name.split(".")[0] for node in imports for name in node.names} <= sys.stdlib_module_names
    start = time.monotonic()
    check(free_port())
    assert time.monotonic() - start < 5
