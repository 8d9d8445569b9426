"""Models on disk: a folder of plain files, never a pickle (DESIGN 6).

::

    manifest.json         what it is, from which data, code, wheels and seed, how good, and the hash of the rest
    tensors.safetensors   arrays
    NAME.txt              texts, e.g. a LightGBM model

The folder is written beside its place and renamed, so a half-written model never exists. Loading verifies the
content hash and the catalogue: a model never reads features that mean something else than those it was fitted on.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from features.errors import ArtifactError, BadInputError
from features.manifest import Manifest as Manifest
from features.manifest import content_hash, encode, installed_wheels, plain, processor, version_of

MANIFEST: Final = "manifest.json"
TENSORS: Final = "tensors.safetensors"
TEXT_SUFFIX: Final = ".txt"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model as it was saved."""

    manifest: Manifest
    tensors: Mapping[str, np.ndarray]
    texts: Mapping[str, str]


def save_artifact(
    folder: Path,
    *,
    kind: str,
    name: str,
    catalogue: str,
    seed: int,
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    data: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray] = {},
    texts: Mapping[str, str] = {},
) -> Manifest:
    """Write a model folder, replacing an older model there.

    Args:
        folder: where; its parents are made.
        kind, name, catalogue, seed, settings, metrics, data: see :class:`features.manifest.Manifest`.
        tensors: name -> array of numbers or booleans.
        texts: name -> text, stored as ``NAME.txt``.

    Raises:
        ArtifactError: ``folder`` holds something that is no model.
        BadInputError: a name, a tensor's type or a setting cannot be stored.
    """
    arrays = {key: _storable(key, value) for key, value in tensors.items()}
    plain_settings = plain(settings)
    manifest = Manifest(
        kind=kind,
        name=name,
        code_version=version_of("hedgeflow") or "source",
        catalogue=catalogue,
        data=plain(data),
        wheels=installed_wheels(),
        cpu=processor(),
        seed=int(seed),
        settings=plain_settings,
        metrics={key: float(value) for key, value in metrics.items()},
        files=(*([TENSORS] if arrays else []), *(key + TEXT_SUFFIX for key in sorted(texts))),
        content_hash=content_hash(kind, catalogue, plain_settings, arrays, texts),
    )
    files = {MANIFEST: msgspec.json.format(encode(manifest), indent=2) + b"\n"}
    if arrays:
        files[TENSORS] = save_tensors(arrays)
    for key, text in texts.items():
        if not _NAME.fullmatch(key):
            raise BadInputError(f"A text cannot be named {key!r}.", "Use letters, digits, '_', '-' and '.'.")
        files[key + TEXT_SUFFIX] = text.encode()
    _replace(folder, files)
    return manifest


def load_artifact(folder: Path, *, kind: str, catalogue: str | None) -> Artifact:
    """Read a model folder and verify it.

    Args:
        folder: as given to :func:`save_artifact`.
        kind: the kind that the caller can use.
        catalogue: the hash of the features at hand; None where the model reads no features.

    Raises:
        ArtifactError: the folder is missing, damaged, of another kind, or made for another catalogue.
    """
    manifest = _manifest(folder)
    if manifest.kind != kind:
        raise ArtifactError(f"{folder} is a model of kind {manifest.kind!r}, not {kind!r}.", "Name the right folder.")
    if catalogue is not None and manifest.catalogue != catalogue:
        raise ArtifactError(
            f"{folder} was fitted on features {manifest.catalogue}, these are {catalogue}.",
            "Fit it again on features of this catalogue, or run the code version that made it: "
            f"{manifest.code_version}.",
        )
    tensors: dict[str, np.ndarray] = {}
    texts: dict[str, str] = {}
    for file in manifest.files:
        content = _read(folder, file)
        try:
            if file == TENSORS:
                # Copies: aligned and writable, so that a kernel sees the same array type as in the fit.
                tensors = {key: value.copy() for key, value in load_tensors(content).items()}
            else:
                texts[file.removesuffix(TEXT_SUFFIX)] = content.decode()
        except (SafetensorError, UnicodeDecodeError) as error:
            raise _damaged(folder, f"{file}: {error}") from error
    found = content_hash(manifest.kind, manifest.catalogue, manifest.settings, tensors, texts)
    if found != manifest.content_hash:
        raise _damaged(folder, f"content hash {found[:12]}, manifest says {manifest.version}")
    return Artifact(manifest, tensors, texts)


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise BadInputError(f"Tensor {name!r} has type {array.dtype}.", "Store numbers or booleans.")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    if folder.exists() and not (folder / MANIFEST).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ArtifactError(f"{folder} is there and is no model.", "Name a new folder; nothing was overwritten.")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in files.items():
        with (partial / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise ArtifactError(f"There is no model folder {folder}.", "Fit the model first, or name the right folder.")
    try:
        raw = msgspec.json.decode(_read(folder, MANIFEST), type=dict[str, Any])
        # JSON has no NaN: an undefined metric is null there.
        raw["metrics"] = {key: math.nan if value is None else value for key, value in raw["metrics"].items()}
        return msgspec.convert(raw, Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, AttributeError) as error:
        raise _damaged(folder, f"{MANIFEST}: {error}") from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise _damaged(folder, f"{name} cannot be read ({error.strerror})") from error


def _damaged(folder: Path, what: str) -> ArtifactError:
    return ArtifactError(f"The model in {folder} is damaged: {what}.", "Fit it again, or restore the folder.")
