"""A log of any length: recorded or simulated books and trades, repeated in time and under other names.

Repetitions continue each other: times and sequence numbers go on, and each begins with the snapshots that its source
begins with, so books stay valid and no bar is missing. Equal arguments give equal rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.events import NANO, EventBatch, Kind
from pipeline.edge import Edge
from pipeline.log import MemoryLog
from pipeline.sources.recorded import RecordedFiles
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig

RECORDINGS: Final = Path(__file__).parent.parent.parent / "shared" / "data" / "binance"
PERPETUALS: Final = "usdm_*.gz"

KINDS: Final = (Kind.INSTRUMENT, Kind.BOOK, Kind.TRADE, Kind.HEARTBEAT)

_EVENT, _RECV, _SEQ = 1, 2, 3


def base_log(folder: Path | None = None, seconds: int | None = None, one_underlying: str | None = None) -> Base:
    """One repetition: the perpetuals of two coins, as the edge appends them.

    Args:
        folder: of the Binance recordings; None for the simulated exchange.
        seconds: how much; None for all of the recordings, or two minutes of the simulation.
        one_underlying: a name under which both instruments come, instead of each under its own underlying's.
    """
    found: list[EventBatch] = []
    edge = Edge(MemoryLog(found.append), "benchmark")
    for batch in _source(folder, seconds):
        if batch.kind not in KINDS:
            continue
        data = batch.data
        if batch.kind is Kind.INSTRUMENT:
            data = data.filter(pc.equal(data.column("instrument_type"), "perpetual"))
        edge.send(EventBatch(batch.kind, one_underlying or batch.underlying, data))
    return Base(_joined(found))


def _source(folder: Path | None, seconds: int | None) -> Iterator[EventBatch]:
    if folder is None:
        minutes = (120 if seconds is None else seconds) / 60
        yield from SimulatedExchange(SimulationConfig(minutes=minutes, tick_ms=10)).batches()
        return
    batches = RecordedFiles(sorted(folder.glob(PERPETUALS))).batches()
    first = next(batches)
    yield first
    start = first.data.column(_RECV)[0].as_py()
    yield from takewhile(
        lambda batch: seconds is None or batch.data.column(_RECV)[0].as_py() < start + seconds * NANO, batches
    )


def _joined(batches: Iterable[EventBatch]) -> list[EventBatch]:
    """The same rows with one dictionary of instruments a kind and underlying, so that they can be concatenated."""
    names: dict[tuple[Kind, str], dict[str, int]] = {}
    joined = []
    for batch in batches:
        known = names.setdefault((batch.kind, batch.underlying), {})
        column = batch.data.column(0)
        own = [known.setdefault(name, len(known)) for name in column.dictionary.to_pylist()]
        joined.append((batch, np.array(own, dtype=np.int32)[column.indices.to_numpy()]))
    return [
        _with_columns(batch, {0: _encoded(codes, list(names[batch.kind, batch.underlying]))}) for batch, codes in joined
    ]


def _encoded(codes: Any, names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.utf8()))


def _with_columns(batch: EventBatch, changed: Mapping[int, pa.Array], underlying: str | None = None) -> EventBatch:
    columns = [changed.get(i, column) for i, column in enumerate(batch.data.columns)]
    data = pa.RecordBatch.from_arrays(columns, schema=batch.data.schema)
    return EventBatch(batch.kind, underlying or batch.underlying, data)


class Base:
    """One repetition of the log.

    Args:
        batches: in log order; of one kind and underlying all with the same dictionary of instruments.
    """

    def __init__(self, batches: list[EventBatch]) -> None:
        self.batches = batches
        self.rows = sum(batch.data.num_rows for batch in batches)
        self._numbered: Counter[tuple[Kind, str]] = Counter()
        first, last = dict.fromkeys((_EVENT, _RECV), 2**62), dict.fromkeys((_EVENT, _RECV), 0)
        for batch in batches:
            counts = np.bincount(batch.data.column(0).indices.to_numpy())
            for name, count in zip(batch.data.column(0).dictionary.to_pylist(), counts.tolist(), strict=False):
                self._numbered[batch.kind, name] += count
            for column in (_EVENT, _RECV):
                times = batch.data.column(column).to_numpy()
                first[column] = min(first[column], int(times.min()))
                last[column] = max(last[column], int(times.max()))
        # Whole seconds, beyond the last row by both clocks.
        self._period_ns = (max(last[column] - first[column] for column in first) // NANO + 1) * NANO

    def repetition(self, number: int, copy: int = 0, rename: bool = False) -> Iterator[EventBatch]:
        """Repetition ``number`` of copy ``copy``: a copy stands ``copy`` seconds later, under a name of its own.

        Instruments are introduced in the first repetition only.
        """
        shift = number * self._period_ns + copy * NANO
        for batch in self.batches:
            if batch.kind is Kind.INSTRUMENT and number:
                continue
            column = batch.data.column(0)
            names, codes = column.dictionary.to_pylist(), column.indices.to_numpy()
            seq = np.array([number * self._numbered[batch.kind, name] for name in names], dtype=np.int64)[codes]
            changed = {i: pa.array(batch.data.column(i).to_numpy() + shift) for i in (_EVENT, _RECV)}
            changed[_SEQ] = pa.array(batch.data.column(_SEQ).to_numpy() + seq)
            if rename:
                changed[0] = _encoded(codes, [f"{name}.{copy}" for name in names])
            yield _with_columns(batch, changed, f"{batch.underlying}.{copy}" if rename else None)
