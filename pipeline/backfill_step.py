"""A task of a backfill, step by step: read, compute, make the state durable, commit the rows."""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from features.errors import ConfigError
from features.stage import Reject, Stage
from pipeline.backfill_feeds import Piece, Positions, input_pieces, recording_pieces, underlying_pieces
from pipeline.backfill_rows import WaitingBatches, named, within
from pipeline.backfill_state import StateFolder, TaskState
from pipeline.backfill_task import Done, Progress, Task, Work, settings_of, target_of
from pipeline.lake import LakeError, positioned
from pipeline.model_folders import TEXT_FOLDER
from pipeline.settings import Settings
from pipeline.tables import tables_of
from pipeline.user_features import catalogue_of

REPORT_S: Final = 0.5
LOCK_PATIENCE_S: Final = 15.0

_REMEDY: Final = "Backfill into another lake (--to), or type the command again with --restart."


def run_task(task: Task, report: Callable[[Progress], None]) -> Done:
    """Run a task from where it stands to the end of its input; a killed one is simply run again.

    Raises:
        ConfigError: the rows that are there were made with another catalogue, other settings or other models.
        LakeError: another process runs this task, or the lake cannot be read or written.
    """
    states = StateFolder(task.folder, task.name)
    with _alone(states.path):
        return _Steps(task, states, report).run()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the task: a process that lost its parent may still be about to end."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    with (folder / "lock").open("a+") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LakeError(f"Another process works on {folder}.", "Wait for it, or end it.") from None
                time.sleep(0.1)
            else:
                break
        # For the person who looks which process it is.
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@dataclass(slots=True)
class _Step:
    """What came since the last commit."""

    events: int = 0
    position: dict[str, list[int]] = field(default_factory=dict)
    rejects: Counter[str] = field(default_factory=Counter)


class _Steps:
    def __init__(self, task: Task, states: StateFolder, report: Callable[[Progress], None]) -> None:
        self._task, self._states, self._report = task, states, report
        settings = settings_of(task)
        self._stage = _stage_of(task, settings)
        self._lake = target_of(task)
        self._table = tables_of(catalogue_of(settings))[task.table]
        self._waiting = WaitingBatches()
        self._step = _Step()
        self._at = self._begin(made_with(task, settings, self._stage))
        self._first = self._at
        self._told = 0.0

    def _begin(self, parts: dict[str, str]) -> TaskState:
        committed = self._lake.version(self._table, *self._task.transaction)
        state = self._states.newest(committed)
        if state is None and self._task.earlier:
            earlier = StateFolder(self._task.earlier, self._task.name).last()
            if earlier is not None:
                state = TaskState(made_with=earlier.made_with, position=earlier.position, stage=earlier.stage)
        if state is None:
            return TaskState(made_with=parts)
        require_same(parts, state.made_with)
        if state.stage:
            self._stage.restore(state.stage)
        return state

    def run(self) -> Done:
        if not self._at.closed:
            closing = self._read_all()
            self._commit(closing, complete=True)
        at, first = self._at, self._first
        events, rows = at.events - first.events, at.rows - first.rows
        return Done(self._task.name, at.events, at.rows, events, rows, dict(at.rejects))

    def _read_all(self) -> dict[str, bytes] | None:
        """Take the whole input; the state before the row that lies beyond the window, if one came."""
        for piece in _pieces(self._task, self._at.position, self._step.rejects):
            if piece.beyond:
                before = dict(self._stage.snapshot())
                self._take(piece)
                return before
            self._take(piece)
            self._step.events += piece.rows
            self._step.position.update(piece.position)
            if self._waiting.rows >= self._task.step_rows or self._step.events >= self._task.step_events:
                self._commit(None, complete=False)
            self._tell()
        return None

    def _take(self, piece: Piece) -> None:
        if isinstance(piece.item, Reject):
            self._step.rejects[piece.item.reason] += piece.item.rows
            return
        output = self._stage.process(piece.item)
        for reject in output.rejects:
            self._step.rejects[reject.reason] += reject.rows
        window = self._task.window
        for each in output.rows:
            rows = named(within(each.data, self._table.time, window.start, window.end), self._task.instruments)
            if rows.num_rows:
                self._waiting.add(rows)

    def _commit(self, closing: dict[str, bytes] | None, *, complete: bool) -> None:
        """State first, rows second: a state without its rows is one that nobody presumes."""
        at, step = self._at, self._step
        rows = self._waiting.take()
        number = at.step + 1
        state = msgspec.structs.replace(
            at,
            step=number,
            committed=at.committed if rows is None else number,
            position={**at.position, **step.position},
            events=at.events + step.events,
            rows=at.rows + (0 if rows is None else rows.num_rows),
            rejects=dict(Counter(at.rejects) + step.rejects),
            reached=at.reached if rows is None else int(rows.column(self._table.time).to_numpy().max()),
            complete=complete,
            closed=closing is not None,
            seen=self._task.seen if complete else {},
            stage=dict(self._stage.snapshot()) if closing is None else closing,
        )
        self._states.save(state)
        if rows is not None:
            self._append(rows, number)
        self._states.forget_before(number)
        self._at = state
        self._step.events = 0
        self._step.position = {}
        self._step.rejects.clear()

    def _append(self, rows: pa.Table, number: int) -> None:
        columns = {name: rows.column(name).combine_chunks() for name in rows.schema.names}
        places = np.arange(rows.num_rows)
        data = positioned(self._table, columns, self._task.partition, self._task.offset(number), places)
        self._lake.append(self._table, data, {self._task.transaction: number})

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= REPORT_S:
            self._told = now
            events = self._at.events + self._step.events
            rows = self._at.rows + self._waiting.rows
            self._report(Progress(self._task.name, events, rows, self._at.reached))


