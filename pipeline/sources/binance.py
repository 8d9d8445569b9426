"""Recorded Binance streams: L2 diffs with their REST snapshot, trades and best quotes.

A file holds one event a line, ``<our receive time, ns> <raw JSON>``. Its times of receipt go into the log as they are:
availability is by our clock. How far that clock is from the venue's is estimated beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from features.errors import BadInputError
from features.events import NANO, EventBatch
from pipeline.sources.base import OnReject, Reject, UnusableError, ignore_reject
from pipeline.sources.binance_decoder import BinanceDecoder, OnBookTicker, feed_all
from pipeline.sources.binance_instruments import BinanceInstrument
from pipeline.sources.recording_lines import read_lines, require_file
from pipeline.sources.runs import Run, batches_of

RESNAPSHOT_S: Final = 30.0


class BinanceRecording:
    """The recording of one instrument.

    Args:
        paths: its files, in order of time.
        instrument: what they hold; None: the first file's name tells (``usdm_btcusdt_20240808.gz``).
        resnapshot_s: how often the whole book is sent again, in seconds of the venue's time.
        on_reject: receives every input that could not be used.
        on_book_ticker: receives the venue's best quotes.

    Raises:
        BadInputError: a file is missing or empty, or its name does not tell what it holds.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        instrument: BinanceInstrument | None = None,
        resnapshot_s: float = RESNAPSHOT_S,
        on_reject: OnReject = ignore_reject,
        on_book_ticker: OnBookTicker | None = None,
    ) -> None:
        if not paths:
            raise BadInputError("No file of the recording was named.", "Name at least one.")
        self.paths = [Path(path) for path in paths]
        for path in self.paths:
            require_file(path)
        self.instrument = instrument or BinanceInstrument.of_file(self.paths[0])
        self.name = self.instrument.name
        self.rejected: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        """Messages left out on purpose: ``non_market_trade``, ``stale_diff``, ``snapshot_behind``, and ``gap`` (how
        often the venue's ids broke)."""
        self._resnapshot_ns = round(resnapshot_s * NANO)
        self._on_reject = on_reject
        self._on_book_ticker = on_book_ticker
        self._decoder: BinanceDecoder | None = None

    @property
    def clock_offset_ns(self) -> int | None:
        """Our clock less the venue's, as estimated so far (:class:`.clock_offset.ClockOffset`)."""
        return None if self._decoder is None else self._decoder.clock.offset_ns

    def first_receive_ns(self) -> int:
        """When the first line was received.

        Raises:
            BadInputError: no line of the first file says when.
        """
        for line in read_lines(self.paths[0], lambda *_damage: None):
            received = line.partition(b" ")[0]
            if received.isdigit():
                return int(received)
        raise BadInputError(f"{self.paths[0]} is no recording.", "Expected lines of <receive time, ns> <JSON>.")

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
        decoder = self._decoder = BinanceDecoder(
            self.instrument,
            resnapshot_ns=self._resnapshot_ns,
            source=source,
            counts=self.skipped,
            on_book_ticker=self._on_book_ticker,
        )
        for path in self.paths:

            def refuse(number: int, line: bytes, error: UnusableError, path: Path = path) -> None:
                self._reject(error.reason, error.detail, line, f"{path}:{number}")

            def damaged(reason: str, detail: str, lines: int, rest: bytes, path: Path = path) -> None:
                self._reject(reason, detail, rest, f"{path}:{lines + 1}")

            yield from feed_all(decoder, read_lines(path, damaged), refuse)
        try:
            decoder.finish()
        except UnusableError as error:
            self._reject(error.reason, error.detail, b"", str(self.paths[-1]))

    def _reject(self, reason: str, detail: str, payload: bytes, origin: str) -> None:
        self.rejected[reason] += 1
        self._on_reject(Reject(reason, detail, payload, origin))


def recordings_of(
    paths: Sequence[Path | str],
    *,
    resnapshot_s: float = RESNAPSHOT_S,
    on_reject: OnReject = ignore_reject,
    on_book_ticker: OnBookTicker | None = None,
) -> list[BinanceRecording]:
    """One recording for each instrument that the files' names tell, in order of first appearance.

    Raises:
        BadInputError: as :class:`BinanceRecording`.
    """
    groups: dict[BinanceInstrument, list[Path | str]] = {}
    for path in paths:
        require_file(Path(path))
        groups.setdefault(BinanceInstrument.of_file(Path(path)), []).append(path)
    if not groups:
        raise BadInputError("No file of a recording was named.", "Name at least one.")
    return [
        BinanceRecording(
            group,
            instrument=instrument,
            resnapshot_s=resnapshot_s,
            on_reject=on_reject,
            on_book_ticker=on_book_ticker,
        )
        for instrument, group in groups.items()
    ]
