"""Recordings as text lines, plain or gzip; damage costs only what lies behind it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from features.errors import BadInputError

_GZIP_MAGIC: Final = b"\x1f\x8b"


def require_file(path: Path) -> None:
    """Check that there is something to read.

    Raises:
        BadInputError: the file is missing, a folder, unreadable or empty.
    """
    if not path.exists():
        where = path if path.parent.is_dir() else path.parent
        raise BadInputError(f"{where} does not exist.", "Check the path of the recording.")
    if path.is_dir():
        raise BadInputError(f"{path} is a folder, not a recording.", "Name the recording's files.")
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    if not first:
        raise BadInputError(f"{path} is empty.", "Record it again, or leave it out.")


def read_lines(path: Path, on_damage: Callable[[str, str, int], None]) -> Iterator[bytes]:
    """Lines of ``path`` in order, without their ends.

    Args:
        path: a plain or gzip file; which of the two is told by its first bytes.
        on_damage: called with reason, detail and the number of good lines when the rest cannot be read.

    Raises:
        BadInputError: the file is missing or holds no line.
    """
    require_file(path)
    count = 0
    with _open(path) as file:
        try:
            for line in file:
                count += 1
                yield line.rstrip(b"\r\n")
        except EOFError:
            on_damage("truncated_gzip", f"{path.name} ends in the middle of its data", count)
            return
        except (gzip.BadGzipFile, zlib.error) as error:
            on_damage("corrupt_gzip", f"{path.name} is damaged: {error}", count)
            return
    if count == 0:
        raise BadInputError(f"{path} holds no line.", "Record it again, or leave it out.")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value] # GzipFile reads alike
