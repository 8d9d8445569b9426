"""Recordings whose lines one decoder reads in the order of receipt: what all venues' have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from features.errors import BadInputError
from features.events import NANO, EventBatch
from pipeline.sources.base import OnReject, Reject, UnusableError
from pipeline.sources.clock_offset import ClockOffset
from pipeline.sources.recording_lines import read_lines, require_file
from pipeline.sources.runs import Run, batches_of

RESNAPSHOT_S: Final = 30.0


class LineDecoder(Protocol):
    """Keeps what it needs of the lines before."""

    clock: ClockOffset

    def feed(self, line: bytes) -> list[Run]:
        """The rows of the next line.

        Raises:
            UnusableError: the line cannot be used; nothing of it has been.
        """
        ...

    def finish(self) -> None:
        """The recording is over.

        Raises:
            UnusableError: something was left that can no longer be used.
        """
        ...


D = TypeVar("D", bound=LineDecoder)


class LineRecording(ABC, Generic[D]):
    """Files of lines. A line that cannot be used is refused, and the rest still flows.

    Args:
        paths: its files, in order of time.
        resnapshot_s: how often each whole book is sent again, in seconds of the venue's time.
        on_reject: receives every input that could not be used.

    Raises:
        BadInputError: no file is named, or one is missing or empty.
    """

    def __init__(self, paths: Sequence[Path | str], *, resnapshot_s: float, on_reject: OnReject) -> None:
        if not paths:
            raise BadInputError("No file of the recording was named.", "Name at least one.")
        self.paths = [Path(path) for path in paths]
        for path in self.paths:
            require_file(path)
        self.rejected: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._resnapshot_ns = round(resnapshot_s * NANO)
        self._on_reject = on_reject
        self._decoder: D | None = None

    @property
    def clock_offset_ns(self) -> int | None:
        """Our clock less the venue's, as estimated so far (:class:`.clock_offset.ClockOffset`)."""
        return None if self._decoder is None else self._decoder.clock.offset_ns

    def batches(self) -> Iterator[EventBatch]:
        """All events, in the order in which they were received."""
        return batches_of(self.runs())

    def runs(self, source: int = 0) -> Iterator[Run]:
        """The same as runs of rows, to be merged with other sources.

        Args:
            source: position among them.
        """
        self.rejected.clear()
        self.skipped.clear()
        decoder = self._decoder = self._new_decoder(source)
        for path in self.paths:
            yield from self._file(path, decoder)
        try:
            decoder.finish()
        except UnusableError as error:
            self._reject(error.reason, error.detail, b"", str(self.paths[-1]))

    @abstractmethod
    def _new_decoder(self, source: int) -> D: ...

    def _take(self, decoder: D, line: bytes) -> list[Run]:
        return decoder.feed(line)

    def _file(self, path: Path, decoder: D) -> Iterator[Run]:
        def damaged(reason: str, detail: str, lines: int, rest: bytes) -> None:
            self._reject(reason, detail, rest, f"{path}:{lines + 1}")

        for number, line in enumerate(read_lines(path, damaged), 1):
            if not line:
                continue
            try:
                runs = self._take(decoder, line)
            except UnusableError as error:
                self._reject(error.reason, error.detail, line, f"{path}:{number}")
                continue
            if runs:
                yield from runs

    def _reject(self, reason: str, detail: str, payload: bytes, origin: str) -> None:
        self.rejected[reason] += 1
        self._on_reject(Reject(reason, detail, payload, origin))
