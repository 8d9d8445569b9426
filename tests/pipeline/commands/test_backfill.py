"""``hedgeflow backfill``: its page's commands as they stand there, recordings, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from raw_lake import REFERENCE, SETTINGS, small_log, write_raw
from small_recording import simulated
from typer.testing import CliRunner

from features.errors import HedgeflowError
from pipeline.backfill import backfill
from pipeline.cli import app
from pipeline.compare import compare
from pipeline.lake import Lake
from pipeline.raw_reader import read_log
from pipeline.settings import Settings
from pipeline.sources.open_files import open_source
from pipeline.sources.stamped import stamped

PAGE = Path(__file__).parents[3] / "docs" / "backfill.md"


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEDGEFLOW_REFERENCE", json.dumps(REFERENCE))
    lake = tmp_path / "hedgeflow-demo" / "lake"
    write_raw(lake, small_log(10))
    backfill(read_log(lake), Lake(lake), SETTINGS, with_signals=False)
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 5
    said = {}
    for line in lines:
        done = invoke(*shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)
        said[line] = done.output
    assert said[lines[0]].count("differing 0") == 2
    assert "begins with the state that 2026-01-05T00:00:05Z ended with" in said[lines[2]]
    assert "left out: they need test:ETH-PERPETUAL" in said[lines[3]]
    for name in ("days", "fast"):
        for table in ("features", "universe"):
            assert compare(Lake(lake), Lake(tmp_path / name), table).differing == 0
    assert "Nothing to do" in invoke(*shlex.split(lines[0])[1:]).output


def test_recordings_go_on_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [simulated(seed=1, diffs=60, symbol=symbol).write(tmp_path) for symbol in ("BTCUSDT", "ETHUSDT")]
    reference = {"BTC": "binance-usdm:BTCUSDT", "ETH": "binance-usdm:ETHUSDT"}
    monkeypatch.setenv("HEDGEFLOW_REFERENCE", json.dumps(reference))
    whole = Lake(tmp_path / "whole")
    from collections import Counter

    backfill(stamped(open_source(files), Counter()), whole, Settings(reference=reference), with_signals=False)
    sources = [word for file in files for word in ("--from", str(file))]
    words = ["backfill", *sources, "--to", str(tmp_path / "to"), "--step-events", "500"]
    append, commits = Lake.append, 0

    def dying(lake: Lake, *arguments: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == 2:
            raise KeyboardInterrupt
        append(lake, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "append", dying)
        assert invoke(*words).exit_code != 0
    done = invoke(*words)
    assert done.exit_code == 0, done.exception
    assert "rejected nothing" in done.output
    for table in ("features", "universe"):
        found = compare(whole, Lake(tmp_path / "to"), table)
        assert found.left > 0
        assert found.differing == 0
    assert "Nothing to do" in invoke(*words).output
    files[0].touch()
    assert "was backfilled from" in str(invoke(*words).exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "nowhere", "--to", "to"), "nowhere does not exist"),
        (("--from", ".", "--to", "to"), "is a folder, and no lake"),
        (("--from", "file", "--from", ".", "--to", "to"), "is a folder"),
        (("--from", "file", "--to", "to", "--compare"), "no tables to compare with"),
        (("--from", "file", "--to", "to", "--start", "soon"), "'soon' is no time"),
    ],
)
def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("nothing")
    error = invoke("backfill", *words).exception
    assert isinstance(error, HedgeflowError)
    assert said in str(error)
