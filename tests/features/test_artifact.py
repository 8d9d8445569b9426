"""Model folders: what is loaded is what was saved, or an error that says what to do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.artifact import MANIFEST, TENSORS, Manifest, load_artifact, save_artifact
from features.errors import ArtifactError, BadInputError

ARRAYS = {
    "weights": np.random.default_rng(0).standard_normal((3, 5)),
    "scalar": np.float64(2.5) * np.ones(()),
    "counts": np.arange(4, dtype=np.int32),
    "mask": np.array([True, False]),
}


def save(folder: Path, **changes: Any) -> Manifest:
    arguments: dict[str, Any] = {
        "kind": "test",
        "name": "toy",
        "catalogue": "abc",
        "seed": 7,
        "settings": {"floor": 0.1, "names": ("a", "b"), "count": np.int64(3)},
        "metrics": {"qlike": 0.25, "undefined": math.nan},
        "data": {"rows": 10},
        "tensors": ARRAYS,
        "texts": {"trees": "line\r\nµ\n"},
    }
    return save_artifact(folder, **(arguments | changes))


def test_round_trip(tmp_path: Path) -> None:
    manifest = save(tmp_path / "deep" / "toy")
    loaded = load_artifact(tmp_path / "deep" / "toy", kind="test", catalogue="abc")
    assert loaded.texts == {"trees": "line\r\nµ\n"}
    assert loaded.tensors.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded.tensors[name].dtype == array.dtype
        assert loaded.tensors[name].shape == array.shape
        assert loaded.tensors[name].tobytes() == array.tobytes()
        assert loaded.tensors[name].flags.writeable
    assert loaded.manifest.settings == {"floor": 0.1, "names": ["a", "b"], "count": 3}
    assert loaded.manifest.metrics["qlike"] == 0.25
    assert math.isnan(loaded.manifest.metrics["undefined"])
    assert loaded.manifest.content_hash == manifest.content_hash
    assert loaded.manifest.version == manifest.content_hash[:12]
    assert loaded.manifest.wheels["numpy"] == np.__version__
    assert loaded.manifest.cpu


def test_layout_of_memory_is_not_content(tmp_path: Path) -> None:
    """A transposed or strided view is stored by its values."""
    weights = ARRAYS["weights"]
    views = {"weights": np.asfortranarray(weights), "strided": np.repeat(weights, 2, axis=1)[:, ::2]}
    copies = {"weights": weights, "strided": weights}
    assert save(tmp_path / "a", tensors=views).content_hash == save(tmp_path / "b", tensors=copies).content_hash
    loaded = load_artifact(tmp_path / "a", kind="test", catalogue=None)
    assert np.array_equal(loaded.tensors["strided"], weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"floor": 0.2}},
        {"catalogue": "abd"},
        {"kind": "other"},
        {"texts": {"trees": "other"}},
        {"texts": {}},
        {"tensors": ARRAYS | {"mask": np.array([True, True])}},
        {"tensors": ARRAYS | {"weights": ARRAYS["weights"].reshape(5, 3)}},
        {"tensors": {("w" if k == "weights" else k): v for k, v in ARRAYS.items()}},
    ],
)
def test_version_follows_the_content(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert save(tmp_path / "a").version != save(tmp_path / "b", **changes).version


def test_version_ignores_where_when_and_how_good(tmp_path: Path) -> None:
    other = save(tmp_path / "b", name="b", seed=8, metrics={"qlike": 9.0}, data={})
    assert save(tmp_path / "a").version == other.version


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


@pytest.mark.parametrize("name", [TENSORS, "trees.txt"])
@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_damage_is_refused(tmp_path: Path, name: str, damage: Any) -> None:
    save(tmp_path / "toy")
    damage(tmp_path / "toy" / name)
    with pytest.raises(ArtifactError, match=r"damaged.*Fit it again"):
        load_artifact(tmp_path / "toy", kind="test", catalogue="abc")


def test_changed_settings_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "toy")
    file = tmp_path / "toy" / MANIFEST
    manifest = json.loads(file.read_bytes())
    manifest["settings"]["floor"] = 0.5
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="content hash"):
        load_artifact(tmp_path / "toy", kind="test", catalogue="abc")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"metrics": 1}', '{"metrics": {}, "kind": 4}'])
def test_broken_manifest_is_refused(tmp_path: Path, text: str) -> None:
    save(tmp_path / "toy")
    (tmp_path / "toy" / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="damaged"):
        load_artifact(tmp_path / "toy", kind="test", catalogue="abc")


def test_missing_wrong_kind_and_wrong_catalogue(tmp_path: Path) -> None:
    save(tmp_path / "toy")
    with pytest.raises(ArtifactError, match="Fit the model first"):
        load_artifact(tmp_path / "none", kind="test", catalogue="abc")
    with pytest.raises(ArtifactError, match="of kind 'test', not 'policy'"):
        load_artifact(tmp_path / "toy", kind="policy", catalogue="abc")
    with pytest.raises(ArtifactError, match="fitted on features abc, these are xyz"):
        load_artifact(tmp_path / "toy", kind="test", catalogue="xyz")


def test_a_model_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    save(tmp_path / "toy")
    second = save(tmp_path / "toy", texts={})
    assert load_artifact(tmp_path / "toy", kind="test", catalogue="abc").manifest.version == second.version
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {MANIFEST, TENSORS}
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data.csv").write_text("1")
    with pytest.raises(ArtifactError, match="is no model"):
        save(precious)
    assert (precious / "data.csv").read_text() == "1"


def test_what_cannot_be_stored(tmp_path: Path) -> None:
    for changes in (
        {"settings": {"a": math.nan}},
        {"settings": {"a": np.zeros(2)}},
        {"tensors": {"a": np.array(["x"])}},
        {"texts": {"../a": "x"}},
    ):
        with pytest.raises(BadInputError):
            save(tmp_path / "toy", **changes)
    assert not (tmp_path / "toy").exists()


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("torch", "numba", "polars", "llvmlite")
    code = f"import sys, features.artifact; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
