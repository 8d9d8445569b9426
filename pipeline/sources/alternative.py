"""Files of timestamped texts or numbers as a source: JSON lines or CSV, plain or gzip, with a mapping."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from features.errors import BadInputError
from features.events import EventBatch
from pipeline.sources.alternative_mapping import AlternativeMapping
from pipeline.sources.alternative_rows import MAX_BATCH_ROWS, AlternativeRow, rows_of, runs_of
from pipeline.sources.base import OnReject, Reject, UnusableError, ignore_reject
from pipeline.sources.recording_lines import read_lines
from pipeline.sources.runs import Run, batches_of

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class AlternativeFile:
    """The records of a file, in the order in which they became available.

    The file may have any order; it is read as a whole and sorted. Records that repeat one before in every mapped field
    are left out and counted in ``duplicates``. A record that cannot be used is counted in ``rejected`` and handed to
    ``on_reject``: reasons of :func:`.alternative_rows.rows_of`; ``bad_record``: no JSON object, or a CSV row with
    another number of fields than the header; ``undecodable``: no UTF-8; damage of the file as :func:`read_lines` says.

    Args:
        path: JSON lines, or CSV with a header and no line break inside a field.
        mapping: of the feed.
        on_reject: receives every record that could not be used.

    Raises:
        BadInputError: the file is missing, empty, or a CSV file without the mapped columns.
    """

    name = "alternative"

    def __init__(self, path: Path | str, mapping: AlternativeMapping, on_reject: OnReject = ignore_reject) -> None:
        self.path = Path(path)
        self.mapping = mapping
        self.rejected: Counter[str] = Counter()
        self.duplicates = 0
        self._on_reject = on_reject
        self.rows = self._read()

    def batches(self) -> Iterator[EventBatch]:
        """All rows; the availability of a recorded row is when it counts as received."""
        return batches_of(self.runs(), MAX_BATCH_ROWS)

    def runs(self, source: int = 0) -> Iterator[Run]:
        """The same as runs of rows, to merge with other sources."""
        return runs_of(self.rows, self.mapping.source, source)

    def _read(self) -> list[AlternativeRow]:
        found: dict[AlternativeRow, None] = {}
        for number, line, record in self._records():
            try:
                rows = rows_of(record, self.mapping)
            except UnusableError as error:
                self._refuse(error.reason, error.detail, number, line)
                continue
            fresh = [row for row in rows if row not in found]
            self.duplicates += bool(rows) and not fresh
            found.update(dict.fromkeys(fresh))
        return sorted(found, key=lambda row: row[:4])

    def _records(self) -> Iterator[tuple[int, bytes, Mapping[str, Any]]]:
        """Line number, line and record."""
        lines = ((number, line) for number, line in enumerate(self._lines(), 1) if line.strip())
        if self.mapping.form == "csv":
            yield from self._csv(lines)
            return
        decoder = msgspec.json.Decoder(dict[str, Any])
        for number, line in lines:
            try:
                yield number, line, decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._refuse("bad_record", f"no JSON object: {error}", number, line)

    def _csv(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, Mapping[str, Any]]]:
        header: list[str] = []
        for number, line in lines:
            try:
                (fields,) = csv.reader([line.decode().rstrip("\r")], delimiter=self.mapping.delimiter)
            except UnicodeDecodeError as error:
                self._refuse("undecodable", str(error), number, line)
                continue
            except csv.Error as error:
                self._refuse("bad_record", str(error), number, line)
                continue
            if not header:
                header = self._header(fields)
            elif len(fields) != len(header):
                self._refuse("bad_record", f"{len(fields)} fields, the header has {len(header)}", number, line)
            else:
                yield number, line, dict(zip(header, fields, strict=True))

    def _header(self, fields: list[str]) -> list[str]:
        mapping = self.mapping
        wanted = {mapping.time.field, *mapping.values.values(), *(mapping.text.fields if mapping.text else ())}
        if missing := sorted(wanted - set(fields)):
            raise BadInputError(f"{self.path} lacks the column(s) {missing}.", f"It has {fields}; see --mapping.")
        return fields

    def _lines(self) -> Iterator[bytes]:
        for number, line in enumerate(read_lines(self.path, self._damaged)):
            yield line.removeprefix(_BYTE_ORDER_MARK) if number == 0 else line

    def _damaged(self, reason: str, detail: str, line: int, tail: bytes) -> None:
        self._refuse(reason, detail, line + 1, tail)

    def _refuse(self, reason: str, detail: str, line: int, payload: bytes) -> None:
        self.rejected[reason] += 1
        self._on_reject(Reject(reason, detail, payload, f"{self.path}:{line}"))
