"""Recorded files as one log: books and trades of several instruments, and option chains re-timed onto them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from features.errors import BadInputError, ConfigError
from features.events import NANO, EventBatch
from pipeline.sources.base import OnReject, ignore_reject
from pipeline.sources.binance import BinanceRecording, recordings_of
from pipeline.sources.binance_decoder import OnBookTicker
from pipeline.sources.deribit import DeribitChains
from pipeline.sources.line_recording import RESNAPSHOT_S
from pipeline.sources.retimed_chains import RetimedChains
from pipeline.sources.runs import Run, batches_of, merge

CHAIN_INTERVAL_S: Final = 30.0


class RecordedFiles:
    """Binance recordings, one or several instruments, merged by (ts_recv, kind, seq).

    Args:
        paths: files; those of one instrument in order of time.
        resnapshot_s: how often each whole book is sent again, in seconds of the venue's time.
        on_reject: receives every input that could not be used.
        on_book_ticker: receives the venue's best quotes.

    Raises:
        BadInputError: a file is missing or empty, or its name does not tell what it holds.
    """

    name = "recorded"

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        resnapshot_s: float = RESNAPSHOT_S,
        on_reject: OnReject = ignore_reject,
        on_book_ticker: OnBookTicker | None = None,
    ) -> None:
        self.recordings = recordings_of(
            paths, resnapshot_s=resnapshot_s, on_reject=on_reject, on_book_ticker=on_book_ticker
        )

    @property
    def underlyings(self) -> tuple[str, ...]:
        """Of the recordings, in order of first appearance."""
        return tuple(dict.fromkeys(recording.instrument.underlying for recording in self.recordings))

    @property
    def reference_instruments(self) -> Mapping[str, str]:
        """The instrument that stands for an underlying: its perpetual where there is one, else the first."""
        ranked = sorted(self.recordings, key=lambda recording: recording.instrument.market != "usdm")
        return {recording.instrument.underlying: recording.name for recording in reversed(ranked)}

    def batches(self) -> Iterator[EventBatch]:
        """All events, in the order in which they were received."""
        return batches_of(self.runs())

    def runs(self) -> Iterator[Run]:
        """The same as runs of rows."""
        return merge([recording.runs(source) for source, recording in enumerate(self.recordings)])


class RecordedSession:
    """The recorded session of a data folder: perpetuals and spot of Binance, with Deribit's option chains.

    The two were not recorded at the same time. Consecutive chains are placed ``chain_interval_s`` apart onto the
    session, each re-timed and rescaled to the session's last trade price (:meth:`.deribit.Chain.retimed`); ``notice``
    says so, and whoever shows results prints it. The session ends after ``minutes``, or with the last of the
    perpetuals, which stand for the underlyings.

    Args:
        data_dir: holds ``binance/`` and ``deribit_options/``.
        minutes: how much of the session to play, in receive time.
        chain_interval_s: time between two chains of an underlying.
        resnapshot_s: how often each whole book is sent again, in seconds of the venue's time.
        on_reject: receives every input that could not be used.

    Raises:
        BadInputError: a folder or file is missing or empty.
        ConfigError: ``minutes`` or ``chain_interval_s`` is not positive.
    """

    name = "recorded-session"

    def __init__(
        self,
        data_dir: Path | str,
        minutes: float = 5.0,
        *,
        chain_interval_s: float = CHAIN_INTERVAL_S,
        resnapshot_s: float = RESNAPSHOT_S,
        on_reject: OnReject = ignore_reject,
    ) -> None:
        if minutes <= 0 or chain_interval_s <= 0:
            raise ConfigError(
                f"A session of {minutes} minutes with a chain every {chain_interval_s} s is none.",
                "Give positive numbers.",
            )
        data = Path(data_dir)
        books = _files(data, "binance", "*.gz")
        self._chain_paths = _files(data, "deribit_options", "*_options_*.parquet")
        self._files = RecordedFiles(books, resnapshot_s=resnapshot_s, on_reject=on_reject)
        self._chains = {
            underlying: DeribitChains(self._chain_paths, underlyings=[underlying], on_reject=on_reject)
            for underlying in self.underlyings
        }
        self._duration_ns = round(minutes * 60 * NANO)
        self._interval_ns = round(chain_interval_s * NANO)

    @property
    def recordings(self) -> Sequence[BinanceRecording]:
        """What is merged: their counts and clock offsets."""
        return self._files.recordings

    @property
    def underlyings(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted(self._files.underlyings))

    @property
    def reference_instruments(self) -> Mapping[str, str]:
        """The instrument that stands for an underlying."""
        found = self._files.reference_instruments
        return {underlying: found[underlying] for underlying in self.underlyings}

    @property
    def notice(self) -> str:
        """What must be said beside every result: the parts of this data are of different times."""
        session = min(recording.first_receive_ns() for recording in self.recordings)
        chain = next(DeribitChains(self._chain_paths, underlyings=self.underlyings).chains(), None)
        if chain is None:
            raise BadInputError(f"{self._chain_paths[0].parent} holds no usable option chain.", "Record it again.")
        return (
            f"Re-timed data: books and trades are Binance's of {_utc(session)}; the option chains are Deribit's from "
            f"{_utc(chain.taken_ns)} on, one every {self._interval_ns / NANO:g} s, under the names of that time. Times "
            "and expiries are shifted (times to expiry stay true), strikes and forwards rescaled to the session's "
            "prices; coin prices are as quoted."
        )

    def batches(self) -> Iterator[EventBatch]:
        """All events, in the order in which they were received."""
        return batches_of(self.runs())

    def runs(self) -> Iterator[Run]:
        """The same as runs of rows."""
        reference = self.reference_instruments
        playing = set(reference.values())

        def until_end(recording: BinanceRecording, source: int) -> Iterator[Run]:
            yield from recording.runs(source)
            playing.discard(recording.name)

        streams = [until_end(recording, source) for source, recording in enumerate(self.recordings)]
        chains = {underlying: source.chains() for underlying, source in self._chains.items()}
        retimed = RetimedChains(chains, reference, self._interval_ns, len(streams))
        end: int | None = None
        for run in merge(streams):
            if end is None:
                end = run.ts_recv + self._duration_ns
            if run.ts_recv > end or not playing:
                return
            yield from retimed.before(run)
            yield run


def _files(data: Path, folder: str, pattern: str) -> list[Path]:
    remedy = "Name the folder that holds binance/ and deribit_options/."
    if not (data / folder).is_dir():
        raise BadInputError(f"{data / folder} does not exist.", remedy)
    found = sorted((data / folder).glob(pattern))
    if not found:
        raise BadInputError(f"{data / folder} holds no {pattern}.", remedy)
    return found


def _utc(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // NANO, UTC):%Y-%m-%d %H:%M} UTC"