def _pieces(task: Task, positions: Positions, rejects: Counter[str]) -> Iterator[Piece]:
    match task.work:
        case Work.FEATURES:
            return underlying_pieces(task, positions)
        case Work.RECORDING:
            return recording_pieces(task, positions, rejects)
        case Work.OWN:
            return input_pieces(task, positions)
        case _:
            from pipeline.backfill_bars import bar_pieces

            return bar_pieces(task, positions)


def _stage_of(task: Task, settings: Settings) -> Stage[Any]:
    from pipeline.stages import feature_stage, signal_stage, universe_stage

    match task.work:
        case Work.UNIVERSE:
            return universe_stage(settings)
        case Work.SIGNALS:
            return signal_stage(settings)
        case Work.OWN:
            from pipeline.own_activity import OwnActivityStage

            return OwnActivityStage.load(settings)
        case _:
            return feature_stage(settings)


def made_with(task: Task, settings: Settings, stage: Any) -> dict[str, str]:
    """What the numbers of the task depend on, by name: a state of other parts is refused."""
    if task.work is Work.OWN:
        return {"portfolio and limits": f"{settings.portfolio} {settings.limits}"}
    parts = {"catalogue": catalogue_of(settings).hash, "interval_ns": str(settings.interval_ns)}
    if task.work in (Work.FEATURES, Work.RECORDING):
        parts["drop_crossing_levels"] = str(settings.drop_crossing_levels)
        parts["text model"] = _text_version(settings)
        return parts
    parts["reference"] = ", ".join(f"{name}={each}" for name, each in sorted(settings.reference.items()))
    if task.work is Work.SIGNALS:
        parts["models"] = stage.version
    return parts


def _text_version(settings: Settings) -> str:
    if not (settings.models / TEXT_FOLDER).is_dir():
        return ""
    from features.alternative.text_artifact import load_text

    return str(load_text(settings.models / TEXT_FOLDER).version)


def require_same(now: dict[str, str], before: dict[str, str]) -> None:
    """Refuse to go on with a state that was made with something else.

    Raises:
        ConfigError: says what differs.
    """
    differing = [name for name in sorted(now.keys() | before.keys()) if now.get(name) != before.get(name)]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"The rows that are there were made with {name} {before.get(name) or 'none'}; "
            f"now it is {now.get(name) or 'none'}.",
            _REMEDY,
        )
