"""The command line as a user meets it: quick help with examples, one-line errors with the remedy, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import typer

from pipeline.broker import EmbeddedBroker
from pipeline.cli import app
from pipeline.kafka import create_topics
from pipeline.settings import Settings

HEDGEFLOW = [sys.executable, "-m", "pipeline.cli"]


def run(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HEDGEFLOW, *arguments], capture_output=True, text=True, check=False, timeout=timeout)


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    children = getattr(command, "commands", None)
    if not children:
        return [(path, command)]
    return [leaf for name, child in children.items() for leaf in leaves(child, (*path, name))]


COMMANDS = leaves(typer.main.get_command(app))


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    run("--help")
    fastest = min(timed_help() for _ in range(5))
    assert fastest < 1.0  # .3 where nothing else runs
    heavy = {"torch", "polars", "pyarrow", "numba", "sklearn", "lightgbm", "duckdb", "confluent_kafka", "matplotlib"}
    code = "import sys, pipeline.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def timed_help() -> float:
    start = time.perf_counter()
    assert run("--help").returncode == 0
    return time.perf_counter() - start


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    command = dict(COMMANDS)[path]
    assert command.help
    assert "hedgeflow" in (command.epilog or ""), "an example belongs into the epilog"
    assert f"hedgeflow {' '.join(path)}" in (command.epilog or "")
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))
    options = {option for parameter in command.params for option in parameter.opts}
    needs_none = path[0] == "features" or path == ("vol", "convert")
    assert "--config" in options or needs_none, "the catalogue and arithmetic alone need no settings"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("sql", "--lake", "/nowhere", "select 1"), 7, "hedgeflow: There is no lake at /nowhere."),
        (("replay", "/nowhere/x.gz", "--verify-book"), 3, "hedgeflow: "),
        (("replay", "tests/pipeline/test_cli.py", "--verify-book"), 3, "is nothing that can be read as market data"),
        (("features", "show", "midd"), 4, "Did you mean 'mid'?"),
        (("vol", "convert", "--volatility", "52", "--days", "30"), 4, "--volatility 52 is 5200%. Write 52% or 0.52"),
        (("stream", "run", "nonsense"), 4, "There is no stage 'nonsense'."),
        (("stream", "run"), 2, "Missing argument"),
        (("backfill", "--from", "/nowhere", "--to", "/nowhere-else"), 3, "/nowhere does not exist. Check --from."),
        (("backfill", "--from", "docs", "--to", "/nowhere-else"), 3, "docs is a folder, and no lake. Name its files"),
    ],
)
def test_an_error_is_one_line_with_the_remedy(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_verbose_shows_the_traceback() -> None:
    done = run("--verbose", "sql", "--lake", "/nowhere", "select 1")
    assert "Traceback" in done.stderr
    assert done.returncode == 7


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("bootstrp = 'x'\n")
    done = run("doctor", "--no-gpu", "--config", str(path))
    assert done.returncode == 4
    assert "Unknown setting 'bootstrp'" in done.stderr


def test_doctor_names_every_check() -> None:
    done = run("doctor", "--no-gpu", "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 0
    for check in ("python", "libraries", "broker", "lake", "clock"):
        assert check in done.stdout


@pytest.mark.broker
def test_ctrl_c_finishes_checkpoints_and_exits_with_130(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        create_topics(Settings(bootstrap=broker.bootstrap))
        process = subprocess.Popen(
            [*HEDGEFLOW, "stream", "run", "features", "--bootstrap", broker.bootstrap],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HEDGEFLOW_SESSION_TIMEOUT_MS": "3000"},
        )
        assert process.stderr is not None
        assert '"started"' in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[1]
        assert process.returncode == 130
        assert '"stopped"' in rest
        assert "Traceback" not in rest
