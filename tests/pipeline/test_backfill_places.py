"""What ``hedgeflow backfill`` reads and writes: lakes in folders and object stores, and single tables of a lake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from object_store import needs_object_store
from raw_lake import REFERENCE, SETTINGS, small_log, write_raw

from pipeline.backfill import backfill
from pipeline.compare import compare
from pipeline.lake import Lake
from pipeline.lake_location import LakeLocation, Place
from pipeline.raw_reader import read_log
from pipeline.tables import TABLES

LOG = small_log(8)


def command(*words: str, options: dict[str, str] | None = None, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HEDGEFLOW_REFERENCE": json.dumps(REFERENCE), "XDG_STATE_HOME": str(home)}
    if options:
        environment["HEDGEFLOW_LAKE_STORAGE_OPTIONS"] = json.dumps(options)
    arguments = [sys.executable, "-m", "pipeline.cli", "backfill", *words, "--step-events", "400"]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)


def whole(folder: Path) -> Lake:
    """What a backfill of the whole log gives, in one go."""
    write_raw(folder / "raw", LOG)
    backfill(read_log(folder / "raw"), Lake(folder / "whole"), SETTINGS, with_signals=False)
    return Lake(folder / "whole")


def assert_equal(expected: Lake, place: Place) -> None:
    for name in ("features", "universe"):
        found = compare(expected, Lake(place), name)
        assert found.left > 0
        assert (found.left, found.differing) == (found.right, 0), name


@needs_object_store
def test_from_and_into_an_object_store(store: LakeLocation, tmp_path: Path) -> None:
    expected = whole(tmp_path)
    write_raw(store / "raw", LOG)
    options = dict(store.storage_options)
    words = ["--from", str(store / "raw"), "--to", str(store / "computed")]
    done = command(*words, options=options, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(expected, store / "computed")
    again = command(*words, options=options, home=tmp_path)
    assert "Nothing to do" in again.stdout
    elsewhere = command(*words, options=options, home=tmp_path / "another machine")
    assert elsewhere.returncode == 7
    assert "has rows already" in elsewhere.stderr
    nowhere = command("--from", str(store / "nowhere"), "--to", str(tmp_path / "to"), options=options, home=tmp_path)
    assert f"There is no lake at {store / 'nowhere'}" in nowhere.stderr
    assert not Path("s3:").exists()


@needs_object_store
def test_states_and_options_may_be_named(store: LakeLocation, tmp_path: Path) -> None:
    expected = whole(tmp_path)
    options = dict(store.storage_options)
    config = tmp_path / "hedgeflow.toml"
    config.write_text(f'[lake_storage_options]\nAWS_ENDPOINT_URL = "{options.pop("AWS_ENDPOINT_URL")}"\n')
    words = ["--from", str(tmp_path / "raw"), "--to", str(store / "named"), "--config", str(config), "--workers", "2"]
    done = command(*words, "--states", str(tmp_path / "states"), options=options, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(expected, store / "named")
    assert list((tmp_path / "states").glob("**/*.state"))
    assert not (tmp_path / "hedgeflow").exists(), "nothing in the user's own folder"


def test_tables_of_a_lake(tmp_path: Path) -> None:
    whole(tmp_path)
    tables = [f"--from={tmp_path / 'raw' / name}" for name in ("book", "trades")]
    done = command(*tables, "--to", str(tmp_path / "two"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = Lake(tmp_path / "two").dataset(TABLES["features"]).to_table(["instrument", "mid", "funding_rate"])
    assert set(rows["instrument"].to_pylist()) >= set(REFERENCE.values())
    assert rows["mid"].null_count < rows.num_rows, "books were read"
    assert rows["funding_rate"].null_count == rows.num_rows, "funding was not"


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        (["raw", "raw/book"], "Name files, or one lake"),
        (["raw/book", "README"], "Name files, or one lake"),
        (["raw/features"], "is a folder, and no lake"),
        (["ftp://host/lake"], "A lake cannot be at ftp"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, sources: list[str], told: str) -> None:
    write_raw(tmp_path / "raw", LOG[:40])
    (tmp_path / "raw" / "features").mkdir()
    (tmp_path / "README").write_text("text")
    named = [f"--from={source if '://' in source else tmp_path / source}" for source in sources]
    done = command(*named, "--to", str(tmp_path / "to"), home=tmp_path)
    assert done.returncode in (3, 4, 7)
    assert told in done.stderr.replace("\n", " ")
