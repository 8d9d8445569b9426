"""Fit, train, show, explain as commands on a lake that no command made; what they compute is tested with the models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from research_lake import research_lake
from typer.testing import CliRunner

from pipeline.cli import app

pytestmark = pytest.mark.xdist_group("research lake")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    research_lake(path)
    return path


def told(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.output


def manifest(models: Path, kind: str) -> dict[str, object]:
    return dict(json.loads((models / kind / "manifest.json").read_text()))


def test_the_same_rows_give_the_same_models_and_later_ones_are_not_looked_at(folder: Path, tmp_path: Path) -> None:
    fitted = manifest(folder / "models", "regimes")["data"]
    assert isinstance(fitted, dict)
    where = ("--lake", folder / "lake", "--until", str(fitted["until"]))
    assert "log_likelihood_per_row" in told("regimes", "fit", *where, "--models", tmp_path)
    assert "calm" in told("regimes", "show", "--models", tmp_path)
    told("forecast", "fit", *where, "--models", tmp_path, "--horizon-bars", "10")
    for kind in ("regimes", "forecast"):
        mine, theirs = (manifest(models, kind)["content_hash"] for models in (tmp_path, folder / "models"))
        assert mine == theirs, kind
    policy = ("hedge", "train", *where, "--models", tmp_path, "--portfolio", folder / "portfolio.json")
    assert "policy_expected_shortfall_bps" in told(*policy, "--batches", "2")
    assert manifest(tmp_path, "policy")["content_hash"]


def test_a_decision_is_explained(folder: Path) -> None:
    assert "rung" in told("hedge", "explain", "--lake", folder / "lake")


def test_the_doctor_finds_nothing_wrong_with_the_lake(folder: Path) -> None:
    assert "fine" in told("doctor", "--lake", folder / "lake", "--bootstrap", "127.0.0.1:1")
