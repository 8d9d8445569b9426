"""What a log needs beside a file's own rows: each instrument introduced before its first row, and heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count, groupby
from typing import Any, Final

from features.events import NANO, Kind
from pipeline.sources.runs import MERGE_ORDER, Run

Describe = Callable[[str, int], dict[str, Any]]
"""(instrument, time of its first row) -> columns of its instrument event, as lists of one."""


FILE_SPAN_NS: Final = NANO
"""Receive time that a batch of a file may span: nobody waits for its first row, and longer batches are cheaper."""


def with_listing(runs: Iterable[Run], describe: Describe, source: int = 0) -> Iterator[Run]:
    """Insert instrument events and heartbeats; what is inserted keeps the order of the merge.

    An instrument event stands before all other rows of the receive time at which the instrument first appears. Each
    new second of an underlying's event time brings a heartbeat, after the other rows of that receive time.

    Args:
        runs: in order of receive time.
        describe: called once an instrument.
        source: position among merged sources, of what is inserted.
    """
    known: set[str] = set()
    latest: dict[str, int] = {}
    number = count()
    for ts_recv, together in groupby(runs, key=lambda run: run.ts_recv):
        group = list(together)
        for run in group:
            for name in _names(run):
                if name not in known:
                    known.add(name)
                    columns = describe(name, _first_event(run))
                    yield _run(ts_recv, source, number, Kind.INSTRUMENT, run.underlying, columns)
        yield from group
        due: dict[str, Run] = {}
        for run in group:
            reached = _last_event(run)
            before = latest.get(run.underlying, 0)
            if reached > before:
                latest[run.underlying] = reached
                if reached // NANO > before // NANO:
                    due[run.underlying] = run
        for underlying, run in due.items():
            columns = {"instrument": next(iter(_names(run))), "ts_event": latest[underlying]}
            yield _run(ts_recv, source, number, Kind.HEARTBEAT, underlying, columns)


def _run(ts_recv: int, source: int, number: Any, kind: Kind, underlying: str, columns: dict[str, Any]) -> Run:
    return Run(ts_recv, MERGE_ORDER[kind], source, next(number), kind, underlying, 1, columns)


def _names(run: Run) -> Iterable[str]:
    names = run.columns["instrument"]
    return (names,) if isinstance(names, str) else dict.fromkeys(names)


def _first_event(run: Run) -> int:
    times = run.columns["ts_event"]
    return times if isinstance(times, int) else int(times[0])


def _last_event(run: Run) -> int:
    times = run.columns["ts_event"]
    return times if isinstance(times, int) else int(max(times))
