"""Raw capture: every message as it came, beside the log, in files that replay through the file sources."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from features.errors import HedgeflowError
from features.events import NANO

ROTATE_S: Final = 3_600.0
FLUSH_S: Final = 0.5


class CaptureError(HedgeflowError):
    """The capture cannot be written: the session ends rather than going on without it."""

    exit_code = 3


class Capture:
    """Writes ``<receive ns> <raw message>`` lines into ``PREFIX_YYYYMMDD_HHMMSS.gz`` files of a folder.

    A file is named for the receive time (UTC) of its first line, so names sort by time; one that is there is never
    written to again. Line ends inside a message become spaces, which changes no JSON. What was flushed survives a
    ``kill -9`` of this process: reading then ends with ``truncated_gzip`` behind the last whole line.

    Args:
        folder: is made if it is not there.
        prefix: what the messages are, in the words of the file source, such as ``usdm_btcusdt``.
        rotate_s: receive time after which a new file begins, at full multiples of it.

    Raises:
        CaptureError: the folder cannot be made.
    """

    def __init__(self, folder: Path, prefix: str, rotate_s: float = ROTATE_S) -> None:
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.paths: list[Path] = []
        self._folder = folder
        self._prefix = prefix
        self._rotate_ns = round(rotate_s * NANO)
        self._until = 0
        self._under: BinaryIO | None = None
        self._file: gzip.GzipFile | None = None
        self._flushed = True

    def write(self, ts_recv: int, message: bytes) -> None:
        """Add a line; it is on disk after the next :meth:`flush`.

        Raises:
            CaptureError: the disk is full, say.
        """
        with _explained(self._folder):
            if self._file is None or ts_recv >= self._until:
                self._file = self._rotate(ts_recv)
            self._file.write(b"%d %s\n" % (ts_recv, message.replace(b"\r", b" ").replace(b"\n", b" ")))
        self._flushed = False

    def flush(self) -> None:
        """Hand everything to the operating system.

        Raises:
            CaptureError: the disk is full, say.
        """
        if self._file is not None and self._under is not None and not self._flushed:
            with _explained(self._folder):
                self._file.flush()
                self._under.flush()
            self._flushed = True

    def close(self) -> None:
        """End the file.

        Raises:
            CaptureError: the disk is full, say.
        """
        file, under = self._file, self._under
        self._file = self._under = None
        if file is not None and under is not None:
            with _explained(self._folder), under, file:
                pass

    def _rotate(self, ts_recv: int) -> gzip.GzipFile:
        self.close()
        self._until = (ts_recv // self._rotate_ns + 1) * self._rotate_ns
        stamp = f"{datetime.fromtimestamp(ts_recv // NANO, UTC):%Y%m%d_%H%M%S}"
        number = 0
        while (path := self._folder / f"{self._prefix}_{stamp}{f'_{number}' if number else ''}.gz").exists():
            number += 1
        self._under = path.open("xb")
        self.paths.append(path)
        return gzip.GzipFile(filename="", mode="wb", compresslevel=5, fileobj=self._under, mtime=0)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CaptureError(
            f"{folder} cannot take the capture: {error.strerror}.", "Make room, or give another --capture."
        ) from error
