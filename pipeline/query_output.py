"""Answers of DuckDB as a table, CSV, JSON or Parquet: row by row, so that a large one is never held as a whole."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

import duckdb
import msgspec

from features.errors import BadInputError

BATCH_ROWS: Final = 10_000
_NARROW: Final = 7
"""Characters that a column of a table needs at least, its border among them."""


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


def format_of(chosen: Format | None, output: Path | None) -> Format:
    """What was chosen; else what the file's name says; else a table."""
    if chosen is not None:
        return chosen
    ending = "" if output is None else output.suffix.removeprefix(".")
    return Format(ending) if ending in set(Format) else Format.TABLE


def write_answer(answer: duckdb.DuckDBPyConnection, form: Format, target: IO[bytes], most: int) -> int:
    """Write what a query gave.

    Args:
        answer: a connection that executed it.
        form: which format, not Parquet: that is :func:`write_parquet`.
        target: takes bytes.
        most: rows of a table that are shown; the other formats write all.

    Returns:
        How many rows were written.
    """
    names = [column[0] for column in answer.description or ()]
    if form is Format.TABLE:
        rows = answer.fetchmany(most + 1)
        answer.abort()
        return _table(names, rows, most, target)
    written = {Format.CSV: _csv, Format.JSON: _json, Format.JSONL: _jsonl}[form]
    return written(names, _rows(answer), target)


@contextmanager
def opened(output: Path | None) -> Iterator[IO[bytes]]:
    """A file to write, which appears when it is complete; or standard output.

    Raises:
        BadInputError: it cannot be written.
    """
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    except OSError as error:
        raise BadInputError(f"{output} cannot be written: {error.strerror}.", "Check --output.") from error
    finally:
        partial.unlink(missing_ok=True)


def _rows(answer: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    while rows := answer.fetchmany(BATCH_ROWS):
        yield rows


def _csv(names: list[str], batches: Iterator[list[tuple[Any, ...]]], target: IO[bytes]) -> int:
    lines = _Text(target)
    writer, count = csv.writer(lines, lineterminator="\n"), 0
    writer.writerow(names)
    for rows in batches:
        writer.writerows([_field(value) for value in row] for row in rows)
        count += len(rows)
    return count


class _Text:
    """What the ``csv`` module writes to; wrapping ``target`` in a text file would close it."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target

    def write(self, text: str) -> int:
        return self._target.write(text.encode())


def _field(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.hex() if isinstance(value, bytes) else value


def _json(names: list[str], batches: Iterator[list[tuple[Any, ...]]], target: IO[bytes]) -> int:
    count = 0
    target.write(b"[")
    for rows in batches:
        lines = [_record(names, row) for row in rows]
        target.write((b",\n" if count else b"") + b",\n".join(lines))
        count += len(rows)
    target.write(b"]\n")
    return count


def _jsonl(names: list[str], batches: Iterator[list[tuple[Any, ...]]], target: IO[bytes]) -> int:
    count = 0
    for rows in batches:
        target.write(b"".join(_record(names, row) + b"\n" for row in rows))
        count += len(rows)
    return count


def _record(names: list[str], row: tuple[Any, ...]) -> bytes:
    # Bytes first: msgspec would write base64, and all formats shall say the same.
    values = (value.hex() if isinstance(value, bytes) else value for value in row)
    return msgspec.json.encode(dict(zip(names, values, strict=True)), enc_hook=str)


def write_parquet(relation: duckdb.DuckDBPyRelation, target: IO[bytes]) -> int:
    """Write what ``connection.sql`` gave as one Parquet file, batch by batch; returns the rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batches, count = relation.to_arrow_reader(100_000), 0
    with pq.ParquetWriter(pa.PythonFile(target, "w"), batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _table(names: list[str], rows: list[tuple[Any, ...]], most: int, target: IO[bytes]) -> int:
    """A table; where the terminal is too narrow for the columns, a line a value."""
    from io import StringIO

    from rich.console import Console

    width, shown = shutil.get_terminal_size().columns, rows[:most]
    text = StringIO()
    # A terminal behind sys.stdout gets colours as before; a pipe or file gets none.
    console = Console(file=text, width=width, force_terminal=target is sys.stdout.buffer and sys.stdout.isatty())
    if len(names) * _NARROW > width:
        _upright(console, names, shown)
    else:
        _flat(console, names, shown)
    if len(rows) > most:
        console.print(f"... more than {most} rows (--rows, or --format csv)", highlight=False)
    target.write(text.getvalue().encode())
    return len(shown)


def _flat(console: Any, names: list[str], rows: list[tuple[Any, ...]]) -> None:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(*map(escape, names))
    for row in rows:
        table.add_row(*(Text("" if value is None else cell(value)) for value in row))
    console.print(table)


def _upright(console: Any, names: list[str], rows: list[tuple[Any, ...]]) -> None:
    widest = max(map(len, names))
    for number, row in enumerate(rows, 1):
        console.print(f"-- row {number}", highlight=False, markup=False)
        for name, value in zip(names, row, strict=True):
            told = "" if value is None else cell(value)
            console.print(f"{name:>{widest}}  {told}", highlight=False, markup=False, soft_wrap=True)


def cell(value: Any) -> str:
    """A value in a table. Nine digits: a tick of 0.01 shows in a price of a million."""
    if isinstance(value, float):
        return f"{value:.9g}"
    return value.hex() if isinstance(value, bytes) else str(value)
