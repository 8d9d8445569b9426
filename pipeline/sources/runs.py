"""Rows on their way into the log: runs that share a receive time, merged and cut into batches."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from features.events import SCHEMAS, EventBatch, Kind, record_batch

Array = np.ndarray[Any, Any]
Value = int | str | bool | None | Array | list[Any]

MAX_ROWS: Final = 1_600
MAX_SPAN_NS: Final = 5_000_000

MERGE_ORDER: Final[Mapping[Kind, int]] = {
    kind: order
    for order, kind in enumerate(
        (Kind.INSTRUMENT, Kind.BOOK, Kind.TRADE, Kind.OPTION_QUOTE, Kind.FUNDING, Kind.ALT, Kind.HEARTBEAT)
    )
}
"""Of rows received at the same time: what an instrument is comes before its rows, and heartbeats come last."""


class Run(NamedTuple):
    """Consecutive rows of one kind, instrument or chain, and receive time.

    The first four fields are the merge key; no two runs agree in all of them. A column is an array with an entry a row,
    or one value that all rows share.
    """

    ts_recv: int
    order: int
    source: int
    number: int
    kind: Kind
    underlying: str
    rows: int
    columns: Mapping[str, Value]


def merge(streams: Iterable[Iterator[Run]]) -> Iterator[Run]:
    """One log of several streams, by (ts_recv, kind, seq); what comes from one stream keeps its order."""
    return heapq.merge(*streams)


def batches_of(runs: Iterable[Run]) -> Iterator[EventBatch]:
    """Group consecutive runs of one kind and underlying: at most ``MAX_ROWS`` rows and ``MAX_SPAN_NS`` of receive time."""
    group: list[Run] = []
    rows = 0
    for run in runs:
        if group and not (
            run.kind is group[0].kind
            and rows + run.rows <= MAX_ROWS
            and run.ts_recv - group[0].ts_recv <= MAX_SPAN_NS
            and run.underlying == group[0].underlying
        ):
            yield from _batch(group)
            group, rows = [], 0
        group.append(run)
        rows += run.rows
    if group:
        yield from _batch(group)


def _batch(group: list[Run]) -> Iterator[EventBatch]:
    kind, underlying = group[0].kind, group[0].underlying
    lengths = [run.rows for run in group]
    names: dict[str, int] = {}
    codes = [_codes(run, names) for run in group]
    columns: dict[str, Any] = {"instrument": _column(codes, lengths)}
    columns["ts_recv"] = _column([run.ts_recv for run in group], lengths)
    for field in SCHEMAS[kind]:
        if field.name in group[0].columns and field.name != "instrument":
            columns[field.name] = _column([run.columns[field.name] for run in group], lengths)
    data = record_batch(kind, list(names), columns)
    for start in range(0, data.num_rows, MAX_ROWS):
        yield EventBatch(kind, underlying, data.slice(start, MAX_ROWS))


def _codes(run: Run, names: dict[str, int]) -> Value:
    instrument = run.columns["instrument"]
    if isinstance(instrument, str):
        return names.setdefault(instrument, len(names))
    assert isinstance(instrument, list)
    return np.array([names.setdefault(name, len(names)) for name in instrument], dtype=np.int32)


def _column(values: list[Value], lengths: list[int]) -> Any:
    """One column of a batch, from what its runs have: an entry a row, or one value for all their rows."""
    if all(isinstance(value, int) for value in values):
        scalars = np.array(values)
        return scalars if len(values) == sum(lengths) else np.repeat(scalars, lengths)
    if all(isinstance(value, np.ndarray) for value in values):
        return values[0] if len(values) == 1 else np.concatenate(values)  # type: ignore[arg-type] # all are arrays
    rows: list[Any] = []
    for value, length in zip(values, lengths, strict=True):
        if isinstance(value, (list, np.ndarray)):
            rows.extend(value)
        else:
            rows.extend([value] * length)
    return rows
