"""``hedgeflow backfill``: the same features from what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.counting import counting
from pipeline.commands.increments import IncrementsOption, increments_of
from pipeline.commands.options import Config, Models, settings_of
from pipeline.commands.rejected import told

_NO_ROWS = "No bar closed: option quotes alone make none, and a bar closes with the first event beyond its end."
_NO_EVENTS = "Nothing was read: a lake needs its raw tables (book, trades ...), a recording rows that can be used."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]hedgeflow backfill --from hedgeflow-demo/lake --to again --compare[/bold]; "
        "[bold]hedgeflow backfill --from book.csv.gz --from trades.csv.gz --to lake[/bold]"
    )(backfill)


def backfill(
    source: Annotated[
        list[Path],
        typer.Option("--from", help="A lake, whose raw tables are read; or a recording as in replay. Repeatable."),
    ],
    target: Annotated[Path, typer.Option("--to", help="An empty lake for the computed tables.")],
    models: Models = None,
    compare: Annotated[bool, typer.Option(help="Count the rows that differ from the source's own tables.")] = False,
    portfolio: Annotated[
        Path | None,
        typer.Option(
            "--portfolio", help="Whose own activity a lake's decision log gives, as JSON.", show_default=False
        ),
    ] = None,
    increment: IncrementsOption = None,
    config: Config = None,
) -> None:
    """Run the stages over raw events, in the log's order; with --models up to the signals.

    With --portfolio, the features of our own activity are computed from the lake's decision log, too.

    The events are a lake's, or those that recordings give. With --compare (of a lake), exits with 8 when a row differs
    in a single bit.
    """
    from collections import Counter

    from pipeline.backfill import backfill as run
    from pipeline.compare import compare as compare_tables
    from pipeline.lake import Lake

    settings = settings_of(config, models=models, portfolio=portfolio)
    refused: Counter[str] = Counter()
    origin, events = _opened(source, increments_of(increment), refused, compare)
    with counting("backfill", "events") as show:
        result = run(events, Lake(target), settings, with_signals=models is not None, progress=show)
    if origin is not None and portfolio is not None:
        from pipeline.backfill_own_activity import backfill_own_activity

        result.rows += backfill_own_activity(origin, Lake(target), settings).rows
    rows = ", ".join(f"{count:,} {name}" for name, count in result.rows.items())
    typer.echo(f"{result.events:,} events -> {rows or 'no rows'}; rejected {told(refused + result.rejects)}")
    if not result.rows:
        typer.echo(_NO_ROWS if result.events else _NO_EVENTS)
    if origin is not None and compare:
        found = [compare_tables(origin, Lake(target), name) for name in result.rows]
        for each in found:
            typer.echo(f"{each.table}: {each.left:,} rows there, {each.right:,} here, differing {each.differing}")
        if any(each.differing for each in found):
            raise typer.Exit(8)


def _opened(paths: list[Path], increments: dict[str, tuple[str, str]], refused: Any, compare: bool) -> tuple[Any, Any]:
    """The lake that is read, None if it is files, and the events."""
    from features.errors import BadInputError, ConfigError
    from pipeline.lake import LakeError, require_lake
    from pipeline.raw_reader import read_log
    from pipeline.sources.open_files import open_source
    from pipeline.sources.stamped import stamped

    if missing := [path for path in paths if not path.exists()]:
        raise BadInputError(f"{missing[0]} does not exist.", "Check --from.")
    if len(paths) == 1 and paths[0].is_dir():
        try:
            return require_lake(paths[0]), read_log(paths[0])
        except LakeError as error:
            raise BadInputError(f"{paths[0]} is a folder, and no lake.", "Name its files, each with --from.") from error
    if compare:
        raise ConfigError("Recordings have no tables to compare with.", "Leave out --compare, or name one lake.")

    def count(reject: Any) -> None:
        refused[reject.reason] += 1

    return None, stamped(open_source(paths, increments=increments, on_reject=count), refused)
