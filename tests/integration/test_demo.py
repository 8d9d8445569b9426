"""``hedgeflow demo`` as a user types it, but short: what it prints, and what it leaves behind, Ctrl-C included."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pipeline
from pipeline.demo.closing import QUERIES

pytestmark = pytest.mark.broker

DEMO = [sys.executable, "-m", "pipeline.cli", "demo"]
DATA = Path(__file__).parents[3] / "shared" / "data"


def run_demo(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*DEMO, "--out", str(out), "--policy-batches", "4", *options]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def check_page(out: Path) -> str:
    page = (out / "report.html").read_text()
    for heading in (
        "What each way to hedge earned",
        "Regimes",
        "Order books",
        "Volatility surface",
        "Volatility forecast",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert len(re.findall(r'src="data:image/png;base64,', page)) >= 6
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "the page needs nothing else"
    assert (out / "picture.png").stat().st_size > 20_000
    return page


def kill_workers(out: Path, killed: list[str]) -> None:
    """kill -9 of two workers while the second part streams, from outside, as a crash would."""
    log = out / "logs" / "decisions.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"started"' in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for stage in ("features", "signals"):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                mine = str(out).encode() in (process / "environ").read_bytes()
            except OSError:
                continue
            if mine and b"stream" in words and words[words.index(b"run") + 1] == stage.encode():
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(stage)


@pytest.mark.soak
def test_the_simulated_demo_with_two_workers_killed(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    killed: list[str] = []
    killer = threading.Thread(target=kill_workers, args=(out, killed))
    killer.start()
    done = run_demo(out, "--minutes", "6", "--partitions", "4")
    killer.join()
    assert done.returncode == 0, done.stderr
    assert killed == ["features", "signals"]
    assert re.search(r"killed and started again\W+2", done.stdout)
    told = re.sub(r"[\s│]+", " ", done.stdout)
    assert "differing rows, stream/backfill 0 (features 720, universe 720, signals 720, own_activity 360)" in told
    assert re.search(r"dead letters\W+0", done.stdout)
    assert "deep policy" in done.stdout
    assert "balanced accuracy" in done.stdout
    check_page(out)
    with pipeline.open_lake(out / "lake") as lake:
        for query in QUERIES:
            assert query in done.stdout
            assert lake.sql(query).fetchall()
        for view in ("book", "trades", "options", "features", "signals", "decisions", "fills"):
            assert lake.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0] > 0, view
        judged = lake.sql("SELECT min(bar_ts) FROM decisions").fetchall()[0][0]
        trained = lake.sql("SELECT max(ts_known) FROM universe WHERE bar_ts < ?", params=[judged - 10**9]).fetchall()[
            0
        ][0]
    manifest = (out / "models" / "regimes" / "manifest.json").read_text()
    until = re.search(r'"until":\s*(\d+)', manifest)
    assert until is not None
    assert int(until[1]) <= trained + 2 * 10**9
    check_commands(out, tmp_path / "models")
    again = run_demo(out, "--minutes", "-1")
    assert again.returncode == 4
    assert "Give --minutes a positive number" in again.stderr


def check_commands(out: Path, models: Path) -> None:
    """What the demo calls are commands, too; and they give the demo's own models again, to the bit."""
    lake, portfolio = str(out / "lake"), str(out / "portfolio.json")
    fitted = json.loads((out / "models" / "regimes" / "manifest.json").read_text())
    until = ("--until", str(fitted["data"]["until"]))
    paths = ("--lake", lake, "--models", str(models))
    told = commands(
        ("regimes", "fit", *paths, *until),
        ("regimes", "show", "--models", str(models)),
        ("forecast", "fit", *paths, *until),
        ("hedge", "train", *paths, *until, "--portfolio", portfolio, "--batches", "4"),
        ("hedge", "explain", "--lake", lake),
        ("report", str(out)),
        ("doctor", "--lake", lake, "--bootstrap", "127.0.0.1:1"),
    )
    assert "log_likelihood_per_row" in told[0]
    assert "calm" in told[1]
    assert "qlike_har" in told[2]
    assert "policy_expected_shortfall_bps" in told[3]
    assert "rung deep_policy" in told[4]
    assert told[5].strip() == str(out / "report.html")
    assert "fine" in told[6]
    for kind in ("regimes", "forecast", "policy"):
        mine, theirs = (
            json.loads((folder / kind / "manifest.json").read_text()) for folder in (models, out / "models")
        )
        assert mine["content_hash"] == theirs["content_hash"], kind


MARK = "-- next command --"
IN_ONE_PROCESS = f"""
import sys
from pipeline.cli import app
for line in sys.argv[1:]:
    print({MARK!r}, flush=True)
    app(line.split(chr(31)), standalone_mode=False)
"""


def commands(*lines: tuple[str, ...]) -> list[str]:
    """What each command prints; one process for all, because to start one costs more than most of them."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, *("\x1f".join(line) for line in lines)],
        capture_output=True, text=True, check=False, timeout=240, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split(f"{MARK}\n")[1:]


@pytest.mark.soak
@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="the recorded data are not on this machine")
def test_the_recorded_demo_says_what_was_retimed(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = run_demo(out, "--data", str(DATA), "--minutes", "2")
    assert done.returncode == 0, done.stderr
    assert "Re-timed data" in done.stdout
    assert re.search(r"differing rows, stream/backfill\W+0 \(features", done.stdout)
    assert "Re-timed data" in check_page(out)


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = run_demo(tmp_path)
    assert done.returncode == 4
    assert "is not empty and not a demo's" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    done = run_demo(tmp_path / "demo", "--data", str(tmp_path / "nowhere"))
    assert done.returncode == 3
    assert done.stderr.startswith("hedgeflow: ")
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_every_process_and_exits_with_130(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    process = subprocess.Popen([*DEMO, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / "logs" / "lake.log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "interrupted" in error
    assert "Traceback" not in error
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(out) not in listed
    left = [environment for environment in environments() if str(out).encode() in environment]
    assert not left, "a worker outlived the demo"


def environments() -> list[bytes]:
    """The environments of all processes: workers get the lake's path through theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found
