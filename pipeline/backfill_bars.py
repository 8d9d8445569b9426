"""Computed rows, read back in slices of time: what the universe and the signals are computed from."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np

from pipeline.backfill_feeds import Piece, Positions, row_schema
from pipeline.backfill_task import Task, Work, settings_of, target_of
from pipeline.lake_filesystem import readable_files
from pipeline.raw_files import listed, quoted
from pipeline.raw_reader import connected
from pipeline.tables import TABLES

SLICE_ROWS: Final = 50_000
"""Rows that are read at once: 40 MB of the catalogue's columns."""

_DATE: Final = re.compile(r"date=(\d{4}-\d\d-\d\d)")


def bar_pieces(task: Task, positions: Positions) -> Iterator[Piece]:
    """The rows that the stage reads, date by date and within it in slices of time, each in the order of its bars."""
    inputs = _inputs(task)
    table = TABLES["features" if task.work is Work.UNIVERSE else "universe"]
    schema = row_schema(task)
    columns = ", ".join(schema.names)
    fresh = _beyond(inputs, positions)
    if task.window.end is not None:
        # A later run into the same lake has added rows: they are beyond the state that this one ends with.
        fresh += f" AND bar_ts <= {task.window.end}"
    target = target_of(task)
    with connected(target, task.threads) as connection:
        for files in _by_date(readable_files(target, table), _oldest(inputs, positions)):
            rows = f"FROM read_parquet({listed(files)}) WHERE {fresh}"
            count, first, last = connection.execute(f"SELECT count(*), min(bar_ts), max(bar_ts) {rows}").fetchall()[0]
            if not count:
                continue
            edges = np.linspace(first - 1, last, -(-count // SLICE_ROWS) + 1).astype(np.int64).tolist()
            edges[0], edges[-1] = first - 1, last
            for after, until in pairwise(edges):
                found = connection.sql(
                    f"SELECT {columns} {rows} AND bar_ts > {after} AND bar_ts <= {until} ORDER BY bar_ts, underlying"
                ).to_arrow_table()
                for batch in found.select(schema.names).cast(schema).combine_chunks().to_batches():
                    yield Piece(batch, batch.num_rows, _reached(batch))


def _inputs(task: Task) -> dict[str, str]:
    """Underlying -> the instrument whose rows are read."""
    reference = settings_of(task).reference
    return dict(reference) if task.work is Work.UNIVERSE else {task.underlying: reference[task.underlying]}


def _beyond(inputs: Mapping[str, str], positions: Positions) -> str:
    """The rows that were not read, as SQL: each underlying has its own last bar."""
    each = (
        f"(underlying = {quoted(name)} AND instrument = {quoted(instrument)} "
        f"AND bar_ts > {positions.get(name, [-1])[0]})"
        for name, instrument in inputs.items()
    )
    return "(" + " OR ".join(each) + ")"


def _oldest(inputs: Mapping[str, str], positions: Positions) -> str:
    """The first date that can hold a row that was not read."""
    first = min(positions.get(name, [0])[0] for name in inputs)
    return str(np.datetime64(first, "ns").astype("datetime64[D]"))


def _by_date(files: list[str], oldest: str) -> list[list[str]]:
    dates: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if (found := _DATE.search(file)) is not None and found[1] >= oldest:
            dates[found[1]].append(file)
    return [dates[date] for date in sorted(dates)]


def _reached(batch: Any) -> dict[str, list[int]]:
    """The last bar of each underlying."""
    last = dict(zip(batch.column("underlying").to_pylist(), batch.column("bar_ts").to_pylist(), strict=True))
    return {name: [bar_ts] for name, bar_ts in last.items()}
