"""Where a task of a backfill stands, on disk: a file a step, beside the lake that it fills.

A step's state is written, and is safe on disk, before its rows are committed. It names the Delta transaction that it
presumes. So after a crash the newest state whose transaction is in the table is the one that fits the table's rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from features.errors import BadInputError
from pipeline.lake import LakeError

_SUFFIX: Final = ".state"


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """After a step.

    Args:
        step: its number; 0 before the first.
        committed: the last step whose rows the table must hold.
        made_with: what the numbers depend on, by name.
        position: what was read, by underlying; its meaning is the feed's.
        events: read so far.
        rows: written so far.
        rejects: rows that could not be used, by reason.
        reached: the newest bar that was written (ns).
        complete: the input ended here.
        closed: the window ended here; more input changes nothing.
        seen: versions of the tables that were read to their end.
        stage: the stage's own state.
    """

    step: int = 0
    committed: int = 0
    made_with: dict[str, str] = {}
    position: dict[str, list[int]] = {}
    events: int = 0
    rows: int = 0
    rejects: dict[str, int] = {}
    reached: int = 0
    complete: bool = False
    closed: bool = False
    seen: dict[str, int] = {}
    stage: dict[str, bytes] = {}


class StateFolder:
    """The states of one task.

    Args:
        run: the folder of the run.
        task: name of the task.
    """

    def __init__(self, run: str | Path, task: str) -> None:
        self.path = Path(run, *(quote(part, safe="") for part in task.split("/")))

    def newest(self, committed: int) -> TaskState | None:
        """The state that fits a table whose last transaction of this task is ``committed``.

        Raises:
            LakeError: the table has rows of this task, and no state fits.
            BadInputError: a file is damaged.
        """
        for path in reversed(self._files()):
            state = _decoded(path)
            if state.committed <= committed:
                return state
        if committed:
            raise LakeError(
                f"The table holds rows up to step {committed}, and {self.path} has no state of that step.",
                "Type the command again with --restart: it removes the backfilled rows and computes them anew.",
            )
        return None

    def last(self) -> TaskState | None:
        """The newest state, for those that know that it was committed."""
        files = self._files()
        return _decoded(files[-1]) if files else None

    def save(self, state: TaskState) -> None:
        """Write the state so that it survives a crash of the machine."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"{state.step:010d}{_SUFFIX}"
        write_durably(path, msgspec.msgpack.encode(state))

    def forget_before(self, step: int) -> None:
        """Remove the states of earlier steps, which no table needs any more."""
        for path in self._files():
            if int(path.stem) < step:
                path.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.path.glob(f"*{_SUFFIX}"))


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _decoded(path: Path) -> TaskState:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=TaskState)
    except msgspec.MsgspecError as error:
        raise BadInputError(
            f"The state {path} cannot be read: {error}.",
            "Type the command again with --restart: it removes the backfilled rows and computes them anew.",
        ) from error
