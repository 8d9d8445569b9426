"""Where a lake is: a folder, or a URL of an object store with what opens it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from features.errors import ConfigError

SCHEMES: Final = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
"""Of the object stores that Delta Lake opens."""


@dataclass(frozen=True, slots=True)
class LakeLocation:
    """A folder or a URL (``s3://bucket/prefix``), and the options of its store.

    ``str`` gives the folder or URL alone: the options may be secrets, and appear nowhere. A folder's location is
    also a path (``os.fspath``), a URL's is not.
    """

    url: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, place: Place, storage_options: Mapping[str, str] | None = None) -> LakeLocation:
        """The location that ``place`` names; one that is a location already keeps its options.

        Raises:
            ConfigError: a URL of an unknown kind, or with a password in it.
        """
        if isinstance(place, LakeLocation):
            return place
        text = str(place)
        if isinstance(place, Path) or "://" not in text:
            return cls(text)
        scheme, rest = text.split("://", 1)
        if scheme == "file":
            return cls(rest)
        if scheme not in SCHEMES:
            raise ConfigError(f"A lake cannot be at {scheme}://.", f"Name a folder, or a URL of {', '.join(SCHEMES)}.")
        if urlsplit(text).password is not None:
            raise ConfigError(
                "The lake's URL holds a password.", "Put it into HEDGEFLOW_LAKE_STORAGE_OPTIONS, which is never shown."
            )
        return cls(text.rstrip("/"), dict(storage_options or {}))

    @property
    def remote(self) -> bool:
        """Whether it is in an object store."""
        return "://" in self.url

    @property
    def options(self) -> dict[str, str] | None:
        """``storage_options`` as deltalake and polars take them."""
        return dict(self.storage_options) or None

    def __truediv__(self, name: str) -> LakeLocation:
        """What lies below, with the same options."""
        return LakeLocation(f"{self.url}/{name}", self.storage_options)

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        """The folder.

        Raises:
            ConfigError: it is a URL.
        """
        if self.remote:
            raise ConfigError(f"{self.url} is no folder.", "This needs a lake on a local disk.")
        return self.url


def local_path(uri: str) -> str:
    """The path that Delta Lake names; it writes as URLs do, with ``%20`` for a blank."""
    return unquote(uri.removeprefix("file://"))


Place = LakeLocation | Path | str
"""What is accepted where a lake is named."""
