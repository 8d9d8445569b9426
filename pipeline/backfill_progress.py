"""How far a backfill is: bars on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipeline.backfill_run import told_time
from pipeline.backfill_task import Done, Message, Task
from pipeline.backfill_task import Progress as Told

LINE_S: Final = 60.0


class ProgressDisplay:
    """A bar a task, with rate and the time that is left; a line a minute where there is no terminal.

    Args:
        console: where it is shown.
        line_s: seconds between lines.
    """

    def __init__(self, console: Console, line_s: float = LINE_S) -> None:
        self._console = console
        self._line_s = line_s
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:,.0f} read{task.fields[of]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[reached]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._ids: dict[str, object] = {}
        self._total: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._began = self._line = time.monotonic()
        self._label = ""

    def __enter__(self) -> ProgressDisplay:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def expect(self, label: str, tasks: Sequence[Task]) -> None:
        """A phase begins: its tasks, each with the rows that it has to read, where that is known."""
        for id_ in self._ids.values():
            self._bars.remove_task(id_)  # type: ignore[arg-type]
        self._label = label
        self._ids.clear()
        self._first.clear()
        self._now.clear()
        self._total = {task.name: task.log.rows for task in tasks if task.log is not None}
        self._began = self._line = time.monotonic()
        for task in tasks:
            total = self._total.get(task.name)
            self._ids[task.name] = self._bars.add_task(
                label.removesuffix("features") + task.name,
                total=total,
                of=f" of {total:,}" if total else "",
                rate="",
                reached="",
            )

    def tell(self, message: Message) -> None:
        """Show what a task says."""
        if isinstance(message, Told):
            # A resumed task counts what it read before; the bar shows this session.
            first = self._first.setdefault(message.task, message.events)
            self._now[message.task] = message.events - first
            self._show(message)
        elif isinstance(message, Done) and message.task in self._ids:
            self._now[message.task] = message.new_events
            self._bars.update(self._ids[message.task], completed=message.new_events, total=message.new_events or 1)  # type: ignore[arg-type]

    def _show(self, message: Told) -> None:
        now = time.monotonic()
        count = self._now[message.task]
        rate = count / max(now - self._began, 1e-9)
        reached = told_time(message.reached) if message.reached else ""
        self._bars.update(self._ids[message.task], completed=count, rate=f"{rate:,.0f}/s", reached=reached)  # type: ignore[arg-type]
        if not self._console.is_terminal and now - self._line >= self._line_s:
            self._line = now
            self._console.print(self._sentence(now), soft_wrap=True, highlight=False)

    def _sentence(self, now: float) -> str:
        done, total = sum(self._now.values()), sum(self._total.values())
        rate = done / max(now - self._began, 1e-9)
        if not total or not rate:
            return f"backfill {self._label}: {done:,} read, {rate:,.0f}/s"
        left = max(0, total - done) / rate
        return f"backfill {self._label}: {done:,} of {total:,} read, {rate:,.0f}/s, {left:,.0f} s left"
