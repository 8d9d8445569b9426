"""Rows on their way into the log: runs that share a receive time, merged and cut into batches."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np

from features.events import EventBatch, Kind, record_batch
from pipeline.codec import MAX_ROWS

Array = np.ndarray[Any, Any]

MAX_SPAN_NS: Final = 5_000_000

MERGE_ORDER: Final[Mapping[Kind, int]] = {
    kind: order
    for order, kind in enumerate(
        (
            Kind.INSTRUMENT,
            Kind.BOOK,
            Kind.TRADE,
            Kind.TRADE_CORRECTION,
            Kind.OPTION_QUOTE,
            Kind.FUNDING,
            Kind.ALT,
            Kind.HEARTBEAT,
        )
    )
}
"""Of rows received at the same time: what an instrument is comes before its rows, and heartbeats come last."""


class Run(NamedTuple):
    """Consecutive rows of one kind, underlying and receive time.

    The first four fields are the merge key; no two runs agree in all of them. A column is an array or list with an
    entry a row, or one integer that all rows share; which of these, is the same for all runs of a kind. ``instrument``
    is one name, or a list of names.
    """

    ts_recv: int
    order: int
    source: int
    number: int
    kind: Kind
    underlying: str
    rows: int
    columns: Mapping[str, Any]


def merge(streams: Iterable[Iterator[Run]]) -> Iterator[Run]:
    """One log of several streams, by (ts_recv, kind, seq); what comes from one stream keeps its order."""
    return heapq.merge(*streams)


def batches_of(runs: Iterable[Run], max_rows: int = MAX_ROWS, max_span_ns: int = MAX_SPAN_NS) -> Iterator[EventBatch]:
    """Group consecutive runs of one kind and underlying.

    Args:
        runs: in log order.
        max_rows: of a batch; a longer run is cut.
        max_span_ns: receive time between the first and the last run of a batch.
    """
    group: list[Run] = []
    rows, kind, underlying, until = 0, None, "", 0
    for run in runs:
        rows += run.rows
        if run.kind is not kind or rows > max_rows or run.ts_recv > until or run.underlying != underlying:
            if group:
                yield from _batch(group, max_rows)
                group = []
            rows, kind, underlying, until = run.rows, run.kind, run.underlying, run.ts_recv + max_span_ns
        group.append(run)
    if group:
        yield from _batch(group, max_rows)


def _batch(group: list[Run], max_rows: int) -> Iterator[EventBatch]:
    _, _, _, _, kind, underlying, rows, first = group[0]
    names: dict[str, int] = {}
    if len(group) == 1:
        columns = {
            name: values if type(values) in _AS_IT_IS else _of_one(values, rows) for name, values in first.items()
        }
        codes = _codes(first["instrument"], names)
        columns["instrument"] = codes if isinstance(codes, np.ndarray) else np.zeros(rows, dtype=np.int32)
        columns["ts_recv"] = group[0].ts_recv
    else:
        lengths = [run.rows for run in group]
        repeats = None if max(lengths) == 1 else lengths
        columns = {
            name: _of_many([run.columns[name] for run in group], repeats) for name in first if name != "instrument"
        }
        columns["instrument"] = _of_many([_codes(run.columns["instrument"], names) for run in group], repeats)
        columns["ts_recv"] = _of_many([run.ts_recv for run in group], repeats)
    data = record_batch(kind, list(names), columns)
    if data.num_rows <= max_rows:
        yield EventBatch(kind, underlying, data)
        return
    for start in range(0, data.num_rows, max_rows):
        yield EventBatch(kind, underlying, data.slice(start, max_rows))


def _codes(instrument: str | list[str], names: dict[str, int]) -> int | Array:
    if isinstance(instrument, str):
        return names.setdefault(instrument, len(names))
    return np.array([names.setdefault(name, len(names)) for name in instrument], dtype=np.int32)


_AS_IT_IS: Final = frozenset({int, np.ndarray, list})
"""Columns that :func:`features.events.record_batch` takes, an integer for all rows among them."""


def _of_one(value: Any, rows: int) -> Array:
    """A column of one run, of which all rows share what is no integer: a truth value, text, nothing."""
    return np.array((value,)).repeat(rows)


def _of_many(values: list[Any], repeats: list[int] | None) -> Any:
    """A column of several runs; ``repeats`` are their rows, None if each has one."""
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    if isinstance(values[0], list):
        return list(chain.from_iterable(values))
    scalars = np.array(values)
    return scalars if repeats is None else scalars.repeat(repeats)
