"""A backfill in steps gives the rows of one in one go, however it is cut, stopped, continued and spread."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from raw_lake import REFERENCE, SETTINGS, small_log, write_raw

from features.errors import ConfigError
from features.events import NANO
from pipeline.backfill import backfill
from pipeline.backfill_job import Job, JobResult
from pipeline.backfill_local import InProcess, LocalProcesses, LostWorkerError
from pipeline.backfill_plan import Plan
from pipeline.backfill_run import FOLDER, RunFolder, lake_origin, parse_time, run_of
from pipeline.backfill_task import Window
from pipeline.compare import compare
from pipeline.lake import Lake, LakeError
from pipeline.raw_reader import read_log
from pipeline.settings import Settings
from pipeline.tables import POSITION, TABLES

SECONDS = 14
LOG = small_log(SECONDS)
START = 1_767_571_200 * NANO
MIDDLE = START + 7 * NANO


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``raw`` and ``whole``, which was backfilled from it in one go."""
    folder = tmp_path_factory.mktemp("backfill")
    write_raw(folder / "raw", LOG)
    backfill(read_log(folder / "raw"), Lake(folder / "whole"), SETTINGS, with_signals=False)
    return folder


def run(
    source: Path,
    target: Path,
    *,
    window: Window = Window(),
    instruments: Sequence[str] = (),
    settings: Settings = SETTINGS,
    engine: Any = None,
    step_events: int = 400,
    restart: bool = False,
) -> JobResult:
    named = run_of(lake_origin(Lake(source)), window, instruments)
    changes = {"step_events": step_events}
    return Job(named, Lake(target), settings, engine or InProcess(), changes=changes).start(restart=restart)


def assert_whole(lakes: Path, target: Path, window: Window = Window()) -> None:
    for name in ("features", "universe"):
        found = compare(Lake(lakes / "whole"), Lake(target), name, window.end, window.start)
        assert found.left > 0
        assert (found.left, found.differing) == (found.right, 0), name


def test_steps_give_the_same_bits_and_a_second_run_does_nothing(lakes: Path, tmp_path: Path) -> None:
    first = run(lakes / "raw", tmp_path / "to")
    assert first.events == sum(batch.data.num_rows for batch in LOG)
    assert_whole(lakes, tmp_path / "to")
    assert Lake(tmp_path / "to").delta(TABLES["features"]).version() > 4, "several steps each"
    assert run(lakes / "raw", tmp_path / "to") == JobResult()


