"""Recordings as text lines, plain or gzip; damage costs only what lies behind it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from features.errors import BadInputError

OnDamage = Callable[[str, str, int, bytes], None]

MAX_LINE: Final = 1 << 25

_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_BITS: Final = 31
_CHUNK: Final = 1 << 14


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


def read_lines(path: Path, on_damage: OnDamage) -> Iterator[bytes]:
    """Lines of ``path`` in order, without their ends.

    Args:
        path: a plain or gzip file; which of the two is told by its first bytes.
        on_damage: called when the rest cannot be read, with reason, detail, how many lines were good, and what there
            is of the line after them.

    Raises:
        BadInputError: the file is missing or holds no line.
    """
    require_file(path)
    count, tail = 0, b""
    with path.open("rb") as file:
        blocks = text_blocks(file)
        try:
            for block in blocks:
                lines = (tail + block).split(b"\n")
                tail = lines.pop()
                count += len(lines)
                yield from lines
                if len(tail) > MAX_LINE:
                    on_damage(
                        "line_too_long", f"{path.name} has more than {MAX_LINE} bytes in a line", count, tail[:80]
                    )
                    return
        except EOFError:
            on_damage("truncated_gzip", f"{path.name} ends in the middle of its data", count, tail)
            return
        except zlib.error as error:
            on_damage("corrupt_gzip", f"{path.name} is damaged: {error}", count, tail)
            return
    if tail:
        yield tail
    elif count == 0:
        raise BadInputError(f"{path} holds no line.", "Record it again, or leave it out.")


def text_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Blocks of a plain or gzip file as they come, decompressed.

    Raises:
        EOFError: the gzip data end in the middle; all that precedes has been yielded.
        zlib.error: the gzip data are damaged.
    """
    zipped = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    if zipped:
        yield from _inflated(file)
    else:
        while block := file.read(_CHUNK):
            yield block


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Decompressed blocks of a gzip file of one or more members; all that precedes damage comes out first."""
    member = zlib.decompressobj(_GZIP_BITS)
    while chunk := file.read(_CHUNK):
        while chunk:
            if member.eof:
                chunk = chunk.lstrip(b"\0")  # padding between or after members is allowed
                if not chunk:
                    break
                member = zlib.decompressobj(_GZIP_BITS)
            yield member.decompress(chunk)
            chunk = member.unused_data
    if not member.eof:
        raise EOFError
