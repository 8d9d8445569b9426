"""``hedgeflow backfill``: the same features from what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Config, Models, settings_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]hedgeflow backfill --from hedgeflow-demo/lake --to again --compare[/bold]")(
        backfill
    )


def backfill(
    source: Annotated[Path, typer.Option("--from", help="A lake whose raw tables are read.")],
    target: Annotated[Path, typer.Option("--to", help="An empty lake for the computed tables.")],
    models: Models = None,
    compare: Annotated[bool, typer.Option(help="Count the rows that differ from the source's own tables.")] = False,
    config: Config = None,
) -> None:
    """Run the stages over a lake's raw events, in the log's order; with --models up to the signals.

    With --compare, exits with 8 when a row differs in a single bit.
    """
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from pipeline.backfill import backfill as run
    from pipeline.compare import compare as compare_tables
    from pipeline.lake import Lake, require_lake
    from pipeline.raw_reader import read_log

    settings = settings_of(config, models=models)
    origin = require_lake(source)
    with Progress(TextColumn("backfill {task.completed:,.0f} events"), TimeElapsedColumn(), transient=True) as bar:
        task = bar.add_task("backfill", total=None)
        result = run(
            read_log(source),
            Lake(target),
            settings,
            with_signals=models is not None,
            progress=lambda events: bar.update(task, completed=events),
        )
    rows = ", ".join(f"{count:,} {name}" for name, count in result.rows.items())
    typer.echo(f"{result.events:,} events -> {rows}; {sum(result.rejects.values()):,} rejected")
    if compare:
        found = [compare_tables(origin, Lake(target), name) for name in result.rows]
        for each in found:
            typer.echo(f"{each.table}: {each.left:,} rows there, {each.right:,} here, differing {each.differing}")
        if any(each.differing for each in found):
            raise typer.Exit(8)
