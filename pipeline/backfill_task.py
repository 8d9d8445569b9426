"""The tasks of a backfill: what one process does on its own, as plain data, and what it tells while it does it."""

from __future__ import annotations

import zlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.lake import Lake
from pipeline.raw_files import UnderlyingLog
from pipeline.settings import Settings, load_settings

_RUN_STEPS: Final = 1_000_000
"""More steps than a run has."""


class Work(StrEnum):
    """What a task computes."""

    FEATURES = "features"
    RECORDING = "recording"
    UNIVERSE = "universe"
    SIGNALS = "signals"
    OWN = "own"


class Window(msgspec.Struct, frozen=True):
    """The bars that are written: those that end after ``start`` and not after ``end`` (ns); None is open."""

    start: int | None = None
    end: int | None = None


class Beginning(msgspec.Struct, frozen=True):
    """Where a warm-up begins.

    Args:
        offset: of the first row that is read.
        time: stream time (ns) at which the instruments that the log introduced before are introduced again.
        groups: the files of the table of instruments that lie before.
        whole: nothing lies before: the warm-up is the whole log.
    """

    offset: int
    time: int
    groups: list[list[str]] = []
    whole: bool = False


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task: a stage over one underlying's part of its input, in order, step by step.

    Args:
        name: unique in its run; names the state's folder and, with the run's key, the Delta transactions.
        work: what is computed.
        run: names the run in Delta's log.
        folder: where the run keeps its states.
        source: the lake whose raw tables are read; empty for recordings.
        target: the lake that is written.
        ordinal: of the run in its lake.
        window: bars that are written.
        instruments: names of instruments or underlyings that are written; none: all.
        settings: as JSON; no secrets.
        seen: versions of the tables that are read, by name.
        step_rows: a step ends when it has so many rows,
        step_events: or when it has read so many.
        threads: that DuckDB may use.
        log: of ``FEATURES``: what is read.
        beginning: of ``FEATURES``: where to begin without a state.
        earlier: folder of an earlier run whose state is where this one begins.
        paths: of ``RECORDING``.
        increments: of ``RECORDING``, by instrument.
        underlying: of ``SIGNALS``.
    """

    name: str
    work: Work
    run: str
    folder: str
    source: str
    target: str
    ordinal: int
    window: Window
    settings: dict[str, Any]
    instruments: list[str] = []
    seen: dict[str, int] = {}
    step_rows: int = 50_000
    step_events: int = 5_000_000
    threads: int | None = None
    log: UnderlyingLog | None = None
    beginning: Beginning | None = None
    earlier: str = ""
    paths: list[str] = []
    increments: dict[str, tuple[str, str]] = {}
    underlying: str = ""

    @property
    def transaction(self) -> tuple[str, int]:
        """What names this task in Delta's log; the version is the step."""
        return f"backfill/{self.run}/{self.name}", 0

    @property
    def partition(self) -> int:
        """Stored with every row, the same in every run; negative, as no row of a log has it."""
        return -1 - (zlib.crc32(self.name.encode()) >> 2)

    def offset(self, step: int) -> int:
        """Stored with every row of a step: with the partition and the row it is a place that no other row has."""
        return self.ordinal * _RUN_STEPS + step

    @property
    def table(self) -> str:
        """The table that is written."""
        return {Work.RECORDING: "features", Work.OWN: "own_activity"}.get(self.work, self.work.value)


_STAGE_SETTINGS = (
    "models", "portfolio", "limits", "reference", "features", "forecast_inputs", "drop_crossing_levels", "interval_ns",
)  # fmt: skip


def stage_settings(settings: Settings) -> dict[str, Any]:
    """The settings that stages read, with absolute paths, as plain data: what a task carries."""
    found: dict[str, Any] = {}
    for name in _STAGE_SETTINGS:
        value = getattr(settings, name)
        if isinstance(value, Path):
            value = str(value.absolute())
        elif name == "features":
            value = [str(path.absolute()) for path in value]
        found[name] = list(value) if isinstance(value, tuple) else value
    return found


def settings_of(task: Task) -> Settings:
    """The settings that the task was made with, whatever the environment of its process says."""
    return load_settings(None, **task.settings)


def source_of(task: Task) -> Lake:
    """The lake that is read. What opens its store is no part of a task: it comes from the process's environment."""
    return Lake(task.source, settings_of(task).lake_storage_options)


def target_of(task: Task) -> Lake:
    """The lake that is written, opened in the same way."""
    return Lake(task.target, settings_of(task).lake_storage_options)


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a task is: since its run began, not since its process did."""

    task: str
    events: int
    rows: int
    reached: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A task is complete."""

    task: str
    events: int
    rows: int
    new_events: int
    new_rows: int
    rejects: dict[str, int]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A task stopped with an error of ours, or with one that nobody expected (``kind`` is empty)."""

    task: str
    kind: str
    problem: str
    remedy: str


Message = Progress | Done | Failed
