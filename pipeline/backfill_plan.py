"""What a run of a backfill still has to do: its tasks, without those that are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from features.errors import ConfigError
from pipeline.backfill_run import Run
from pipeline.backfill_state import StateFolder, TaskState
from pipeline.backfill_task import Beginning, Task, Work, stage_settings
from pipeline.lake import Lake
from pipeline.raw_files import BEGIN, Position, logs_of, raw_tables
from pipeline.raw_reader import connected
from pipeline.settings import Settings
from pipeline.tables import TABLES


@dataclass(frozen=True)
class Plan:
    """Makes the tasks of one run into one lake.

    Args:
        run: its source, window and instruments.
        folder: where its states are.
        target: the lake that is written.
        settings: of the stages.
        changes: to every task, such as ``step_events``.
        earlier: the folder of the run whose states this one goes on from.
        beginnings: where underlyings without a state begin.
    """

    run: Run
    folder: Path
    target: Lake
    settings: Settings
    changes: Mapping[str, Any] = field(default_factory=dict)
    earlier: str = ""
    beginnings: Mapping[str, Beginning] = field(default_factory=dict)

    def features(self) -> list[Task]:
        """A task an underlying that has more in the source; of recordings one task.

        Raises:
            LakeError: the source has no order, or states are missing.
            ConfigError: an instrument is named that the source lacks.
        """
        if self.run.origin.paths:
            recording = self._task("features/recordings", Work.RECORDING, paths=list(self.run.origin.paths))
            recording = msgspec.structs.replace(recording, increments=self.run.origin.increments)
            return [recording] if self._pending(recording) else []
        source = self.run.origin.opened(self.settings)
        tables = self.run.origin.tables
        seen = versions(source, raw_tables(tables))
        states = {name: self._state(f"features/{name}", "features") for name in self._started()}
        if states and all(state is not None and _done(state, seen) for state in states.values()):
            return []
        after = {name: self._position(name, states.get(name)) for name in states}
        with connected(source) as connection:
            logs = logs_of(connection, source, after, tables=tables)
        names = sorted(states.keys() | logs.keys())
        tasks = []
        for name in names:
            state = states.get(name)
            if name in logs and not (state is not None and _done(state, seen)):
                begin = self.beginnings.get(name)
                tasks.append(self._task(f"features/{name}", Work.FEATURES, seen, log=logs[name], beginning=begin))
        return self._chosen(tasks)

    def universe(self) -> list[Task]:
        """The task of the universe, if there are rows that it has not seen."""
        seen = versions(self.target, [TABLES["features"]])
        task = self._task("universe", Work.UNIVERSE, seen)
        return [task] if seen and self._pending(task) else []

    def signals(self) -> list[Task]:
        """A task an underlying."""
        seen = versions(self.target, [TABLES["universe"]])
        tasks = [
            self._task(f"signals/{name}", Work.SIGNALS, seen, underlying=name)
            for name in sorted(self.settings.reference)
        ]
        return [task for task in tasks if seen and self._pending(task)]

    def own(self) -> list[Task]:
        """The task of our own activity, from the source's decision log."""
        source = self.run.origin.opened(self.settings)
        seen = versions(source, [TABLES["decision_inputs"]])
        task = self._task("own", Work.OWN, seen)
        return [task] if seen and self._pending(task) else []

    def _task(self, name: str, work: Work, seen: Mapping[str, int] | None = None, **more: Any) -> Task:
        return Task(
            name=name,
            work=work,
            run=self.run.transaction,
            folder=str(self.folder),
            source=self.run.origin.lake,
            target=str(self.target.path),
            ordinal=self.run.ordinal,
            window=self.run.window,
            instruments=list(self.run.instruments),
            settings=stage_settings(self.settings),
            seen=dict(seen or {}),
            earlier=self.earlier,
            **self.changes,
            **more,
        )

    def _pending(self, task: Task) -> bool:
        state = self._state(task.name, task.table)
        return state is None or not _done(state, task.seen)

    def _state(self, name: str, table: str) -> TaskState | None:
        committed = self.target.version(TABLES[table], f"backfill/{self.run.transaction}/{name}", 0)
        return StateFolder(self.folder, name).newest(committed)

    def _started(self) -> list[str]:
        from urllib.parse import unquote

        return sorted(unquote(path.name) for path in (self.folder / "features").glob("*"))

    def _position(self, name: str, state: TaskState | None) -> Position:
        found = (state or TaskState()).position.get(name)
        return BEGIN if found is None else (found[0], found[1])

    def _chosen(self, tasks: list[Task]) -> list[Task]:
        """The tasks of the underlyings that are named, or that hold an instrument that is."""
        if not self.run.instruments:
            return tasks
        chosen = underlyings_of(self.run.origin.opened(self.settings), self.run.instruments)
        return [task for task in tasks if task.log is not None and task.log.underlying in chosen]


def underlyings_of(source: Lake, names: tuple[str, ...]) -> set[str]:
    """The underlyings that are named, or that hold an instrument that is.

    Raises:
        ConfigError: the lake knows neither an underlying nor an instrument of a name.
    """
    table = TABLES["instruments"]
    rows = (
        source.dataset(table).to_table(columns=["underlying", "instrument"]).to_pylist() if source.exists(table) else []
    )
    holds = {row["instrument"]: row["underlying"] for row in rows}
    known = set(holds.values())
    unknown = [name for name in names if name not in known and name not in holds]
    if unknown:
        few = [*sorted(known), *sorted(holds)[:5]]
        raise ConfigError(f"The source has no instrument {unknown[0]!r}.", f"It has {', '.join(few)} ...")
    return {holds.get(name, name) for name in names}


def versions(lake: Lake, tables: Any) -> dict[str, int]:
    """The Delta version of each table that there is."""
    return {table.name: int(lake.delta(table).version()) for table in tables if lake.exists(table)}


def _done(state: TaskState, seen: Mapping[str, int]) -> bool:
    return state.closed or (state.complete and state.seen == dict(seen))
