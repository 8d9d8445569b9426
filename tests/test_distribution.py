"""The distribution: its five import names are generic, so nobody else installed here may claim them."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "regimes", "forecasting", "hedger", "pipeline")


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_no_other_distribution_claims_the_names() -> None:
    claimed = importlib.metadata.packages_distributions()
    for name in PACKAGES:
        assert set(claimed.get(name, ["hedgeflow"])) == {"hedgeflow"}


def test_it_can_never_reach_a_public_index() -> None:
    metadata = importlib.metadata.metadata("hedgeflow")
    assert "Private :: Do Not Upload" in (metadata.get_all("Classifier") or [])


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_is_typed_and_listed_with_all_its_folders(name: str) -> None:
    assert (ROOT / name / "py.typed").exists()
    listed = project()["tool"]["setuptools"]["packages"]  # type: ignore[index]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / name).rglob("__init__.py")}
    assert folders <= set(listed)


def test_constraints_pin_torch() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in pins


def test_nothing_is_ever_unpickled() -> None:
    forbidden = ("pickle.load", "joblib.load", "torch.load(", "allow_pickle=True")
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*.py"):
            text = path.read_text()
            assert not [word for word in forbidden if word in text], path
