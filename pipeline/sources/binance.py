"""Recorded Binance streams: L2 diffs with their REST snapshot, trades and best quotes.

A file holds one event a line, ``<our receive time, ns> <raw JSON>``. Its times of receipt go into the log as they are:
availability is by our clock. How far that clock is from the venue's is estimated beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from features.errors import BadInputError
from pipeline.sources.base import OnReject, ignore_reject
from pipeline.sources.binance_decoder import BinanceDecoder, OnBookTicker
from pipeline.sources.binance_instruments import BinanceInstrument
from pipeline.sources.line_recording import RESNAPSHOT_S, LineRecording
from pipeline.sources.recording_lines import read_lines, require_file


class BinanceRecording(LineRecording[BinanceDecoder]):
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

    skipped: Counter[str]
    """Messages left out on purpose: ``non_market_trade``, ``stale_diff``, ``snapshot_behind``, and ``gap`` (how
    often the venue's ids broke)."""

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        instrument: BinanceInstrument | None = None,
        resnapshot_s: float = RESNAPSHOT_S,
        on_reject: OnReject = ignore_reject,
        on_book_ticker: OnBookTicker | None = None,
    ) -> None:
        super().__init__(paths, resnapshot_s=resnapshot_s, on_reject=on_reject)
        self.instrument = instrument or BinanceInstrument.of_file(self.paths[0])
        self.name = self.instrument.name
        self._on_book_ticker = on_book_ticker

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

    def _new_decoder(self, source: int) -> BinanceDecoder:
        return BinanceDecoder(
            self.instrument,
            resnapshot_ns=self._resnapshot_ns,
            source=source,
            counts=self.skipped,
            on_book_ticker=self._on_book_ticker,
        )


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