@pytest.mark.parametrize("after", [False, True], ids=["before a commit", "after a commit"])
def test_a_run_that_ends_around_any_commit_goes_on(
    lakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The state is on disk, and the rows are not committed yet; or they are, and nobody heard."""
    append, commits = Lake.append, 0

    class Killed(BaseException):
        pass

    def dying(lake: Lake, *arguments: Any) -> None:
        nonlocal commits
        commits += 1
        if after:
            append(lake, *arguments)
        if commits % 2 == 0:
            raise Killed
        if not after:
            append(lake, *arguments)

    monkeypatch.setattr(Lake, "append", dying)
    deaths = 0
    while True:
        try:
            run(lakes / "raw", tmp_path / "to")
            break
        except Killed:
            deaths += 1
    assert deaths >= 4
    assert_whole(lakes, tmp_path / "to")


def test_kill_9_of_the_command_and_of_its_workers(lakes: Path, tmp_path: Path) -> None:
    arguments = ["--from", str(lakes / "raw"), "--to", str(tmp_path / "to"), "--workers", "2", "--step-events", "200"]
    command = [sys.executable, "-m", "pipeline.cli", "backfill", *arguments]
    environment = {**os.environ, "HEDGEFLOW_REFERENCE": json.dumps(REFERENCE)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    states = tmp_path / "to" / FOLDER
    deadline = time.monotonic() + 240
    while not list(states.glob("*/features/*/0000000002.state")):
        assert process.poll() is None, "it was to be killed in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Lake(tmp_path / "to").files(TABLES["universe"])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_whole(lakes, tmp_path / "to")


def test_a_worker_that_is_lost_is_replaced_and_one_that_always_dies_is_told(
    lakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interpreter of the first two workers ends at once, that of the others runs.
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\nif mkdir "{tmp_path}/first" 2>/dev/null || mkdir "{tmp_path}/second" 2>/dev/null; '
        f'then exit 9; fi\nexec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr("pipeline.backfill_local.sys.executable", str(script))
    run(lakes / "raw", tmp_path / "to", engine=LocalProcesses(2))
    assert_whole(lakes, tmp_path / "to")
    script.write_text("#!/bin/sh\nexit 9\n")
    with pytest.raises(LostWorkerError, match="lost 3 processes; the last ended with 9"):
        run(lakes / "raw", tmp_path / "other", engine=LocalProcesses(2))


def test_what_the_source_got_since_is_added(lakes: Path, tmp_path: Path) -> None:
    raw, half = tmp_path / "raw", len(LOG) // 2
    write_raw(raw, LOG[:half])
    run(raw, tmp_path / "to")
    write_raw(raw, LOG, first=half)
    more = run(raw, tmp_path / "to")
    assert more.events == sum(batch.data.num_rows for batch in LOG[half:])
    assert_whole(lakes, tmp_path / "to")


def test_a_start_goes_on_from_the_state_of_a_run_that_ended_there(lakes: Path, tmp_path: Path) -> None:
    run(lakes / "raw", tmp_path / "to", window=Window(None, MIDDLE))
    assert_whole(lakes, tmp_path / "to", Window(None, MIDDLE))
    second = run(lakes / "raw", tmp_path / "to", window=Window(MIDDLE, None))
    assert second.notes == ["begins with the state that 2026-01-05T00:00:07Z ended with"]
    assert_whole(lakes, tmp_path / "to")
    places = Lake(tmp_path / "to").dataset(TABLES["features"]).to_table(columns=[field.name for field in POSITION])
    assert len({tuple(row.values()) for row in places.to_pylist()}) == places.num_rows, "a place of its own each"
    with pytest.raises(LakeError, match="which overlaps this one's"):
        run(lakes / "raw", tmp_path / "to", window=Window(MIDDLE + NANO, None))


def test_a_start_without_a_state_runs_a_warm_up_and_says_so(lakes: Path, tmp_path: Path) -> None:
    window = Window(MIDDLE, MIDDLE + 4 * NANO)
    found = run(lakes / "raw", tmp_path / "to", window=window)
    assert "all since the log's beginning: the same bits as a whole run" in found.notes[0]
    assert_whole(lakes, tmp_path / "to", window)
    times = Lake(tmp_path / "to").dataset(TABLES["features"]).to_table(columns=["bar_ts"]).column(0).to_pylist()
    assert (min(times), max(times)) == (MIDDLE + NANO, MIDDLE + 4 * NANO)
    assert run(lakes / "raw", tmp_path / "to", window=window) == JobResult()


def test_an_instrument_has_the_bits_of_the_whole(lakes: Path, tmp_path: Path) -> None:
    found = run(lakes / "raw", tmp_path / "to", instruments=["test:BTC-SPOT"])
    assert found.notes == ["universe and signals are left out: they need test:BTC-PERPETUAL, test:ETH-PERPETUAL"]
    rows = Lake(tmp_path / "to").dataset(TABLES["features"]).to_table()
    assert set(rows.column("instrument").to_pylist()) == {"test:BTC-SPOT"}
    there = compare(Lake(lakes / "whole"), Lake(tmp_path / "to"), "features")
    assert there.left - there.right == there.differing, "every row here has its equal there"
    with pytest.raises(ConfigError, match="no instrument 'DOGE'"):
        run(lakes / "raw", tmp_path / "to2", instruments=["DOGE"])


def test_another_catalogue_is_refused_until_restart(lakes: Path, tmp_path: Path) -> None:
    run(lakes / "raw", tmp_path / "to", window=Window(None, MIDDLE))
    own = tmp_path / "mine.py"
    own.write_text(
        "from features.feature import Feature\nfrom features.user_feature import UserFeature\n"
        "FEATURES = [UserFeature(Feature('twice', '1', '2 mid', 'no mid', ('mid',), 'mine'), lambda x, s: 2 * x[0])]\n"
    )
    other = Settings(reference=REFERENCE, features=(own,))
    # The run itself is complete and closed: a new one behind it would go on from its state.
    with pytest.raises(ConfigError, match=r"made with catalogue \w+; now it is \w+.*--restart"):
        run(lakes / "raw", tmp_path / "to", window=Window(MIDDLE, None), settings=other)
    found = run(lakes / "raw", tmp_path / "to", settings=other, restart=True)
    assert "restart: removed" in found.notes[0]
    rows = Lake(tmp_path / "to").dataset(TABLES["features"]).to_table()
    assert rows.num_rows == compare(Lake(lakes / "whole"), Lake(tmp_path / "to"), "features").left
    assert rows.column("twice").null_count < rows.num_rows
    # Delta remembers the steps of a run that is gone: the next one has another name there.
    run(lakes / "raw", tmp_path / "to", restart=True)
    assert_whole(lakes, tmp_path / "to")


def test_another_source_and_rows_of_others_are_refused(lakes: Path, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", LOG[:200])
    run(tmp_path / "raw", tmp_path / "to")
    with pytest.raises(LakeError, match="was backfilled from"):
        run(lakes / "raw", tmp_path / "to")
    with pytest.raises(LakeError, match="has rows already"):
        run(lakes / "raw", lakes / "whole")
    with pytest.raises(LakeError, match="that no backfill in steps wrote"):
        run(lakes / "raw", lakes / "whole", restart=True)


def test_states_that_are_gone_and_a_second_process_are_told(lakes: Path, tmp_path: Path) -> None:
    run(lakes / "raw", tmp_path / "to")
    with RunFolder(Lake(tmp_path / "to")).locked(), pytest.raises(LakeError, match=f"Process {os.getpid()} backfills"):
        run(lakes / "raw", tmp_path / "to")
    for state in (tmp_path / "to" / FOLDER).glob("*/features/BTC/*.state"):
        state.unlink()
    with pytest.raises(LakeError, match="has no state of that step"):
        run(lakes / "raw", tmp_path / "to")


def test_nothing_of_a_secret_is_in_a_task(tmp_path: Path) -> None:
    secret = Settings(reference=REFERENCE, kafka={"sasl.password": "hunter2"})
    write_raw(tmp_path / "raw", LOG[:20])
    plan = Plan(run_of(lake_origin(Lake(tmp_path / "raw")), Window(), ()), tmp_path, Lake(tmp_path / "to"), secret)
    assert "hunter2" not in str(plan.features())


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "0001-01-01"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        parse_time(text)
    assert parse_time("2026-01-05T00:00:07Z") == MIDDLE
    assert parse_time("2026-01-05 00:00:07 UTC") == parse_time("2026-01-05T02:00:07+02:00") == MIDDLE
