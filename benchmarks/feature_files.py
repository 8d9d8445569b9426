"""Events of many instruments as Arrow files: what the feature benchmark streams from disk.

One folder an underlying and repetition of the log: an LZ4-compressed Arrow IPC stream for each kind, in batches of
``FILE_ROWS``, and ``order.npy``, the runs (kind, rows) in which the log interleaves the kinds. A reader holds one batch
of each kind, so its memory does not depend on the length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.recorded_like import KINDS, Base
from features.events import SCHEMAS, EventBatch, Kind
from pipeline.codec import MAX_ROWS

FILE_ROWS: Final = 65_536

DONE: Final = "done"


def write_files(folder: Path, base: Base, underlyings: int, repetitions: int) -> None:
    """Write what is not there yet."""
    for copy in range(underlyings):
        for number in range(repetitions):
            target = part(folder, copy, number)
            if not (target / DONE).exists():
                target.mkdir(parents=True, exist_ok=True)
                _write_part(target, base, copy, number)
                (target / DONE).touch()


def part(folder: Path, copy: int, number: int) -> Path:
    """Folder of a repetition of an underlying."""
    return folder / f"{copy:02d}" / f"{number:03d}"


def _write_part(target: Path, base: Base, copy: int, number: int) -> None:
    batches: dict[Kind, list[pa.RecordBatch]] = {kind: [] for kind in KINDS}
    order: list[tuple[int, int]] = []
    for batch in base.repetition(number, copy, rename=True):
        batches[batch.kind].append(batch.data)
        code, rows = KINDS.index(batch.kind), batch.data.num_rows
        if order and order[-1][0] == code and order[-1][1] + rows <= MAX_ROWS:
            order[-1] = (code, order[-1][1] + rows)
        else:
            order.append((code, rows))
    np.save(target / "order.npy", np.array(order, dtype=np.int32))
    options = pa.ipc.IpcWriteOptions(compression="lz4", unify_dictionaries=True)
    for kind, found in batches.items():
        if not found:
            continue
        table = pa.Table.from_batches(found).combine_chunks()
        path = str(target / f"{kind.value}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=FILE_ROWS)


def read_files(folder: Path, copy: int, repetitions: int) -> Iterator[EventBatch]:
    """The log of an underlying, run by run."""
    for number in range(repetitions):
        source = part(folder, copy, number)
        readers: dict[int, _Rows] = {}
        for kind, rows in np.load(source / "order.npy").tolist():
            if kind not in readers:
                readers[kind] = _Rows(source / f"{KINDS[kind].value}.arrow", SCHEMAS[KINDS[kind]])
            for data in readers[kind].take(rows):
                yield EventBatch(KINDS[kind], f"U{copy}", data)


class _Rows:
    """A kind's rows in order, in slices of the file's batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        # Not memory-mapped: mapped pages would count as this process's memory.
        self._reader: Any = pa.ipc.open_stream(pa.OSFile(str(path), "rb"))
        if not self._reader.schema.equals(schema):
            raise ValueError(f"{path} is of another version of the schema: remove its folder.")
        self._data: pa.RecordBatch | None = None
        self._at = 0

    def take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The next ``rows`` rows: one slice, or two where a batch of the file ends between them."""
        while rows:
            if self._data is None or self._at == self._data.num_rows:
                self._data, self._at = self._reader.read_next_batch(), 0
            count = min(rows, self._data.num_rows - self._at)
            yield self._data.slice(self._at, count)
            self._at += count
            rows -= count
