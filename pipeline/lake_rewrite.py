"""Rewrite small files as few large ones: sorted, compressed, with the statistics that filters read."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem

from pipeline.lake import statistics_columns
from pipeline.lake_files import DataFile, filesystem_of, log_order
from pipeline.lake_location import LakeLocation
from pipeline.tables import Table

MEMORY_LIMIT: Final = "384MB"
"""Of DuckDB while it sorts; beyond it goes to disk."""

_GROUP_BYTES: Final = 32 << 20
_GROUP_ROWS: Final = (8_192, 131_072)
_READ_ROWS: Final = 8_192
_LONGEST_STATISTIC: Final = 64


def rewritten(
    table: Table, snapshot: DeltaTable, where: LakeLocation, files: Sequence[DataFile], target_bytes: int
) -> list[AddAction]:
    """Write the rows of ``files``, all of one date, sorted into new files; nothing is committed.

    Args:
        table: whose files they are.
        snapshot: gives the columns; files that are older than a column have nulls there.
        where: the table's place.
        files: whose rows are read.
        target_bytes: of a new file; the next row group after it begins another.
    """
    schema = pa.schema([field for field in pa.schema(snapshot.schema().to_arrow()) if field.name != "date"])
    filesystem = filesystem_of(where)
    writer = _Writer(table, schema, filesystem, files[0].date, max(file.written_ms for file in files), target_bytes)
    with tempfile.TemporaryDirectory(prefix="hedgeflow-") as spill:
        for group in _sorted_groups(table, schema, filesystem, files, spill):
            writer.write(group)
    return writer.close()


def _sorted_groups(
    table: Table, schema: pa.Schema, filesystem: FileSystem, files: Sequence[DataFile], spill: str
) -> Iterator[pa.Table]:
    """The rows in order, a row group at a time."""
    dataset = ds.dataset([file.path for file in files], schema=schema, format="parquet", filesystem=filesystem)
    scanner = dataset.scanner(batch_size=_READ_ROWS, batch_readahead=2, fragment_readahead=1, use_threads=False)
    fewest, most = _GROUP_ROWS
    rows = min(most, max(fewest, _GROUP_BYTES // (8 * len(schema)) // fewest * fewest))
    with duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill}) as connection:
        connection.register("unsorted", scanner.to_reader())
        names = ", ".join(f'"{name}"' for name in schema.names)
        order = ", ".join(f'"{name}"' for name in log_order(table))
        reader = connection.sql(f"SELECT {names} FROM unsorted ORDER BY {order}").to_arrow_reader(rows)
        for batch in reader:
            yield pa.Table.from_batches([batch]).cast(schema)


class _Writer:
    """Files of about the target size, each cut where the log's offset changes."""

    def __init__(
        self, table: Table, schema: pa.Schema, filesystem: FileSystem, date: str, written_ms: int, target_bytes: int
    ) -> None:
        self._schema, self._filesystem, self._date = schema, filesystem, date
        self._written_ms, self._target = written_ms, target_bytes
        self._by_position = not table.key
        self._statistics = [name for name in statistics_columns(table) if name in schema.names]
        self._name = uuid.uuid4().hex
        self._added: list[AddAction] = []
        self._last: tuple[int, int] | None = None
        self._sink: Any = None

    def write(self, group: pa.Table) -> None:
        """Append rows."""
        if self._sink is not None and self._sink.tell() >= self._target:
            rest = self._of_the_last_offset(group)
            if rest:
                self._append(group.slice(0, rest))
            if rest == group.num_rows:
                return
            self._finish()
            group = group.slice(rest)
        self._append(group)

    def close(self) -> list[AddAction]:
        """The files that were written."""
        if self._sink is not None:
            self._finish()
        return self._added

    def _of_the_last_offset(self, group: pa.Table) -> int:
        """How many leading rows belong to the message that the file ends with: readers want it in one file."""
        if not self._by_position:
            return 0
        partition, offset = self._last or (-1, -1)
        same = pc.and_(pc.equal(group["topic_partition"], partition), pc.equal(group["topic_offset"], offset))
        first = pc.index(same, False).as_py()
        return int(group.num_rows if first < 0 else first)

    def _append(self, group: pa.Table) -> None:
        if self._sink is None:
            self._begin()
        self._parquet.write_table(group)
        self._rows += group.num_rows
        self._last = (group["topic_partition"][-1].as_py(), group["topic_offset"][-1].as_py())
        for name in self._statistics:
            column = group[name]
            self._nulls[name] += column.null_count
            bounds = pc.min_max(column)
            self._lowest[name] = _of(min, self._lowest[name], bounds["min"].as_py())
            self._highest[name] = _of(max, self._highest[name], bounds["max"].as_py())

    def _begin(self) -> None:
        self._path = f"date={self._date}/compacted-{self._name}-{len(self._added):05d}.zstd.parquet"
        self._sink = self._filesystem.open_output_stream(self._path)
        self._parquet = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=[f.name for f in self._schema if pa.types.is_string(f.type)],
            write_statistics=self._statistics,
            store_schema=False,
        )
        self._rows = 0
        self._nulls = dict.fromkeys(self._statistics, 0)
        self._lowest: dict[str, Any] = dict.fromkeys(self._statistics)
        self._highest: dict[str, Any] = dict.fromkeys(self._statistics)

    def _finish(self) -> None:
        self._parquet.close()
        size = self._sink.tell()
        self._sink.close()
        self._sink = None
        statistics = {
            "numRecords": self._rows,
            "minValues": _shown(self._lowest),
            "maxValues": _shown(self._highest),
            "nullCount": self._nulls,
        }
        self._added.append(
            AddAction(self._path, size, {"date": self._date}, self._written_ms, False, json.dumps(statistics))
        )


def _of(choose: Any, one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


def _shown(bounds: dict[str, Any]) -> dict[str, Any]:
    """Bounds that may stand in the log: none of a column that is null, or too long to be repeated there."""
    return {
        name: value
        for name, value in bounds.items()
        if value is not None and not (isinstance(value, str) and len(value) > _LONGEST_STATISTIC)
    }
