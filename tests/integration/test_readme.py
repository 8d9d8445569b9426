"""The README's streaming workers and backfill, typed as they stand there, on a small recording."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_recording import simulated

from pipeline.broker import free_port

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
HEDGEFLOW = [sys.executable, "-m", "pipeline.cli"]


def run(folder: Path, *words: str) -> str:
    done = subprocess.run([*HEDGEFLOW, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_broker_workers_replay_query_and_backfill(tmp_path: Path) -> None:
    files = [simulated(seed=1, diffs=400, symbol=symbol).write(tmp_path) for symbol in ("BTCUSDT", "ETHUSDT")]
    config = str(ROOT / "examples" / "binance.toml")
    port = free_port()
    address = ("--bootstrap", f"127.0.0.1:{port}")
    stages = [
        ("features", "--config", config),
        ("universe", "--config", config),
        ("lake", "--lake", str(tmp_path / "lake")),
    ]
    log = (tmp_path / "broker.log").open("w+")
    broker = subprocess.Popen([*HEDGEFLOW, "broker", "--port", str(port)], stdout=log, stderr=log)
    workers: list[subprocess.Popen[bytes]] = []
    try:
        wait_until(lambda: f"broker at 127.0.0.1:{port}" in (tmp_path / "broker.log").read_text())
        assert run(tmp_path, "topics", "create", *address).strip() == "all topics exist"
        for words in stages:
            command = [*HEDGEFLOW, "stream", "run", *words, *address]
            workers.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL))
        published = run(tmp_path, "replay", *map(str, files), *address)
        assert "rejected nothing" in published
        wait_for_rows(tmp_path)
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        assert [worker.wait(timeout=30) for worker in workers] == [130, 130, 130]
    finally:
        for process in workers:
            process.kill()
        broker.send_signal(signal.SIGINT)
        assert broker.wait(timeout=30) == 130
        log.close()
    answer = run(tmp_path, "backfill", "--from", "lake", "--to", "again", "--config", config, "--compare")
    assert answer.count("differing 0") == 2


def wait_until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_rows(folder: Path) -> None:
    """Until the number of universe rows in the lake has stopped growing."""
    counts: list[int] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / "lake" / "universe").exists():
            query = "select count(*) as rows from universe"
            counts.append(int(run(folder, "sql", "--lake", "lake", "--format", "csv", query).split()[-1]))
        if len(counts) > 3 and counts[-1] == counts[-3] > 0:
            return
        time.sleep(0.7)
    raise AssertionError(f"the universe rows never settled: {counts}")
