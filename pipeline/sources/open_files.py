"""Files of any kind that we can read, as one source; what a file is, its content tells, or its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from features.errors import BadInputError
from features.events import EventBatch
from pipeline.lake import LakeError
from pipeline.sources.base import OnReject, Source, ignore_reject
from pipeline.sources.binance import recordings_of
from pipeline.sources.deribit import DeribitChains
from pipeline.sources.deribit_recording import DeribitRecording
from pipeline.sources.lake_source import LakeSource
from pipeline.sources.listing import FILE_SPAN_NS
from pipeline.sources.lobster import LobsterFiles
from pipeline.sources.lobster_names import is_lobster
from pipeline.sources.recorded import RecordedFiles
from pipeline.sources.recording_lines import read_lines, require_file
from pipeline.sources.runs import Run, batches_of, merge
from pipeline.sources.tardis import TardisFiles
from pipeline.sources.tardis_layout import Layout

SUPPORTED: Final = (
    "Binance recordings (usdm_btcusdt_DATE.gz, spot_...), Deribit websocket recordings, Deribit option chains "
    "(Parquet), Tardis CSV, LOBSTER message and orderbook files, a lake's folder; see docs/sources.md"
)

_SOURCES_EACH: Final = 10_000
_FIRST_LINES: Final = 50
_OURS: Final = re.compile(rb"\d{16,19} ")
_DERIBIT_SECONDS: Final = re.compile(rb"(?:\w+://\S+ <?->? |configuration: |\d{9,10}(?:\.\d+)?: )")
_PARQUET: Final = b"PAR1"


class Form(StrEnum):
    """What a file can be."""

    BINANCE = "Binance recording"
    DERIBIT = "Deribit recording"
    CHAINS = "Deribit option chains"
    TARDIS = "Tardis CSV"
    LOBSTER = "LOBSTER"


class Recording(Protocol):
    """A source that can be merged with others."""

    def runs(self, source: int = 0) -> Iterator[Run]:
        """All rows, in order of receive time."""
        ...


def form_of(path: Path) -> Form:
    """What a file holds.

    Raises:
        BadInputError: it is missing or empty, or nothing that we can read.
    """
    require_file(path)
    if is_lobster(path):
        return Form.LOBSTER
    with path.open("rb") as file:
        if file.read(len(_PARQUET)) == _PARQUET:
            return Form.CHAINS
    for number, line in enumerate(read_lines(path, lambda *_damage: None)):
        if number == 0 and Layout.of_header(line) is not None:
            return Form.TARDIS
        if _DERIBIT_SECONDS.match(line) or (_OURS.match(line) and b'"jsonrpc"' in line):
            return Form.DERIBIT
        if _OURS.match(line):
            return Form.BINANCE
        if number == _FIRST_LINES:
            break
    raise BadInputError(f"{path} is nothing that can be read as market data.", f"Supported are {SUPPORTED}.")


def open_source(
    paths: Sequence[Path | str],
    *,
    increments: Mapping[str, tuple[str, str]] | None = None,
    on_reject: OnReject = ignore_reject,
) -> Source:
    """One source of all ``paths``, merged by (ts_recv, kind, seq).

    Args:
        paths: files of any supported kinds, or the folder of one lake.
        increments: for Tardis files, as :class:`.tardis.TardisFiles` takes them.
        on_reject: receives every input that could not be used.

    Raises:
        BadInputError: nothing is named, a file is missing, empty or of no supported kind, or a folder is no lake or
            stands beside other paths.
    """
    named = [Path(path) for path in paths]
    if not named:
        raise BadInputError("No file was named.", f"Supported are {SUPPORTED}.")
    folders = [path for path in named if path.is_dir()]
    if folders:
        return _lake(folders[0], alone=len(named) == 1)
    groups: dict[Form, list[Path]] = {}
    for path in named:
        groups.setdefault(form_of(path), []).append(path)
    if len(groups) == 1 and Form.BINANCE in groups:
        return RecordedFiles(named, on_reject=on_reject)
    recordings: list[Any] = []
    for form, files in groups.items():
        recordings += _recordings(form, files, increments, on_reject)
    return recordings[0] if len(recordings) == 1 else MergedSource(recordings)


class MergedSource:
    """Recordings of several kinds as one log; what comes from one of them keeps its order."""

    name = "merged"

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = recordings

    def batches(self) -> Iterator[EventBatch]:
        """All events, in the order in which they were received."""
        return batches_of(self.runs(), max_span_ns=FILE_SPAN_NS)

    def runs(self, source: int = 0) -> Iterator[Run]:
        """The same as runs of rows."""
        firsts = range(source, source + _SOURCES_EACH * len(self.recordings), _SOURCES_EACH)
        streams = (recording.runs(first) for recording, first in zip(self.recordings, firsts, strict=True))
        return merge(map(_uniform, stream) for stream in streams)


def _recordings(
    form: Form, files: list[Path], increments: Mapping[str, tuple[str, str]] | None, on_reject: OnReject
) -> list[Any]:
    if form is Form.BINANCE:
        return list(recordings_of(files, on_reject=on_reject))
    if form is Form.DERIBIT:
        return [DeribitRecording(files, on_reject=on_reject)]
    if form is Form.CHAINS:
        return [DeribitChains(files, on_reject=on_reject)]
    if form is Form.LOBSTER:
        return [LobsterFiles(files, on_reject=on_reject)]
    return [TardisFiles(files, increments=increments, on_reject=on_reject)]


def _lake(folder: Path, *, alone: bool) -> Source:
    if not alone:
        raise BadInputError(f"{folder} is a folder.", "Name files, or the folder of one lake and nothing else.")
    try:
        return LakeSource(folder)
    except LakeError as error:
        raise BadInputError(f"{folder} is a folder, and no lake.", f"Supported are {SUPPORTED}.") from error


def _uniform(run: Run) -> Run:
    """The same run with every column as a list: sources differ in what they use, and a batch cannot mix them."""
    columns = {name: _list(values, run.rows) for name, values in run.columns.items() if name != "instrument"}
    return run._replace(columns={"instrument": run.columns["instrument"]} | columns)


def _list(values: Any, rows: int) -> list[Any]:
    if isinstance(values, np.ndarray):
        listed: list[Any] = values.tolist()
        return listed
    return values if isinstance(values, list) else [values] * rows
