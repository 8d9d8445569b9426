"""``hedgeflow backfill``: a run over a source, phase by phase, on this machine or on a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from features.events import NANO
from pipeline.backfill_plan import Plan, underlyings_of
from pipeline.backfill_run import WARM, Run, RunFolder, told_time
from pipeline.backfill_task import Beginning, Done, Message, Task, Window
from pipeline.backfill_warm import beginnings, warm_up_ns
from pipeline.lake import Lake
from pipeline.raw_files import logs_of
from pipeline.raw_reader import connected
from pipeline.settings import Settings
from pipeline.tables import TABLES, tables_of
from pipeline.user_features import catalogue_of


class Engine(Protocol):
    """Runs tasks that do not depend on each other; each to its end, however often a worker is lost."""

    def run(self, tasks: Sequence[Task], tell: Callable[[Message], None]) -> list[Done]:
        """Run all of them.

        Raises:
            HedgeflowError: what a task raised.
        """
        ...


class Display(Protocol):
    """Shows how far the tasks are."""

    def expect(self, label: str, tasks: Sequence[Task]) -> None:
        """These tasks begin."""
        ...

    def tell(self, message: Message) -> None:
        """What a task says."""
        ...


class Silent:
    """Shows nothing."""

    def expect(self, label: str, tasks: Sequence[Task]) -> None:
        """Nothing."""

    def tell(self, message: Message) -> None:
        """Nothing."""


@dataclass(slots=True)
class JobResult:
    """What a job did now, and what its lake holds from it.

    Args:
        tasks: that ran.
        events: read now.
        rows: written now, by table.
        rejects: of all that was read, by reason.
        notes: what a person should know.
    """

    tasks: int = 0
    events: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Job:
    """A backfill that was asked for.

    Args:
        run: source, window, instruments.
        target: the lake that is written.
        settings: of the stages.
        engine: who runs the tasks.
        with_signals: up to the signals, with the models that the settings name.
        with_own: our own activity, too.
        changes: to every task.
        display: shows how far it is.
        states: where the states are kept, if not where :func:`states_folder` says.
    """

    run: Run
    target: Lake
    settings: Settings
    engine: Engine
    with_signals: bool = False
    with_own: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    display: Display = field(default_factory=Silent)
    states: Path | None = None
    _result: JobResult = field(default_factory=JobResult)

    def start(self, *, restart: bool = False) -> JobResult:
        """Do what is left to do; nothing, if nothing is.

        Raises:
            LakeError: the target holds other rows, or another backfill runs.
            ConfigError: catalogue, settings or models are not those of the rows that are there.
        """
        folders = RunFolder(self.target, self.states)
        with folders.locked():
            if restart:
                removed = folders.restart()
                self._result.notes.append(f"restart: removed {removed:,} rows")
            self.run = folders.begin(self.run)
            folder = folders.of(self.run)
            earlier = self._earlier(folders, folder)
            names = self._phases()
            self._phases_of(self._plan(folder, self.target, self.run, earlier), names, self._result)
        return self._result

    def _phases(self) -> list[str]:
        names = ["features", "universe"]
        if lacking := self._lacking_references():
            self._result.notes.append(f"universe and signals are left out: they need {', '.join(lacking)}")
            names = ["features"]
        elif self.with_signals:
            names.append("signals")
        return [*names, "own"] if self.with_own else names

    def _lacking_references(self) -> list[str]:
        named = self.run.instruments
        if not named:
            return []
        reference = self.settings.reference
        return [each for name, each in sorted(reference.items()) if name not in named and each not in named]

    def _plan(self, folder: Path, target: Lake, run: Run, earlier: str, begin: Any = None) -> Plan:
        return Plan(run, folder, target, self.settings, self.changes, earlier, begin or {})

    def _phases_of(self, plan: Plan, names: Sequence[str], result: JobResult, label: str = "") -> None:
        tables = tables_of(catalogue_of(self.settings))
        for name in names:
            tasks: list[Task] = getattr(plan, name)()
            if not tasks:
                continue
            for table in sorted({task.table for task in tasks}):
                # Once, before several processes would.
                plan.target.version(tables[table], "", 0)
            self.display.expect(label + name, tasks)
            for done in self.engine.run(tasks, self.display.tell):
                self.display.tell(done)
                self._count(done, next(task for task in tasks if task.name == done.task), result)

    def _count(self, done: Done, task: Task, result: JobResult) -> None:
        result.tasks += 1
        if task.table == "features":
            result.events += done.new_events
        if done.new_rows:
            result.rows[task.table] += done.new_rows
        result.rejects.update(done.rejects)

    # -- a start inside the data ----------------------------------------------------------------------------------

    def _earlier(self, folders: RunFolder, folder: Path) -> str:
        """The states to begin with: of a run that ended where this one starts, or of a warm-up; none at the log's
        beginning."""
        start = self.run.window.start
        if start is None or self.run.origin.paths:
            # Recordings are decoded from their beginning anyway: what lies before is computed, and not written.
            return ""
        warm = folder / WARM
        found = None if warm.exists() else folders.earlier(self.run)
        if found is not None:
            self._result.notes.append(f"begins with the state that {told_time(found.window.end or 0)} ended with")
            return str(folders.of(found))
        return self._warm_up(warm, start)

    def _warm_up(self, warm: Path, start: int) -> str:
        source = self.run.origin.opened(self.settings)
        window_ns = warm_up_ns(catalogue_of(self.settings), bool(source.files(TABLES["alt"])))
        with connected(source) as connection:
            logs = logs_of(connection, source, tables=self.run.origin.tables)
            if self.run.instruments:
                chosen = underlyings_of(source, self.run.instruments)
                logs = {name: log for name, log in logs.items() if name in chosen}
            begin = beginnings(connection, warm, logs, start, window_ns)
        run = msgspec.structs.replace(self.run, window=Window(None, start))
        lake = Lake(warm / "lake")
        done = JobResult()
        names = [name for name in self._phases() if name != "own"]
        self._result.notes = [note for note in self._result.notes if "left out" not in note]
        self._phases_of(self._plan(warm, lake, run, "", begin), names, done, "warm-up: ")
        if begin and done.tasks:
            self._result.notes.append(_told_warm_up(done.events, begin, window_ns))
        return str(warm)


def _told_warm_up(events: int, begin: Mapping[str, Beginning], window_ns: int) -> str:
    if all(each.whole for each in begin.values()):
        return f"warm-up: {events:,} events, all since the log's beginning: the same bits as a whole run"
    first = min(each.time for each in begin.values())
    return (
        f"warm-up: {events:,} events from {told_time(first)} on; windows (up to {window_ns // NANO} s) and books are "
        "whole, what is summed without end (filters, volume buckets, quotes before that) began there"
    )
