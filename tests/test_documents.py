"""The documents tell the truth: every command in them exists, every link leads somewhere, the README's commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from option_chains import NOW_NS, chain_of, ssvi

from features import surface
from pipeline.cli import app
from pipeline.settings import load_settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
CLI = typer.main.get_command(app)


def console_lines(document: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", document.read_text(), re.DOTALL)
    return [line.split(" #")[0].rstrip(" &") for block in blocks for line in block.splitlines() if line.strip()]


def hedgeflow_commands(document: Path) -> list[list[str]]:
    inline = re.findall(r"`(hedgeflow [^`]+)`", document.read_text())
    return [shlex.split(line) for line in [*console_lines(document), *inline] if line.startswith("hedgeflow ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(document: Path) -> None:
    for words in hedgeflow_commands(document):
        command = CLI
        rest = words[1:]
        while getattr(command, "commands", None):
            assert rest, words
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= known, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_file_exists(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target
    for path in re.findall(
        r"`((?:features|regimes|forecasting|hedger|pipeline|tests|benchmarks|docs|deploy)/[\w./-]+)`", text
    ):
        assert (ROOT / path).exists(), path


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        for line in console_lines(document):
            if line.startswith("make "):
                assert line.split()[1] in targets, line
        assert set(re.findall(r"`make ([a-z-]+)[ `]", document.read_text())) <= targets
    listed = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert {"demo", "test", "check", "help"} <= set(re.findall(r"make (\S+)", listed))


def test_the_configuration_shown_is_accepted(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "configuration.md").read_text(), re.DOTALL)
    path = tmp_path / "config.toml"
    path.write_text(blocks[0])
    assert load_settings(path).reference["ETH"] == "binance-usdm:ETHUSDT"


def test_the_documents_shown_are_accepted(tmp_path: Path) -> None:
    from pipeline.portfolios import read_limits, read_portfolio

    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "configuration.md").read_text(), re.DOTALL)
    portfolio, limits = tmp_path / "portfolio.json", tmp_path / "limits.json"
    portfolio.write_text(blocks[0])
    limits.write_text(blocks[1])
    assert read_portfolio(portfolio).underlyings == ("BTC",)
    assert read_limits(limits).max_loss_usd == 50_000.0


def test_the_readmes_python_runs_on_a_demos_lake(tmp_path: Path) -> None:
    """The snippet and the query of the README, on a small lake under the name that they use."""
    from small_market import edged, small_market

    from pipeline.backfill import backfill
    from pipeline.lake import Lake
    from pipeline.settings import Settings

    reference = {"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"}
    lake = Lake(tmp_path / "hedgeflow-demo" / "lake")
    backfill(edged(small_market(10)), lake, Settings(reference=reference), with_signals=False)
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    query = next(words for words in hedgeflow_commands(ROOT / "README.md") if words[1] == "sql")
    command = [sys.executable, "-m", "pipeline.cli", *query[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_surface_in_python_is_as_its_page_says() -> None:
    """The block's names are the columns of a chain; each of its lines that says something is looked at."""
    chain = chain_of([7, 30, 90], ssvi, noise=0.002)
    names: dict[str, Any] = {**chain, "quoted_ns": np.full(len(chain["strike"]), NOW_NS), "now_ns": NOW_NS}
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "surface.md").read_text(), re.DOTALL)
    exec(block, names)  # noqa: S102 (our own page)
    assert 0.0 < names["surface"].report.rmse_bp < 50.0
    assert eval("surface_features(surface)['risk_reversal_25d']", names) < 0.0  # noqa: S307 (as above)
    points = surface.points_of_volatilities(0.25, [-0.1, 0.0, 0.1], [0.55, 0.5, 0.52])
    for name in ("fit_streamed", "fit_svi", "fit_sabr", "fit_heston", "fit_nonparametric"):
        assert getattr(surface, name)(points).implied_volatility(0.0, 0.25) == pytest.approx(0.5, abs=0.01), name
