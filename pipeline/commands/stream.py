"""``hedgeflow stream``: the workers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from features.errors import HedgeflowError
from pipeline.commands import stream_messages
from pipeline.commands.options import Bootstrap, Config, LakePath, Models, Partitions, settings_of
from pipeline.commands.until_signal import run_until_signal

app = typer.Typer(help="Run the streaming workers.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Run the streaming workers."""


@app.command(
    epilog="Examples: [bold]hedgeflow stream run features --bootstrap localhost:9092[/bold]; "
    "[bold]hedgeflow stream run features universe signals decisions[/bold]; "
    "[bold]hedgeflow stream run lake --lake ./lake[/bold]"
)
def run(
    stages: Annotated[
        list[str],
        typer.Argument(help="features | universe | signals | decisions | own | lake; several are chained in order."),
    ],
    bootstrap: Bootstrap = None,
    lake: LakePath = None,
    models: Models = None,
    portfolio: Annotated[
        Path | None, typer.Option("--portfolio", help="What the decisions stage hedges, as JSON.")
    ] = None,
    partitions: Partitions = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when the process that started this one ends.")
    ] = False,
    config: Config = None,
) -> None:
    """Run one stage, or several in one process, until Ctrl-C or SIGTERM; it then finishes, checkpoints and leaves.

    Killed with -9 instead, it goes on from its last checkpoint when it is started again: nothing is lost, nothing
    counts twice. Chained stages hand rows on in memory: features universe signals decisions is the quickest way from an
    event to a decision.
    """
    from pipeline.logging import configure_logging
    from pipeline.worker_specs import make_worker

    settings = settings_of(
        config, bootstrap=bootstrap, lake=lake, models=models, portfolio=portfolio, partitions=partitions
    )
    configure_logging(settings, stage="-".join(stages))
    worker = make_worker(stages, settings)
    try:
        interrupted = run_until_signal(worker, with_parent=with_parent)
    except HedgeflowError as error:
        if worker.stuck:
            typer.echo(f"hedgeflow: {error}", err=True)
            os._exit(error.exit_code)
        raise
    if interrupted:
        raise typer.Exit(130)


stream_messages.register(app)
