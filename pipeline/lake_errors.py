"""What can be wrong with a lake: what passes, and what does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError

from features.errors import HedgeflowError
from pipeline.lake_location import LakeLocation


class LakeError(HedgeflowError):
    """The lake is missing, damaged, or ahead of the log."""

    exit_code = 7


class LakeUnavailableError(LakeError):
    """The store does not answer, refuses, or is full: nothing was written, and the same append may succeed later."""


class LakeSchemaError(LakeError):
    """The rows do not fit the table's columns, now or later."""


class NoSuchVersionError(LakeError):
    """The table has no snapshot of that version or time."""


@contextmanager
def store_errors(where: LakeLocation) -> Iterator[None]:
    """What the store raises becomes a LakeUnavailableError."""
    try:
        yield
    except (DeltaError, OSError) as error:
        raise LakeUnavailableError(
            f"{where} cannot be opened: {one_line(error)}.", "Check that the store answers, its rights and space."
        ) from error


def one_line(error: Exception) -> str:
    """An error of the store, without its colours and its tree of causes."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", " ", str(error)).split()).rstrip(".")
