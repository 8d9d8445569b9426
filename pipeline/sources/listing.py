"""What a log needs beside a file's own rows: each instrument introduced before its first row, and heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from features.events import NANO, Kind
from pipeline.sources.runs import MERGE_ORDER, Run

Describe = Callable[[str, int], dict[str, Any]]
"""(instrument, time of its first row) -> columns of its instrument event, as lists of one."""


FILE_SPAN_NS: Final = NANO
"""Receive time that a batch of a file may span: nobody waits for its first row, and longer batches are cheaper."""


class RunNumbers:
    """Makes the runs of one stream, numbered in their order."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._number = 0

    def run(self, kind: Kind, ts_recv: int, underlying: str, rows: int, columns: dict[str, Any]) -> Run:
        """The next run."""
        self._number += 1
        return Run(ts_recv, MERGE_ORDER[kind], self._source, self._number, kind, underlying, rows, columns)


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
    numbers = RunNumbers(source)
    for ts_recv, together in groupby(runs, key=lambda run: run.ts_recv):
        group = list(together)
        for run in group:
            for name in _names(run):
                if name not in known:
                    known.add(name)
                    columns = describe(name, _first_event(run))
                    yield numbers.run(Kind.INSTRUMENT, ts_recv, run.underlying, 1, columns)
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
            yield numbers.run(Kind.HEARTBEAT, ts_recv, underlying, 1, columns)


def _names(run: Run) -> Iterable[str]:
    names = run.columns["instrument"]
    return (names,) if isinstance(names, str) else dict.fromkeys(names)


def _first_event(run: Run) -> int:
    times = run.columns["ts_event"]
    return times if isinstance(times, int) else int(times[0])


def _last_event(run: Run) -> int:
    times = run.columns["ts_event"]
    return times if isinstance(times, int) else int(max(times))
