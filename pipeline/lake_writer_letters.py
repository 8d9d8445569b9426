"""Dead letters that come twice: a worker that crashed sends again those of the messages that it reads again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import polars as pl
import pyarrow as pa

from pipeline.lake import Lake
from pipeline.tables import Table

LAKE: Final = "lake"
"""The stage that letters of the lake's own writer name."""

MOST_SOURCES: Final = 100_000
"""Messages whose letters are remembered: the newest, for a worker sends again only what follows its checkpoint."""

_SOURCE: Final = ("source_topic", "source_partition", "source_offset")
_IDENTITY: Final = ("stage", "reason", "detail", "rows")

Source = tuple[str, int, int]
Identity = tuple[Any, ...]


class DeadLetters:
    """Drops letters that tell the same about the same message again.

    A letter is identified by the message that it is about, the stage, the reason, its detail and its count of rows.
    The lake's writer reads every topic, so of a message that nobody can decode there may be its letter and one of the
    stage that reads the topic as well: the first of them counts. A letter of a source has no such message, and its
    own position identifies it.
    """

    def __init__(self, lake: Lake, table: Table) -> None:
        self._lake = lake
        self._table = table
        self._known: OrderedDict[Source, set[Identity]] | None = None

    def fresh(self, rows: pa.Table) -> pa.Table:
        """The letters that were not told before."""
        known = self._read()
        here: dict[Source, set[Identity]] = {}
        keep: list[bool] = []
        for source, identity in _letters(rows):
            if source is None:
                keep.append(True)
                continue
            told = known.get(source, set()) | here.get(source, set())
            keep.append(not _repeated(identity, told))
            if keep[-1]:
                here.setdefault(source, set()).add(identity)
        return rows if all(keep) else rows.filter(pa.array(keep, pa.bool_()))

    def committed(self, rows: pa.Table) -> None:
        """Remember these letters."""
        known = self._read()
        for source, identity in _letters(rows):
            if source is not None:
                known.setdefault(source, set()).add(identity)
        while len(known) > MOST_SOURCES:
            known.popitem(last=False)

    def _read(self) -> OrderedDict[Source, set[Identity]]:
        if self._known is None:
            self._known = OrderedDict()
            for source, identity in _letters(_newest(self._lake, self._table)):
                if source is not None:
                    self._known.setdefault(source, set()).add(identity)
        return self._known


def _repeated(identity: Identity, told: set[Identity]) -> bool:
    if not told:
        return False
    return identity in told or identity[0] == LAKE or any(other[0] == LAKE for other in told)


def _letters(rows: pa.Table) -> list[tuple[Source | None, Identity]]:
    columns = {name: rows.column(name).to_pylist() for name in (*_SOURCE, *_IDENTITY)}
    sources = zip(*(columns[name] for name in _SOURCE), strict=True)
    identities = zip(*(columns[name] for name in _IDENTITY), strict=True)
    return [
        (None if None in source else source, identity) for source, identity in zip(sources, identities, strict=True)
    ]


def _newest(lake: Lake, table: Table) -> pa.Table:
    """The last letters of the table, oldest first."""
    files, names = lake.files(table), [*_SOURCE, *_IDENTITY]
    if not files:
        return table.columns.empty_table().select(names)
    letters = pl.scan_parquet(files, hive_partitioning=False, storage_options=lake.path.options)
    newest = letters.select(*names, "topic_offset").drop_nulls(_SOURCE).top_k(MOST_SOURCES, by="topic_offset")
    return newest.sort("topic_offset").drop("topic_offset").collect().to_arrow().select(names)
