"""``hedgeflow sql``: DuckDB over the lake, one query or a shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.commands.options import Config, LakePath, settings_of

if TYPE_CHECKING:
    from features.catalog import Catalogue

Formats = Literal["table", "csv", "json", "jsonl", "parquet"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog='Example: [bold]hedgeflow sql "select underlying, regime, count(*) from signals group by all"[/bold]. '
        "Queries to start from: docs/queries.md."
    )(sql)


def sql(
    query: Annotated[str, typer.Argument(help="SQL over the views; without one, a shell.")] = "",
    lake: LakePath = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Read the lake as committed by then: ISO 8601, or ns since 1970.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the answer into this file.")] = None,
    form: Annotated[
        Formats | None,
        typer.Option("--format", help="How to write the answer; else by the file's name.", show_default="table"),
    ] = None,
    rows: Annotated[int, typer.Option(help="Show at most this many rows of a table.")] = 40,
    config: Config = None,
) -> None:
    """Query the lake: book, trades, options, features, universe, signals, decisions, fills, dead_letters ...

    Without a query: a shell on a terminal; else SQL is read from standard input.
    """
    from pipeline.query import open_lake
    from pipeline.query_output import Format, format_of
    from pipeline.sql_shell import VIEWS, Shell

    settings = settings_of(config, lake=lake)
    wanted = format_of(None if form is None else Format(form), output)
    interactive = not query and sys.stdin.isatty()
    if wanted is Format.PARQUET and output is None and sys.stdout.isatty():
        raise _bad("Parquet is binary and would spoil the terminal.", "Name a file: --output FILE.")
    if interactive and output is not None:
        raise _bad("A shell writes no --output.", "Give the query as an argument, or through a pipe.")
    text = query or ("" if interactive else sys.stdin.read())
    with open_lake(settings.lake, as_of=as_of, catalogue=_catalogue(settings)) as connection:
        if interactive:
            Shell(connection, wanted, rows).run(f"{settings.lake}" + (f" as of {as_of}" if as_of else ""))
        else:
            _once(connection, text if text.strip() else VIEWS, wanted, output, rows)


def _once(connection: Any, query: str, form: Any, output: Path | None, rows: int) -> None:
    import duckdb

    from pipeline.query_cancel import cancellable
    from pipeline.sql_shell import problem

    try:
        cancellable(connection, lambda: _answer(connection, query, form, output, rows))
    except duckdb.Error as error:
        raise _bad(f"DuckDB says: {problem(error)}", "`hedgeflow sql` without a query shows tables.") from error


def _answer(connection: Any, query: str, form: Any, output: Path | None, rows: int) -> None:
    from pipeline.query_output import Format, opened, write_answer, write_parquet

    if form is Format.PARQUET:
        relation = connection.sql(query)
        if relation is not None:
            with opened(output) as target:
                write_parquet(relation, target)
    elif connection.execute(query).description:
        with opened(output) as target:
            write_answer(connection, form, target, rows)


def _catalogue(settings: Any) -> Catalogue:
    """A user's own features say what their columns mean; one that cannot be loaded keeps nobody from a query."""
    from features.catalog import STANDARD
    from features.errors import ConfigError
    from pipeline.user_features import catalogue_of

    try:
        return catalogue_of(settings)
    except ConfigError as error:
        typer.echo(f"hedgeflow: own features are not described: {error.problem}", err=True)
        return STANDARD


def _bad(problem: str, remedy: str) -> Exception:
    from features.errors import BadInputError

    return BadInputError(problem, remedy)
