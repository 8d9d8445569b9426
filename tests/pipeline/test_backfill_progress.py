"""How far a backfill is, on a terminal and in a file."""

from __future__ import annotations

import io

from rich.console import Console

from pipeline.backfill_progress import ProgressDisplay
from pipeline.backfill_task import Done, Progress, Task, Window, Work
from pipeline.raw_files import UnderlyingLog


def task(name: str, rows: int) -> Task:
    log = UnderlyingLog(name, 0, {}, rows)
    return Task(
        name=name, work=Work.FEATURES, run="", folder="", source="", target="", ordinal=0, window=Window(),
        settings={}, log=log,
    )  # fmt: skip


def shown(terminal: bool, line_s: float) -> str:
    out = io.StringIO()
    with ProgressDisplay(Console(file=out, force_terminal=terminal, width=150), line_s) as display:
        display.expect("features", [task("features/BTC", 1_000), task("features/ETH", 3_000)])
        display.tell(Progress("features/BTC", 5_000, 10, 1_767_571_200 * 10**9))  # resumed: read before
        display.tell(Progress("features/BTC", 5_400, 20, 1_767_571_260 * 10**9))
        display.tell(Progress("features/ETH", 100, 1, 0))
        display.tell(Progress("features/ETH", 700, 1, 0))
        display._bars.refresh()
        display.tell(Done("features/BTC", 6_000, 30, 1_000, 20, {}))
    return out.getvalue()


def test_a_terminal_shows_a_bar_a_task_of_what_this_session_read() -> None:
    text = shown(terminal=True, line_s=60)
    assert "400 read of 1,000" in text
    assert "600 read of 3,000" in text
    assert "2026-01-05T00:01:00Z" in text


def test_elsewhere_a_line_now_and_then() -> None:
    assert shown(terminal=False, line_s=60) == ""
    lines = shown(terminal=False, line_s=0).splitlines()
    assert lines[-1].startswith("backfill features: 1,000 of 4,000 read, ")
    assert lines[-1].endswith(" s left")
