"""What a model is and where it came from: the ``manifest.json`` of its folder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import msgspec
import numpy as np

from features.errors import BadInputError

WHEELS: Final = (
    "hmmlearn",
    "lightgbm",
    "llvmlite",
    "numba",
    "numpy",
    "polars",
    "safetensors",
    "scikit-learn",
    "scipy",
    "torch",
)
"""Distributions whose version can change a model's bits."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model is and where it came from.

    Attributes:
        kind: what loads it: ``regimes``, ``forecast``, ``policy``.
        name: the folder's name when it was saved.
        code_version: version of hedgeflow that fitted it.
        catalogue: :func:`features.catalog.catalogue_hash` of the features that it reads.
        data: the training data: table versions, window, rows.
        wheels: installed version of each distribution that can change its bits.
        cpu: the processor that compiled code was made for; bits are promised on this one.
        seed: of everything random in the fit.
        settings: what it needs beside its tensors and texts, JSON values.
        metrics: measured at the fit; NaN where undefined.
        files: the names of its other files.
        content_hash: SHA-256 of kind, catalogue, settings, tensors and texts; not of time, machine or metrics.
    """

    kind: str
    name: str
    code_version: str
    catalogue: str
    data: Mapping[str, Any]
    wheels: Mapping[str, str]
    cpu: str
    seed: int
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    files: tuple[str, ...]
    content_hash: str

    @property
    def version(self) -> str:
        """The first 12 hex digits of the content hash: the name of this model in every row that it makes."""
        return self.content_hash[:12]


def installed_wheels() -> dict[str, str]:
    """Distribution -> version of those that can change a model's bits."""
    return {wheel: found for wheel in WHEELS if (found := version_of(wheel))}


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor that numba compiles for."""
    from llvmlite import binding  # type: ignore[import-untyped,unused-ignore]  # heavy, and needed only to save

    name: str = binding.get_host_cpu_name()
    return name


def content_hash(
    kind: str,
    catalogue: str,
    settings: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    texts: Mapping[str, str],
) -> str:
    """SHA-256 (hex) of what decides a model's output; ``settings`` as :func:`plain` gives them."""
    digest = hashlib.sha256(encode([kind, catalogue, settings]))
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(encode(["tensor", name, array.dtype.str, list(array.shape)]))
        digest.update(array.tobytes())
    for name in sorted(texts):
        text = texts[name].encode()
        digest.update(encode(["text", name, len(text)]))
        digest.update(text)
    return digest.hexdigest()


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read back: tuples become lists, numpy scalars become numbers, so that the hash is the same."""
    _refuse_nan(value)
    decoded: dict[str, Any] = msgspec.json.decode(encode(value))
    return decoded


def _refuse_nan(value: Any) -> None:
    if isinstance(value, Mapping):
        for item in value.values():
            _refuse_nan(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_nan(item)
    elif isinstance(value, float | np.floating) and not math.isfinite(value):
        raise BadInputError(f"A setting is {value}.", "JSON has no such number: store it as a tensor.")


def encode(value: Any) -> bytes:
    """JSON with sorted keys; NaN becomes null.

    Raises:
        BadInputError: a value is none of JSON.
    """
    try:
        return msgspec.json.encode(value, order="sorted", enc_hook=_number)
    except TypeError as error:
        raise BadInputError(f"A setting cannot be stored: {error}.", "Use JSON values; arrays are tensors.") from error


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")
