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
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Final

from features.events import NANO
from pipeline.sources.base import OnReject, ignore_reject
from pipeline.sources.deribit_decoder import DeribitDecoder
from pipeline.sources.line_recording import RESNAPSHOT_S, LineRecording
from pipeline.sources.runs import Run

_RECORDER: Final = re.compile(rb"(?:\w+://\S+ <->? |configuration: )")
_SECONDS: Final = re.compile(rb"(?:\w+://\S+ -> )?(\d{1,10})(?:\.(\d{1,9}))?: ")


class DeribitRecording(LineRecording[DeribitDecoder]):
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

    skipped: Counter[str]
    """What was left out on purpose: ``recorder_line``, and what :class:`.DeribitDecoder` counts."""

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        only: Container[str] | None = None,
        resnapshot_s: float = RESNAPSHOT_S,
        on_reject: OnReject = ignore_reject,
    ) -> None:
        super().__init__(paths, resnapshot_s=resnapshot_s, on_reject=on_reject)
        self._only = only

    def _new_decoder(self, source: int) -> DeribitDecoder:
        return DeribitDecoder(resnapshot_ns=self._resnapshot_ns, source=source, counts=self.skipped, only=self._only)

    def _take(self, decoder: DeribitDecoder, line: bytes) -> list[Run]:
        if _RECORDER.match(line):
            self.skipped["recorder_line"] += 1
            return []
        match = _SECONDS.match(line)
        if match is None:
            return decoder.feed(line)
        received_ns = int(match[1]) * NANO + int((match[2] or b"").ljust(9, b"0"))
        return decoder.message(received_ns, line[match.end() :])
