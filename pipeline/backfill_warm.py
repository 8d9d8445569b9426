"""Where a backfill begins that starts inside the data without a stored state: early enough for windows and books."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from features.catalog import Catalogue
from features.events import SNAPSHOT, Kind
from pipeline.backfill_state import write_durably
from pipeline.backfill_task import Beginning
from pipeline.raw_files import UnderlyingLog, listed, quoted

_FILE: Final = "beginnings.json"


def warm_up_ns(catalogue: Catalogue, with_alternative: bool) -> int:
    """The longest window (ns) that a column looks back over; alternative data only where there are any."""
    declared = [*catalogue.all]
    if not with_alternative:
        alternative = {feature.name for feature in catalogue.alternative}
        declared = [feature for feature in declared if feature.name not in alternative]
    return max((feature.window_ns for feature in declared), default=0)


def beginnings(
    connection: Any, folder: Path, logs: Mapping[str, UnderlyingLog], start: int, window_ns: int
) -> dict[str, Beginning]:
    """Where each underlying's log is read from, so that all windows are full at ``start``; found once for a run.

    That is at the last snapshot of every book before ``start - window_ns``, and for all underlyings at the same time:
    a universe with one underlying far ahead stops.
    """
    path = folder / _FILE
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Beginning])
    first = {name: _first_offset(connection, log, start - window_ns) for name, log in logs.items()}
    books = {name: _snapshot(connection, logs[name], offset) for name, offset in first.items() if offset is not None}
    times = [_time_at(connection, logs[name], offset) for name, offset in books.items()]
    found: dict[str, Beginning] = {}
    for name, offset in books.items():
        common = _first_offset(connection, logs[name], min(times))
        begin = offset if common is None else min(offset, common)
        instruments = logs[name].groups.get(_table(Kind.INSTRUMENT), [])
        whole = begin <= (_first_offset(connection, logs[name], 0) or 0)
        found[name] = Beginning(begin, _time_at(connection, logs[name], begin), instruments, whole)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(path, msgspec.json.encode(found))
    return found


def _table(kind: Kind) -> str:
    from pipeline.raw_files import RAW_TABLES

    return next(table.name for table in RAW_TABLES if table.kind == kind.value)


def _rows(log: UnderlyingLog, table: str) -> str:
    files = [file for group in log.groups[table] for file in group]
    return f"FROM read_parquet({listed(files)}) WHERE underlying = {quoted(log.underlying)}"


def _first_offset(connection: Any, log: UnderlyingLog, time: int) -> int | None:
    """Of the first row whose stream time reaches ``time``: it is on time, so its own time says so."""
    found = [
        connection.execute(f"SELECT min(topic_offset) {_rows(log, table)} AND ts_event >= {time}").fetchall()[0][0]
        for table in log.groups
    ]
    return min((offset for offset in found if offset is not None), default=None)


def _snapshot(connection: Any, log: UnderlyingLog, offset: int) -> int:
    """Where the oldest begins of the last snapshots before ``offset`` of the books that go on after it."""
    book = _table(Kind.BOOK)
    if book not in log.groups:
        return offset
    rows = _rows(log, book)
    # A snapshot may take many messages: to begin within one would make a book of its second half.
    found = connection.execute(
        f"WITH live AS (SELECT DISTINCT instrument {rows} AND topic_offset >= {offset}), "
        "snapshots AS (SELECT instrument, update_id, min(topic_offset) AS first, max(topic_offset) AS last "
        f"{rows} AND topic_offset < {offset} AND flags & {SNAPSHOT} > 0 GROUP BY ALL) "
        "SELECT min(first) FROM (SELECT max(first) AS first FROM snapshots SEMI JOIN live USING (instrument) "
        "GROUP BY instrument)"
    ).fetchall()[0][0]
    return offset if found is None else int(found)


def _time_at(connection: Any, log: UnderlyingLog, offset: int) -> int:
    """Stream time (ns) of the message at ``offset``."""
    found = [
        connection.execute(f"SELECT min(ts_event + late_ns) {_rows(log, table)} AND topic_offset = {offset}").fetchall()
        for table in log.groups
    ]
    return min(int(rows[0][0]) for rows in found if rows[0][0] is not None)
