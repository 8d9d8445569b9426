"""A run of a backfill: what names it, where it keeps its states, and which runs may share a lake."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from features.errors import BadInputError, ConfigError
from pipeline.backfill_state import StateFolder, write_durably
from pipeline.backfill_task import Window
from pipeline.lake import Lake, LakeError
from pipeline.lake_location import LakeLocation
from pipeline.raw_files import raw_tables
from pipeline.settings import Settings
from pipeline.tables import TABLES

FOLDER: Final = "_backfill"
WARM: Final = "warm"
COMPUTED: Final = ("features", "universe", "signals")

_RUN: Final = "run.json"


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is read.

    Args:
        lake: a lake's folder or URL; empty for recordings.
        paths: of recordings, absolute.
        identity: of a lake, its tables' own ids, which stay when rows are added; of files, size and time of change.
        increments: of recordings without reference data.
        tables: of a lake, the raw tables that are read beside reference data and heartbeats; none: all.
    """

    lake: str
    paths: tuple[str, ...]
    identity: dict[str, str]
    increments: dict[str, tuple[str, str]] = {}
    tables: tuple[str, ...] = ()

    def opened(self, settings: Settings) -> Lake:
        """The lake, opened with what the settings know of its store."""
        return Lake(self.lake, settings.lake_storage_options)


class Run(msgspec.Struct, frozen=True):
    """One run, as its folder names it; ``token`` is drawn, and ``ordinal`` counted, when it begins."""

    key: str
    origin: Origin
    window: Window
    instruments: tuple[str, ...]
    token: str = ""
    ordinal: int = 0

    @property
    def transaction(self) -> str:
        """What names the run in Delta's log, which keeps the names of runs that a restart removed."""
        return f"{self.key}-{self.token}"


def lake_origin(lake: Lake, tables: Sequence[str] = ()) -> Origin:
    """A lake as a source, or only some of its raw tables."""
    ids = {table.name: str(lake.delta(table).metadata().id) for table in raw_tables(tables) if lake.exists(table)}
    where = str(lake.path) if lake.path.remote else str(Path(lake.path).absolute())
    return Origin(where, (), ids, tables=tuple(sorted(set(tables))))


def file_origin(paths: Sequence[Path], increments: Mapping[str, tuple[str, str]]) -> Origin:
    """Recordings as a source."""
    facts = {str(path.absolute()): path.stat() for path in paths}
    identity = {path: f"{fact.st_size} bytes, {fact.st_mtime_ns}" for path, fact in facts.items()}
    return Origin("", tuple(facts), identity, dict(increments))


def run_of(origin: Origin, window: Window, instruments: Sequence[str]) -> Run:
    """The run that a command names: the same words over the same source give the same key."""
    named = tuple(sorted(set(instruments)))
    digest = hashlib.sha256(msgspec.json.encode([origin, window, named], order="sorted")).hexdigest()
    return Run(digest[:12], origin, window, named)


def states_folder(lake: LakeLocation) -> Path:
    """Where the states of backfills into a lake lie: in it, or for a lake at a URL in the user's state folder."""
    if not lake.remote:
        return Path(lake) / FOLDER
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "hedgeflow" / "backfill" / hashlib.sha256(str(lake).encode()).hexdigest()[:12] / FOLDER


