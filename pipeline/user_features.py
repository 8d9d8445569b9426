"""A user's own features: files that the configuration names, and entry points of installed packages."""

from __future__ import annotations

import hashlib
import inspect
import keyword
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np

from features.catalog import STANDARD, Catalogue, Extra
from features.errors import ConfigError, HedgeflowError
from features.feature import FLOAT, Feature
from features.user_feature import UserFeature
from pipeline.python_file import run_file

if TYPE_CHECKING:
    from pipeline.settings import Settings

ENTRY_POINTS: Final = "hedgeflow.features"
NAME: Final = "FEATURES"


def catalogue_of(settings: Settings) -> Catalogue:
    """The features of the house, then those of entry points by name, then those of ``settings.features`` in order.

    Raises:
        ConfigError: a file is missing or cannot be run, defines no ``FEATURES``, or a declaration does not fit; a
            function does not take unknown inputs and fresh state, or does not return a number.
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
    # One name a content, in every process and wherever the file lies: numba finds a cached kernel's module by it, and
    # caches move with folders.
    name = f"hedgeflow_features_{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    if path.suffix != ".py":
        raise ConfigError(f"{path} is no Python file.", "Its name must end with .py.")
    try:
        module = run_file(path, name)
    except HedgeflowError as error:
        raise ConfigError(f"{path}: {error.problem}", error.remedy) from error
    except Exception as error:
        raise ConfigError(f"{path} cannot be run: {type(error).__name__}: {error}.", "Run it with python.") from error
    return module


def _declared(found: object, where: str) -> Iterator[Extra]:
    """What a module or a list declares, each with the hash of the code that computes it."""
    features = getattr(found, NAME, None) if isinstance(found, ModuleType) else found
    if features is None:
        raise ConfigError(f"{where} defines no {NAME}.", f"Define {NAME} = [UserFeature(...), ...].")
    if isinstance(features, str) or not isinstance(features, Iterable):
        raise ConfigError(
            f"{NAME} of {where} is no list, but {features!r}.", f"Define {NAME} = [UserFeature(...), ...]."
        )
    for each in features:
        if isinstance(each, UserFeature):
            _require_declared(each, where)
            _require_update(each, where)
            yield replace(each, source_hash=_source_hash(each))
        elif isinstance(each, Feature):
            yield each
        else:
            raise ConfigError(f"{where}: {each!r} is no feature.", "Declare Feature or UserFeature.")


def _require_declared(each: UserFeature, where: str) -> None:
    feature = each.feature
    if not isinstance(feature, Feature):
        raise ConfigError(f"{where}: {feature!r} is no Feature.", "Declare UserFeature(Feature(...), update).")
    name = feature.name
    if not (isinstance(name, str) and name.isidentifier() and name == name.lower()) or keyword.iskeyword(name):
        raise ConfigError(
            f"{where}: {name!r} cannot name a column.", "Use small letters, digits and _, such as my_signal."
        )
    if not isinstance(feature.inputs, tuple | list) or not feature.inputs:
        raise ConfigError(
            f"{where}: the inputs of {name!r} are {feature.inputs!r}, not names of columns.", 'Such as inputs=("mid",).'
        )
    if feature.dtype != FLOAT:
        raise ConfigError(f"{where}: {name!r} is of type {feature.dtype}.", f"A feature of your own is a {FLOAT}.")
    if not isinstance(each.state_size, int) or each.state_size < 0:
        raise ConfigError(
            f"{where}: {name!r} has the state_size {each.state_size!r}.", "Give a whole number, 0 or more."
        )
    if not callable(each.update):
        raise ConfigError(
            f"{where}: the update of {name!r} is {each.update!r}, no function.", "Give update(inputs, state)."
        )


def _require_update(each: UserFeature, where: str) -> None:
    """Call it as the first bar of an instrument may: everything unknown, the state fresh."""
    inputs, state = np.full(len(each.feature.inputs), math.nan), np.full(each.state_size, math.nan)
    try:
        float(each.update(inputs, state))
    except Exception as error:
        # numba explains at length; its first line says what.
        problem = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise ConfigError(
            f"{where}: {each.feature.name!r} fails when its inputs are unknown: {problem}.",
            "update(inputs, state) takes NaN for unknown and state_size numbers, NaN at first, and returns a number.",
        ) from error


def _source_hash(feature: UserFeature) -> str:
    """Of the file that holds the function: a change in it makes other numbers, so another catalogue."""
    function = inspect.unwrap(getattr(feature.update, "py_func", feature.update))
    return hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()
