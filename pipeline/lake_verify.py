"""Is the lake whole? Every finding says where, and how many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow.fs import FileSystem

from pipeline import topics
from pipeline.lake import Lake, LakeError
from pipeline.lake_files import DataFile, data_files, filesystem_of
from pipeline.lake_verify_offsets import check_offsets, completed
from pipeline.lake_verify_rows import check_rows
from pipeline.tables import TABLES, Table

Offsets = Mapping[tuple[str, int], tuple[int, int]]

UNREADABLE: Final = (OSError, ValueError)
"""What pyarrow raises for bytes that are no Parquet (its own errors are ValueErrors)."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong.

    Args:
        table: where; ``md.events`` for what concerns all raw tables together.
        check: which promise is broken.
        detail: what was found.
    """

    table: str
    check: str
    detail: str


def verify(
    lake: Lake, tables: Mapping[str, Table], topic_offsets: Offsets | None = None, *, full: bool = False
) -> list[Finding]:
    """All that is wrong with these tables; nothing is changed.

    Args:
        lake: to look at.
        tables: that are checked; the ones that were never written are passed over.
        topic_offsets: by (topic, partition), the first and the next offset that the broker holds.
        full: decode every page of every file, not only the columns that the checks read.

    Raises:
        LakeUnavailableError: the store failed.
    """
    findings: list[Finding] = []
    whole: dict[str, DeltaTable] = {}
    ends = _ends(lake, tables)
    for table in tables.values():
        if not lake.exists(table):
            continue
        try:
            snapshot = lake.delta(table)
        except LakeError as error:
            findings.append(Finding(table.name, "log", error.problem))
            ends = {}
            continue
        broken = _check_files(lake, table, snapshot, full=full)
        findings += [Finding(table.name, check, detail) for check, detail in broken]
        if not broken:
            whole[table.name] = snapshot
            findings += [Finding(table.name, *found) for found in check_rows(table, snapshot)]
        elif table.topic == topics.EVENTS:
            # What it held may be all that is missing from the log.
            ends = {}
    findings += [Finding(*found) for found in check_offsets(tables, whole, ends, topic_offsets)]
    return findings


def _ends(lake: Lake, tables: Mapping[str, Table]) -> Mapping[int, int]:
    """Up to where the raw tables together are complete; nowhere unless all of them are looked at."""
    raw = {name for name, table in TABLES.items() if table.topic == topics.EVENTS}
    if not raw <= set(tables):
        return {}
    try:
        return completed(lake, tables)
    except LakeError:
        return {}  # the table whose log is damaged is found below


def _check_files(lake: Lake, table: Table, snapshot: DeltaTable, *, full: bool) -> list[tuple[str, str]]:
    """Files of the snapshot that are missing, cut, unreadable, or hold another number of rows than the log says."""
    where = lake.path / table.name
    filesystem = filesystem_of(where)
    found = []
    for file in data_files(snapshot):
        problem = _file_problem(filesystem, file, full=full)
        if problem:
            found.append((problem[0], f"{where}/{file.path}: {problem[1]}"))
    return found


def _file_problem(filesystem: FileSystem, file: DataFile, *, full: bool) -> tuple[str, str] | None:
    try:
        with filesystem.open_input_file(file.path) as source:
            if source.size() != file.size:
                return "file size", f"{source.size()} bytes, the log says {file.size}"
            return _parquet_problem(pq.ParquetFile(source), file, full=full)
    except FileNotFoundError:
        return "file missing", "the log names it"
    except UNREADABLE as error:
        return "file unreadable", str(error).splitlines()[0]


def _parquet_problem(parquet: Any, file: DataFile, *, full: bool) -> tuple[str, str] | None:
    if parquet.metadata.num_rows != file.rows:
        return "row count", f"{parquet.metadata.num_rows} rows, the log says {file.rows}"
    for group in range(parquet.num_row_groups if full else 0):
        parquet.read_row_group(group)
    return None