class RunFolder:
    """The runs of one lake.

    Args:
        target: the lake.
        path: where they are kept: on a disk, which all workers share; else :func:`states_folder`.
    """

    def __init__(self, target: Lake, path: Path | None = None) -> None:
        self.path = states_folder(target.path) if path is None else path / FOLDER
        self._target = target

    def of(self, run: Run) -> Path:
        """Where a run keeps its states."""
        return self.path / run.key

    def begin(self, run: Run) -> Run:
        """The run with its token; it is written down, unless it is there.

        Raises:
            LakeError: the lake has rows that this run may not add to.
        """
        if (self.of(run) / _RUN).exists():
            return next(each for each in self.runs() if each.key == run.key)
        self._require_room(run)
        self.of(run).mkdir(parents=True, exist_ok=True)
        begun = msgspec.structs.replace(run, token=secrets.token_hex(4), ordinal=len(self.runs()))
        write_durably(self.of(run) / _RUN, msgspec.json.encode(begun))
        return begun

    def runs(self) -> list[Run]:
        """All runs, earliest window first."""
        found = []
        for path in self.path.glob(f"*/{_RUN}"):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Run))
            except msgspec.MsgspecError as error:
                raise BadInputError(f"{path} cannot be read: {error}.", "Use another lake: --to.") from error
        return sorted(found, key=lambda run: (run.window.start or 0, run.key))

    def earlier(self, run: Run) -> Run | None:
        """The last run over the same source and instruments that ended where this one starts, or before."""
        start: int | None = run.window.start
        if start is None:
            return None
        ended: list[tuple[int, Run]] = []
        for each in self.runs():
            end: int | None = each.window.end
            if each.key != run.key and _same_source(each, run) and end is not None and end <= start:
                ended += [(end, each)] if self._closed(each) else []
        return max(ended, key=lambda found: found[0], default=(0, None))[1]

    def _closed(self, run: Run) -> bool:
        """Whether every underlying's log went beyond the end of the run."""
        folders = list((self.of(run) / "features").glob("*"))
        states = [StateFolder(self.of(run) / "features", folder.name).last() for folder in folders]
        return bool(states) and all(state is not None and state.closed for state in states)

    def _require_room(self, run: Run) -> None:
        written = [name for name in COMPUTED if self._target.files(TABLES[name])]
        others = self.runs()
        if not written:
            return
        if not others:
            raise LakeError(f"{self._target.path / written[0]} has rows already.", "Backfill into an empty lake: --to.")
        for each in others:
            if not _same_source(each, run):
                raise LakeError(
                    f"{self._target.path} was backfilled from {_told(each)}, and that is not what {_told(run)} is now.",
                    "Backfill into another lake (--to), or type the command again with --restart.",
                )
            if not _apart(each.window, run.window):
                raise LakeError(
                    f"{self._target.path} holds a backfill of {told_window(each.window)}, which overlaps this one's.",
                    "Start where it ends, backfill into another lake (--to), or --restart.",
                )

    def restart(self) -> int:
        """Remove all backfilled rows and states; how many rows.

        Raises:
            LakeError: a computed table holds rows that no backfill wrote.
        """
        removed = 0
        tables = [TABLES[name] for name in (*COMPUTED, "own_activity") if self._target.files(TABLES[name])]
        for table in tables:
            found = self._target.dataset(table)
            if found.count_rows(filter=_column("topic_partition") >= 0):
                raise LakeError(
                    f"{self._target.path / table.name} holds rows that no backfill in steps wrote.",
                    "They stay: backfill into another lake (--to).",
                )
            removed += found.count_rows()
        if self.path.exists():
            # First, and at once: states must not outlive their rows.
            gone = self.path.with_suffix(".gone")
            shutil.rmtree(gone, ignore_errors=True)
            self.path.rename(gone)
            shutil.rmtree(gone)
        for table in tables:
            self._target.delta(table).delete()
        return removed

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only backfill into this lake on this machine.

        Raises:
            LakeError: another one runs.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, which a restart removes.
        with (self.path.parent / f"{FOLDER}.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise LakeError(
                    f"Process {lock.read() or 'of another user'} backfills into {self._target.path}.", "Wait for it."
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield


def _column(name: str) -> Any:
    import pyarrow.compute as pc

    return pc.field(name)


def _same_source(a: Run, b: Run) -> bool:
    return a.origin == b.origin and a.instruments == b.instruments


def _apart(a: Window, b: Window) -> bool:
    return (a.end is not None and b.start is not None and b.start >= a.end) or (
        b.end is not None and a.start is not None and a.start >= b.end
    )


def _told(run: Run) -> str:
    source = run.origin.lake or ", ".join(Path(path).name for path in run.origin.paths)
    if run.origin.tables:
        source += f" ({', '.join(run.origin.tables)})"
    return f"{source} ({', '.join(run.instruments)})" if run.instruments else source


def told_window(window: Window) -> str:
    """A window as people write it."""
    start = "the beginning" if window.start is None else told_time(window.start)
    return f"{start} to {'the end' if window.end is None else told_time(window.end)}"


def told_time(nanoseconds: int) -> str:
    """A time as people write it."""
    import numpy as np

    return str(np.datetime64(nanoseconds, "ns").astype("datetime64[s]")) + "Z"


def parse_time(text: str | None) -> int | None:
    """A UTC date or time (``2026-01-05``, ``2026-01-05T12:30``) as nanoseconds.

    Raises:
        ConfigError: it is none, or lies before 1970.
    """
    import warnings
    from datetime import UTC, datetime

    import numpy as np

    if text is None:
        return None
    plain = text.strip().removesuffix("Z").removesuffix(" UTC")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of an offset, and drops none
            found = int(np.datetime64(plain, "ns").astype(np.int64))
            # Nanoseconds reach to 2262, and numpy wraps what is beyond.
            if np.datetime64(found, "ns").astype("datetime64[Y]") != np.datetime64(plain).astype("datetime64[Y]"):
                found = 0
    except (ValueError, UserWarning):
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            found = 0
        else:
            since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
            found = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    if not 0 < found < 2**63:
        raise ConfigError(f"{text!r} is no time.", "Write UTC, such as 2026-01-05 or 2026-01-05T12:30:00.")
    return found
