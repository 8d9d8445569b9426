"""Where a lake is: folders stay paths, URLs stay as they are, and what opens a store is never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from features.errors import ConfigError
from pipeline.lake_location import LakeLocation, local_path
from pipeline.settings import Settings, load_settings


def test_folders() -> None:
    for place in ("lake", Path("lake"), "file://lake", LakeLocation("lake")):
        where = LakeLocation.of(place)
        assert (str(where), os.fspath(where), where.remote, where.options) == ("lake", "lake", False, None)
    assert Path(LakeLocation("lake") / "book") == Path("lake/book")


def test_local_paths() -> None:
    assert local_path("file:///a/b%20c") == "/a/b c"


def test_urls_keep_their_slashes_and_their_options() -> None:
    where = LakeLocation.of("s3://bucket/prefix/", {"AWS_REGION": "eu-central-1"})
    assert str(where / "book") == "s3://bucket/prefix/book"
    assert (where / "book").options == {"AWS_REGION": "eu-central-1"}
    assert where.remote
    with pytest.raises(ConfigError, match="is no folder"):
        os.fspath(where)


@pytest.mark.parametrize(
    ("url", "message"), [("ftp://host/lake", "cannot be at ftp"), ("s3://me:secret@bucket/lake", "holds a password")]
)
def test_refused_urls(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(None, lake=url)
    assert "secret" not in str(caught.value)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEDGEFLOW_LAKE", "s3://bucket/lake")
    monkeypatch.setenv("HEDGEFLOW_LAKE_STORAGE_OPTIONS", '{"AWS_SECRET_ACCESS_KEY": "hidden"}')
    settings = Settings()
    assert settings.lake.options == {"AWS_SECRET_ACCESS_KEY": "hidden"}
    assert "hidden" not in f"{settings!r} {settings.lake!r} {settings.lake}"
    assert settings.model_dump(mode="json")["lake"] == "s3://bucket/lake"


def test_the_doctor_names_the_options_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.commands.doctor import _settings

    monkeypatch.setenv("HEDGEFLOW_LAKE_STORAGE_OPTIONS", '{"AWS_SECRET_ACCESS_KEY": "hidden"}')
    shown = _settings(Settings())
    assert "AWS_SECRET_ACCESS_KEY" in shown
    assert "hidden" not in shown


def test_workers_of_a_process_get_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.processes import environment_of

    settings = Settings(lake="s3://bucket/lake", lake_storage_options={"AWS_REGION": "x"})
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings().lake == settings.lake
    assert Settings().lake.options == {"AWS_REGION": "x"}
