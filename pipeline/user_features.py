"""A user's own features: files that the configuration names, and entry points of installed packages."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from features.catalog import STANDARD, Catalogue, Extra
from features.errors import ConfigError
from features.feature import Feature
from features.user_feature import UserFeature

if TYPE_CHECKING:
    from pipeline.settings import Settings

ENTRY_POINTS: Final = "hedgeflow.features"
NAME: Final = "FEATURES"


def catalogue_of(settings: Settings) -> Catalogue:
    """The features of the house, then those of entry points by name, then those of ``settings.features`` in order.

    Raises:
        ConfigError: a file is missing or cannot be run, defines no ``FEATURES``, or a declaration does not fit.
    """
    return _catalogue(settings.features)


@cache
def _catalogue(paths: tuple[Path, ...]) -> Catalogue:
    extra: list[Extra] = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda each: each.name):
        extra.extend(_declared(point.load(), f"entry point {point.name!r}"))
    for path in paths:
        extra.extend(_declared(_run(path), str(path)))
    return Catalogue(tuple(extra)) if extra else STANDARD


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"There is no file of features {path}.", "Check the setting `features`.")
    # One name a file, the same in every process: numba finds a cached kernel's module by it.
    name = f"hedgeflow_features_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file.", "Its name must end with .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be run: {type(error).__name__}: {error}.", "Run it with python.") from error
    return module


def _declared(found: object, where: str) -> Iterator[Extra]:
    """What a module or a list declares, each with the hash of the code that computes it."""
    features = getattr(found, NAME, None) if isinstance(found, ModuleType) else found
    if not isinstance(features, Iterable):
        raise ConfigError(f"{where} defines no {NAME}.", f"Define {NAME} = [UserFeature(...), ...].")
    for each in features:
        if isinstance(each, UserFeature):
            yield replace(each, source_hash=_source_hash(each))
        elif isinstance(each, Feature):
            yield each
        else:
            raise ConfigError(f"{where}: {each!r} is no feature.", "Declare Feature or UserFeature.")


def _source_hash(feature: UserFeature) -> str:
    """Of the file that holds the function: a change in it makes other numbers, so another catalogue."""
    function = inspect.unwrap(getattr(feature.update, "py_func", feature.update))
    return hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()
