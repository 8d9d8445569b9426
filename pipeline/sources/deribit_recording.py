"""Recorded Deribit websocket messages: books, trades, tickers, and the lists of instruments that explain them.

Three forms of a line, which may be mixed:

- our own capture, ``<receive time, ns> <raw JSON>``;
- ``<receive time, s>: <raw JSON>``;
- ``<URL> -> <receive time, s>: <raw JSON>``, the answer to a REST request.

Lines that record a connection (``<->``), what was sent (``<-``), or a recorder's own settings (``configuration: ``)
hold no market data and are counted as ``recorder_line``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Final

from features.errors import BadInputError
from features.events import NANO, EventBatch
from pipeline.sources.base import OnReject, Reject, UnusableError, ignore_reject
from pipeline.sources.deribit_decoder import DeribitDecoder
from pipeline.sources.recording_lines import read_lines, require_file
from pipeline.sources.runs import Run, batches_of

RESNAPSHOT_S: Final = 30.0

_RECORDER: Final = re.compile(rb"(?:\w+://\S+ <->? |configuration: )")
_SECONDS: Final = re.compile(rb"(?:\w+://\S+ -> )?(\d{1,10})(?:\.(\d{1,9}))?: ")


class DeribitRecording:
    """The recording of one or several connections.

    Args:
        paths: its files, in order of time; the first begins with the lists of instruments.
        only: symbols that are read, such as ``BTC-PERPETUAL``; None: all.
        resnapshot_s: how often each whole book is sent again, in seconds of the venue's time.
        on_reject: receives every input that could not be used.

    Raises:
        BadInputError: a file is missing or empty.
    """

    name = "deribit"

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        only: Container[str] | None = None,
        resnapshot_s: float = RESNAPSHOT_S,
        on_reject: OnReject = ignore_reject,
    ) -> None:
        if not paths:
            raise BadInputError("No file of the recording was named.", "Name at least one.")
        self.paths = [Path(path) for path in paths]
        for path in self.paths:
            require_file(path)
        self.rejected: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        """What was left out on purpose: ``recorder_line``, and what :class:`.DeribitDecoder` counts."""
        self._only = only
        self._resnapshot_ns = round(resnapshot_s * NANO)
        self._on_reject = on_reject
        self._decoder: DeribitDecoder | None = None

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
        decoder = self._decoder = DeribitDecoder(
            resnapshot_ns=self._resnapshot_ns, source=source, counts=self.skipped, only=self._only
        )
        for path in self.paths:
            yield from self._file(path, decoder)
        try:
            decoder.finish()
        except UnusableError as error:
            self._reject(error.reason, error.detail, b"", str(self.paths[-1]))

    def _file(self, path: Path, decoder: DeribitDecoder) -> Iterator[Run]:
        def damaged(reason: str, detail: str, lines: int, rest: bytes) -> None:
            self._reject(reason, detail, rest, f"{path}:{lines + 1}")

        for number, line in enumerate(read_lines(path, damaged), 1):
            if not line:
                continue
            if _RECORDER.match(line):
                self.skipped["recorder_line"] += 1
                continue
            try:
                runs = _take(decoder, line)
            except UnusableError as error:
                self._reject(error.reason, error.detail, line, f"{path}:{number}")
                continue
            yield from runs

    def _reject(self, reason: str, detail: str, payload: bytes, origin: str) -> None:
        self.rejected[reason] += 1
        self._on_reject(Reject(reason, detail, payload, origin))


def _take(decoder: DeribitDecoder, line: bytes) -> list[Run]:
    match = _SECONDS.match(line)
    if match is None:
        return decoder.feed(line)
    return decoder.message(int(match[1]) * NANO + int((match[2] or b"").ljust(9, b"0")), line[match.end() :])
