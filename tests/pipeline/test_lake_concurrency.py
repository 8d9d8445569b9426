"""Two writers, a compaction and a vacuum at once: every reader sees a committed version, and never fewer rows."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lake_users import ROWS, TRADES, compacting, delta, reading, writing

from pipeline import topics
from pipeline.lake import Lake, LakeError

SECONDS = 4.0


def test_readers_see_committed_versions_only(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.version(TRADES, topics.EVENTS, 0)
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    tasks: list[tuple[Callable[..., None], int]] = [
        *((writing, 0), (writing, 1), (compacting, 0), (reading, 0), (reading, 1))
    ]
    processes = [context.Process(target=task, args=(tmp_path, stop, answers, number)) for task, number in tasks]
    for process in processes:
        process.start()
    found: list[tuple[str, Any]] = []
    try:
        _wait_for_commits(lake, 12)
        time.sleep(SECONDS)
        stop.set()
        found = [answers.get(timeout=60) for _ in processes]
    finally:
        stop.set()
        for process in processes:
            process.join(30)
    written = [value for name, value in found if name == "written"]
    readers = [value for name, value in found if name in ("delta", "duckdb")]
    assert [wrong for _, wrong in readers] == ["", ""]
    assert all(reads > 1 for reads, _ in readers)
    assert dict(found)["compacted"] >= 1
    assert sorted(delta(tmp_path)) == [
        (p, o, r) for p in (0, 1) for o in range(_count(tmp_path, p)) for r in range(ROWS)
    ]
    assert sorted(written) == sorted(_count(tmp_path, p) for p in (0, 1))


def _count(path: Path, partition: int) -> int:
    return Lake(path).version(TRADES, topics.EVENTS, partition)


def _wait_for_commits(lake: Lake, commits: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(LakeError):
            if lake.delta(TRADES).version() >= commits:
                return
        time.sleep(0.1)
    raise AssertionError("the writers commit nothing")
