"""Settings: the file, then the environment, then the command line; an unknown key is an error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import ConfigError
from pipeline.settings import load_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "hedgeflow.toml"
    path.write_text(text)
    return path


def test_what_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, 'partitions = 4\nbootstrap = "file:1"\napplication = "file"\n[reference]\nSOL = "x:SOL"\n')
    monkeypatch.setenv("HEDGEFLOW_BOOTSTRAP", "environment:2")
    monkeypatch.setenv("HEDGEFLOW_PARTITIONS", "3")
    settings = load_settings(path, partitions=8)
    assert (settings.partitions, settings.bootstrap, settings.application) == (8, "environment:2", "file")
    assert settings.reference == {"SOL": "x:SOL"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patritions = 4", "Unknown setting 'patritions'.*partitions"),
        ("partitions = 0", "Setting 'partitions'.*greater than or equal to 1"),
        ("partitions = [", "is not TOML"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(write(tmp_path, text))


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        load_settings(tmp_path / "nothing.toml")
