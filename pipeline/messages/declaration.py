"""What a user's file declares about a topic of JSON messages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import polars as pl
import pyarrow as pa

from features.errors import ConfigError
from features.stage import Stage
from pipeline.python_file import run_file

NAME: Final = "STAGE"
OFFSET: Final = "source_offset"
"""The message's offset, which the frame has besides the declared fields: with the partition, it names a row."""


class Declaration(Protocol):
    """A stage over rows that are JSON messages."""

    @property
    def fields(self) -> Mapping[str, type]:
        """What is read of a message."""
        ...

    @property
    def accepts(self) -> pl.Expr | None:
        """True for rows that the stage takes; the messages of others become dead letters, ``refused_row``."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Of the rows that come out."""
        ...

    def stage(self) -> Stage[pl.DataFrame]:
        """A fresh one."""
        ...


def read_declaration(path: Path) -> tuple[Declaration, str]:
    """What ``path`` declares, and a hash of it: state of another content is refused.

    Raises:
        ConfigError: the file is missing, cannot be run, or declares no ``STAGE``.
    """
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError(f"There is no Python file {path}.", "See docs/messages.md for what it declares.")
    try:
        module = run_file(path, f"hedgeflow_messages_{path.stem}")
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be run: {type(error).__name__}: {error}.", "Correct it.") from error
    declared: Any = getattr(module, NAME, None)
    if not hasattr(declared, "stage"):
        raise ConfigError(f"{path} declares no {NAME}.", f"{NAME} = MessageFeatures(...) or MessageBars(...).")
    found: Declaration = declared
    return found, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
