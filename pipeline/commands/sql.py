"""``hedgeflow sql``: DuckDB over the lake."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from pipeline.commands.options import Config, LakePath, settings_of


class Format(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog='Example: [bold]hedgeflow sql "select underlying, regime, count(*) from signals group by all"[/bold]'
    )(sql)


def sql(
    query: Annotated[str, typer.Argument(help="SQL over the views; without one, the views are listed.")] = "",
    lake: LakePath = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,
    rows: Annotated[int, typer.Option(help="Print at most this many rows of a table.")] = 40,
    config: Config = None,
) -> None:
    """Query the lake: book, trades, options, features, universe, signals, decisions, fills, dead_letters ..."""
    import duckdb

    from features.errors import BadInputError
    from pipeline.query import open_lake

    settings = settings_of(config, lake=lake)
    with open_lake(settings.lake) as connection:
        try:
            answer = connection.sql(query or _VIEWS)
        except duckdb.Error as error:
            raise BadInputError(
                f"DuckDB says: {str(error).splitlines()[0]}", "`hedgeflow sql` without a query lists the views."
            ) from error
        if answer is not None:
            _print(answer.columns, answer.fetchall(), output, rows)


_VIEWS = "SELECT view_name AS view, column_count AS columns, comment FROM duckdb_views() WHERE NOT internal ORDER BY 1"


def _print(names: list[str], values: list[tuple[Any, ...]], output: Format, most: int) -> None:
    if output is Format.CSV:
        import csv

        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(values)
    elif output is Format.JSON:
        import msgspec

        records = [dict(zip(names, row, strict=True)) for row in values]
        typer.echo(msgspec.json.encode(records, enc_hook=str).decode())
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(*names)
        for row in values[:most]:
            table.add_row(*("" if value is None else _cell(value) for value in row))
        Console().print(table)
        if len(values) > most:
            typer.echo(f"... {len(values) - most} more rows (--rows, or --format csv)")


def _cell(value: Any) -> str:
    # Nine digits: a tick of 0.01 shows in a price of a million.
    return f"{value:.9g}" if isinstance(value, float) else str(value)
