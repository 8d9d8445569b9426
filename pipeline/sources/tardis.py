"""Recorded markets as Tardis.dev sells them: CSV files, plain or gzip, of one or several instruments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from features.errors import BadInputError
from features.events import EventBatch
from pipeline.sources.base import OnReject, Reject, ignore_reject
from pipeline.sources.listing import FILE_SPAN_NS, with_listing
from pipeline.sources.runs import Run, batches_of, merge
from pipeline.sources.tardis_book import IncrementalBook
from pipeline.sources.tardis_decoder import TardisContext, TardisDecoder
from pipeline.sources.tardis_increments import TardisIncrements
from pipeline.sources.tardis_instruments import TardisInstrument, option_terms
from pipeline.sources.tardis_layout import DataType, Layout
from pipeline.sources.tardis_options import OptionsChain
from pipeline.sources.tardis_rows import TardisFile
from pipeline.sources.tardis_snapshot import BookSnapshots
from pipeline.sources.tardis_ticker import DerivativeTicker
from pipeline.sources.tardis_trades import Trades

_DECODERS: Final[Mapping[DataType, Callable[[TardisContext, int], TardisDecoder]]] = {
    DataType.INCREMENTAL_BOOK: IncrementalBook,
    DataType.BOOK_SNAPSHOT: BookSnapshots,
    DataType.QUOTES: BookSnapshots,
    DataType.TRADES: Trades,
    DataType.OPTIONS_CHAIN: OptionsChain,
    DataType.DERIVATIVE_TICKER: DerivativeTicker,
}


class TardisFiles:
    """Tardis CSV files as one log, merged by (ts_recv, kind, seq).

    What a file holds is told by its header, and its instruments by its rows. ``local_timestamp`` is ``ts_recv``. An
    instrument is introduced before its first row; each new second of event time brings a heartbeat. Files are read in
    blocks, each once; before that, all are scanned once if increments must be inferred
    (:class:`.tardis_increments.TardisIncrements`). Memory does not grow with their length.

    Bad input costs the rows that it is in, and is counted by reason; the decoders say how. The end of a truncated or
    damaged gzip file is one reject. A file with a header only has no events. An instrument's book comes from one data
    type: rows of another, in a file named later, are refused (``second_book``).

    Args:
        paths: the files, in any order.
        increments: price and size increment by instrument, such as ``{"bitmex:XBTUSD": ("0.5", "1")}``; a name may hold
            ``*``. Others are looked up, or inferred.
        on_reject: receives every input that could not be used.

    Raises:
        BadInputError: no file is named, one is missing or empty, or its header is of no known type.
        ConfigError: an increment is no positive decimal.
    """

    name = "tardis"

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        increments: Mapping[str, tuple[str, str]] | None = None,
        on_reject: OnReject = ignore_reject,
    ) -> None:
        if not paths:
            raise BadInputError("No Tardis file was named.", "Name at least one.")
        self._files = [(Path(path), Layout.of_file(Path(path))) for path in paths]
        self._increments = TardisIncrements(self._files, increments or {})
        self._on_reject = on_reject
        self.rejected: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        """Rows left out on purpose: ``no_funding_rate``, ``duplicate_trade``."""

    def batches(self) -> Iterator[EventBatch]:
        """All events, in the order in which they were received."""
        return batches_of(self.runs(), max_span_ns=FILE_SPAN_NS)

    def runs(self, source: int = 0) -> Iterator[Run]:
        """The same as runs of rows, to be merged with other sources.

        Args:
            source: position of the first file among merged sources; each further file takes the next.
        """
        self.rejected.clear()
        context = TardisContext(self._increments)
        context.skipped = self.skipped
        self.skipped.clear()
        files = [TardisFile(path, layout, self._reject) for path, layout in self._files]
        streams = [
            _decoded(file, _DECODERS[file.layout.data_type](context, source + number))
            for number, file in enumerate(files)
        ]

        def describe(name: str, ts_event: int) -> dict[str, Any]:
            return _describe(context, name, ts_event)

        return with_listing(merge(streams), describe, source)

    def _reject(self, reject: Reject) -> None:
        self.rejected[reject.reason] += 1
        self._on_reject(reject)


def _decoded(file: TardisFile, decoder: TardisDecoder) -> Iterator[Run]:
    for rows in file.rows():
        yield from decoder.runs(rows)
    yield from decoder.finish()


def _describe(context: TardisContext, name: str, ts_event: int) -> dict[str, Any]:
    exchange, _, symbol = name.partition(":")
    terms = context.option_terms.get(name)
    instrument = TardisInstrument.of(exchange, symbol, is_option=terms is not None)
    price, size = context.increments.of(instrument)
    return instrument.columns(ts_event, price, size, terms or option_terms(symbol.upper()))
